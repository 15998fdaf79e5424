"""A reply understood: status, headers and bytes become vectors or an error.

It opens no connection, reads no clock and keeps no state.
"""

import contextlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from opensearch_embed._wire.conceal import Conceal, excerpt, on_one_line
from opensearch_embed._wire.large import BYTE_ORDER_MARK, Unusual, read_large
from opensearch_embed._wire.numbers import as_lists
from opensearch_embed._wire.refusal import Reply, as_text, refusal
from opensearch_embed.errors import ResponseError
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST

ANY_FRAME, NO_FRAME = 47, -zlib.MAX_WBITS
"""What zlib is told: find out whether it is gzip's or zlib's; or there is none."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A reply understood: one vector a text, in the order of the request's texts."""

    vectors: Any = field(repr=False)
    tokens: int


def max_reply_bytes(dimension: int) -> int:
    """Return how large an honest reply can be, generously: a number takes up to 25 bytes and a comma."""
    return 1_000_000 + MAX_TEXTS_PER_REQUEST * dimension * 32


def decode_reply(
    reply: Reply,
    *,
    expected: int,
    dimension: int,
    read: Callable[[list[Any]], Any] = as_lists,
    conceal: Conceal = on_one_line,
) -> Embedded:
    """Return the vectors of a reply in the order of the request's texts.

    Args:
        reply: What came back.
        expected: How many texts were sent.
        dimension: How many numbers each vector has.
        read: Checks the numbers and brings the vectors to the form they are kept in: `as_lists` or `as_array`.
        conceal: Blanks secrets in words of the reply that go into an error.

    Raises:
        ApiError: The service said no (the body's code decides which error, then the status).
        ResponseError: The service said yes, but its answer cannot be used.
    """
    succeeded = 200 <= reply.status < 300
    if succeeded and not reply.complete:
        raise _unusable(f"was cut short after {len(reply.body):,} bytes")
    try:
        body = _decompressed(reply, max_reply_bytes(dimension), conceal)
    except ValueError as error:
        if succeeded:
            raise _unusable(str(error)) from error
        body = b""
    body = body.removeprefix(BYTE_ORDER_MARK)
    if succeeded:
        with contextlib.suppress(Unusual, ValueError):  # whatever is wrong with it is found, and told, below
            return _embedded(read_large(body), expected, dimension, read, conceal)
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if succeeded:
            raise _unusable(f"is not JSON: {error.msg} at byte {error.pos}" if body else "is empty") from error
        payload = None
    content = payload if isinstance(payload, dict) else {}
    if not succeeded or (content.get("result") is None and content.get("code") is not None):
        raise refusal(reply, content, body, conceal, sent=expected)
    try:
        return _embedded(content, expected, dimension, read, conceal)
    except ValueError as error:
        raise _unusable(str(error), as_text(content.get("request_id"), conceal)) from error


def _embedded(
    content: Any, expected: int, dimension: int, read: Callable[[list[Any]], Any], conceal: Conceal
) -> Embedded:
    content = content if isinstance(content, dict) else {}
    return Embedded(read(_in_order(content, expected, dimension, conceal)), _tokens(content))


def _unusable(why: str, request_id: str | None = None) -> ResponseError:
    named = f" (request_id {request_id})" if request_id else ""
    return ResponseError(
        f"The service's answer {why}{named}. If this goes on when the pending texts are run again, the fault is the "
        "service's or a gateway's.",
        request_id=request_id,
    )


def _in_order(content: dict[str, Any], expected: int, dimension: int, conceal: Conceal) -> list[Any]:
    result = content.get("result")
    items = result.get("embeddings") if isinstance(result, dict) else None
    if not isinstance(items, list):
        raise ValueError("has no array result.embeddings")
    vectors: list[Any] = [None] * expected
    for item in items:
        index, vector = (item.get("index"), item.get("embedding")) if isinstance(item, dict) else (None, None)
        if type(index) is not int or not 0 <= index < expected:
            raise ValueError(f"has an index {excerpt(repr(index), conceal)[:40]} where 0 to {expected - 1} belong")
        if vectors[index] is not None:
            raise ValueError(f"has index {index} twice")
        if not isinstance(vector, (list, memoryview)):
            raise ValueError(f"has no array of numbers for index {index}")
        if len(vector) != dimension:
            raise ValueError(f"has {len(vector)} numbers for index {index} where {dimension} belong")
        vectors[index] = vector
    if None in vectors:
        raise ValueError(f"has {len(items)} vectors for {expected} texts: index {vectors.index(None)} is missing")
    return vectors


def _tokens(content: dict[str, Any]) -> int:
    usage = content.get("usage")
    tokens = usage.get("token_count") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and tokens > 0 else 0


def _decompressed(reply: Reply, limit: int, conceal: Conceal) -> bytes:
    """Undo gzip or deflate; a body that grows past `limit` is a bomb, not a reply."""
    encoding = reply.headers.get("content-encoding", "").strip()
    body = reply.body
    # What says that it is compressed, and is JSON all the same, has been decompressed by a gateway already.
    if encoding.lower() in ("", "identity") or body.removeprefix(BYTE_ORDER_MARK).lstrip()[:1] in (b"{", b"["):
        return body
    if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
        raise ValueError(f"is compressed as {excerpt(encoding, conceal)[:40]}, which was not asked for")
    try:
        return _inflated(body, limit)
    except zlib.error as error:
        if encoding.lower() == "deflate":  # which some servers send without the frame that it should have
            with contextlib.suppress(zlib.error):
                return _inflated(body, limit, NO_FRAME)
        raise ValueError(f"is compressed and damaged: {error}") from error


def _inflated(compressed: bytes, limit: int, frame: int = ANY_FRAME) -> bytes:
    """Decompress all members that were sent one after another, as gzip allows."""
    parts: list[bytes] = []
    left = limit
    while compressed.rstrip(b"\0") or not parts:
        inflater = zlib.decompressobj(frame)
        # A byte more than is allowed, since none would mean no limit.
        parts.append(inflater.decompress(compressed, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise ValueError(f"grows past {limit:,} bytes when it is decompressed")
        if not inflater.eof:
            raise ValueError("is compressed and cut short")
        compressed = inflater.unused_data
    return b"".join(parts)
