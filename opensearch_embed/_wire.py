"""The service's bytes: a batch becomes a request body; status, headers and bytes become vectors or an error.

Everything that knows the wire format lives in this file. It opens no connection, reads no clock and keeps no state.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

import orjson

from opensearch_embed._refusal import Reply, refusal, text_or_none
from opensearch_embed.errors import ResponseError
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST, InputType


@dataclass(frozen=True, slots=True)
class Embedded:
    """A reply understood: one vector a text, in the order of the request's texts."""

    vectors: list[list[float]] = field(repr=False)
    tokens: int


def request_path(workspace: str, service_id: str) -> str:
    """Return the path of the text-embedding API."""
    return f"/v3/openapi/workspaces/{quote(workspace, safe='')}/text-embedding/{quote(service_id, safe='')}"


def encode_request(texts: Sequence[str], input_type: InputType) -> bytes:
    """Return the request body."""
    return orjson.dumps({"input": texts, "input_type": input_type})


def max_reply_bytes(dimension: int) -> int:
    """Return how large an honest reply can be, generously: a number takes up to 25 bytes and a comma."""
    return 1_000_000 + MAX_TEXTS_PER_REQUEST * dimension * 32


def decode_reply(reply: Reply, *, expected: int, dimension: int) -> Embedded:
    """Return the vectors of a reply in the order of the request's texts.

    Args:
        reply: What came back.
        expected: How many texts were sent.
        dimension: How many numbers each vector has.

    Raises:
        ApiError: The service said no (the body's code decides which error, then the status).
        ResponseError: The service said yes, but its answer cannot be used.
    """
    succeeded = 200 <= reply.status < 300
    if succeeded and not reply.complete:
        raise ResponseError(f"The service's answer was cut short after {len(reply.body):,} bytes.")
    try:
        body = _decompressed(reply, max_reply_bytes(dimension))
    except ResponseError:
        if succeeded:
            raise
        body = b""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if succeeded:
            what = f"not JSON ({error.msg} at byte {error.pos})" if body else "an empty body"
            raise ResponseError(f"The service answered {reply.status} with {what}.") from error
        payload = None
    content = payload if isinstance(payload, dict) else {}
    if not succeeded or ("result" not in content and content.get("code") is not None):
        raise refusal(reply, content, body)
    request_id = text_or_none(content.get("request_id"))
    try:
        return _embedded(content, expected, dimension)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ResponseError(
            f"The service answered {reply.status}, but {what}{_named(request_id)}.", request_id=request_id
        ) from error


def _embedded(content: dict[str, Any], expected: int, dimension: int) -> Embedded:
    items = content["result"]["embeddings"]
    if not isinstance(items, list):
        raise TypeError("result.embeddings is not an array")
    vectors: list[list[float] | None] = [None] * expected
    for item in items:
        index = item["index"]
        if type(index) is not int or not 0 <= index < expected:
            raise ValueError(f"an index is {_brief(index)} where 0 to {expected - 1} belong")
        if vectors[index] is not None:
            raise ValueError(f"index {index} comes twice")
        vectors[index] = _vector(item["embedding"], index, dimension)
    if None in vectors:
        raise ValueError(f"it sent {len(items)} vectors for {expected} texts: index {vectors.index(None)} is missing")
    usage = content.get("usage")
    tokens = usage.get("token_count") if isinstance(usage, dict) else None
    return Embedded(cast("list[list[float]]", vectors), tokens if type(tokens) is int else 0)


def _vector(numbers: Any, index: int, dimension: int) -> list[float]:
    if not isinstance(numbers, list):
        raise TypeError(f"the embedding of index {index} is not an array")
    if len(numbers) != dimension:
        raise ValueError(f"the embedding of index {index} has {len(numbers)} numbers where {dimension} belong")
    kinds = set(map(type, numbers))
    if kinds != {float}:
        if not kinds <= {float, int}:
            raise TypeError(f"the embedding of index {index} holds something that is not a number")
        numbers = list(map(float, numbers))
    # One sum finds a number that is not finite; a sum of finite ones may overflow, so then look at each.
    if not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
        raise ValueError(f"the embedding of index {index} holds a number that is not finite")
    return cast("list[float]", numbers)


def _decompressed(reply: Reply, limit: int) -> bytes:
    """Undo gzip or deflate; a body that grows past `limit` is a bomb, not a reply."""
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return reply.body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ResponseError(f"The service compressed its answer as {_brief(encoding)}, which was not asked for.")
    try:
        # 47 is: find out whether the header is gzip's or zlib's.
        inflater = zlib.decompressobj(47)
        body = inflater.decompress(reply.body, limit)
    except zlib.error as error:
        raise ResponseError(f"The service's compressed answer is damaged: {error}.") from error
    if inflater.unconsumed_tail:
        raise ResponseError(f"The service's compressed answer grows past {limit:,} bytes.")
    if not inflater.eof:
        raise ResponseError("The service's compressed answer is cut short.")
    return body


def _brief(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def _named(request_id: str | None) -> str:
    return f" (request_id {request_id})" if request_id else ""
