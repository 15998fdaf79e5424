"""The service's second door, `/compatible-mode/v1/embeddings`: requests and answers in OpenAI's form.

It has no `input_type` (what it embeds is a document), no workspace, and fewer models. Of its errors nothing is
documented: here they have the form that OpenAI's clients read, with the service's own codes.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import replace

import orjson

from opensearch_embed.emulator.journal import Record
from opensearch_embed.emulator.service import (
    Job,
    Reply,
    invalid,
    read_body,
    read_texts,
    unknown_model,
)
from opensearch_embed.emulator.vectors import Floats
from opensearch_embed.models import MODELS

# A request through a proxy has the host in front.
PATH = re.compile(r"(https?://[^/]+)?/compatible-mode/v1/embeddings(\?.*)?")

FIELDS = {"model", "input", "encoding_format"}
"""The last is not documented. OpenAI's own client sends it always, and reads both of its forms."""

SERVED = {"ops-text-embedding-001", "ops-text-embedding-002", "ops-text-embedding-zh-001", "ops-text-embedding-en-001"}
"""The models of the catalogue that this door has."""


def is_compatible(path: str) -> bool:
    """Say whether a request is for this door."""
    return PATH.fullmatch(path) is not None


def read_job(record: Record, size: int, models: Mapping[str, int]) -> Job:
    """Check everything that is documented of a request's content."""
    body = read_body(record, size, FIELDS)
    model = body.get("model")
    if not isinstance(model, str):
        raise invalid("model must be a service id.")
    if model not in models or (model in MODELS and model not in SERVED):
        raise unknown_model(model)
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise invalid("encoding_format must be float or base64.")
    return Job(read_texts(body.get("input")), "document", model)


def success_reply(record: Record, vectors: Floats, order: list[int], tokens: int) -> Reply:
    """Answer with the rows of `vectors` that `order` names, in that order, as the request `record` wants them."""
    packed = record.body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _pack(vectors[index]) if packed else vectors[index]}
        for index in order
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": record.body["model"], "usage": usage}
    return Reply(200, orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


def in_openai_form(reply: Reply) -> Reply:
    """Say an error of the service as OpenAI's clients read it; other replies stay as they are."""
    if reply.error is None:
        return reply
    code, message = reply.error
    kind = {429: "rate_limit_error", 500: "server_error"}.get(reply.status, "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": code}
    return replace(reply, body=orjson.dumps({"error": error}))


def _pack(vector: Floats) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
