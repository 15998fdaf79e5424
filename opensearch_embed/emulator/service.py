"""What the service answers to a request: the checks of its documentation, and its bodies.

This file knows what a request and a reply look like, and nothing of sockets, faults or how vectors are made.
"""

import re
import uuid
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson

from opensearch_embed.emulator.journal import Record
from opensearch_embed.emulator.vectors import Floats
from opensearch_embed.models import INPUT_TYPES, MAX_BODY_BYTES, MAX_TEXTS_PER_REQUEST, InputType

# A request through a proxy has the host in front.
PATH = re.compile(
    r"(https?://[^/]+)?/v3/openapi/workspaces/(?P<workspace>[^/?]+)/text-embedding/(?P<model>[^/?]+)(\?.*)?"
)
FIELDS = {"input", "input_type"}

MESSAGES = {
    "InvalidParameter": "A parameter is missing or wrong.",
    "ServiceIdNotExist": "The service id does not exist.",
    "Throttling": "Too many requests.",
    "Throttling.RateQuota": "Requests rate limit exceeded, please try again later.",
    "Throttling.AllocationQuota": "Allocated quota exceeded, please increase your quota limit.",
    "InternalServerError": "An internal error has occurred, please try again later or contact service support.",
}
CODES = {400: "InvalidParameter", 429: "Throttling.RateQuota", 500: "InternalServerError"}
"""The documented statuses, and the code that each most often has. How a body of another status looks is not known."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes:
        status: HTTP status.
        body: The whole body.
        headers: Besides the length.
        error: Code and message of the service, where the body says these.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json;charset=utf-8"})
    error: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What an acceptable request asks for."""

    texts: list[str]
    input_type: InputType
    model: str


class Refused(Exception):
    """A request is not acceptable; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def find_model(path: str) -> str:
    """Return the service id in the path, or refuse as a gateway would: the service is never reached."""
    found = PATH.fullmatch(path)
    if found is None:
        raise Refused(gateway_reply(404, "Not Found"))
    return found["model"]


def check_method(method: str) -> None:
    """Refuse what is no POST, as a gateway would."""
    if method != "POST":
        raise Refused(gateway_reply(405, "Method Not Allowed"))


def check_key(authorization: str, api_key: str) -> None:
    """Refuse a request without the right key. Neither key is in the answer."""
    if authorization != f"Bearer {api_key}":
        raise Refused(error_reply(401, "Unauthorized", "The header 'Authorization: Bearer <key>' is missing or wrong."))


def check_workspace(path: str, workspace: str | None) -> None:
    """Refuse another workspace than the one that the key is valid for, if there is one."""
    found = PATH.fullmatch(path)
    if workspace is not None and found is not None and unquote(found["workspace"]) != workspace:
        raise Refused(error_reply(403, "Forbidden", "The key is not valid for this workspace."))


def read_job(record: Record, size: int, model: str, models: Mapping[str, int]) -> Job:
    """Check everything that is documented of a request's content."""
    body = read_body(record, size, FIELDS)
    if model not in models:
        raise unknown_model(model)
    input_type = body.get("input_type", "document")
    if input_type not in INPUT_TYPES:
        raise invalid(f"input_type must be one of {', '.join(INPUT_TYPES)}.")
    return Job(read_texts(body.get("input")), input_type, model)


def read_body(record: Record, size: int, fields: Set[str]) -> dict[str, Any]:
    """Return a request's parameters, which are no others than `fields`."""
    if size > MAX_BODY_BYTES:
        raise Refused(gateway_reply(413, "Request Entity Too Large"))
    if record.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise invalid("The header Content-Type must be application/json.")
    if not isinstance(record.body, dict):
        raise invalid("The body must be a JSON object.")
    if unknown := set(record.body) - fields:
        raise invalid(f"Unknown parameters: {', '.join(sorted(unknown))}.")
    return record.body


def read_texts(given: Any) -> list[str]:
    """Check the texts themselves."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise invalid("input must be a string or an array of strings.")
    if not 1 <= len(texts) <= MAX_TEXTS_PER_REQUEST:
        raise invalid(f"input must have 1 to {MAX_TEXTS_PER_REQUEST} strings, not {len(texts)}.")
    if "" in texts:
        raise invalid(f"input[{texts.index('')}] must not be an empty string.")
    return texts


def invalid(message: str) -> Refused:
    """Refuse a parameter."""
    return Refused(error_reply(400, "InvalidParameter", message))


def unknown_model(model: str) -> Refused:
    """Refuse a service id."""
    return Refused(error_reply(400, "ServiceIdNotExist", f"Service id {model} does not exist."))


def count_tokens(text: str) -> int:
    """Estimate a text's tokens, about as most tokenizers count: four letters of English, a character of Chinese."""
    return -(-len(text.encode()) // 4)


def success_reply(vectors: Floats, order: list[int], tokens: int, latency_ms: float) -> Reply:
    """Answer with the rows of `vectors` that `order` names, in that order."""
    embeddings = [{"index": index, "embedding": vectors[index]} for index in order]
    answer = {**_envelope(latency_ms), "usage": {"token_count": tokens}, "result": {"embeddings": embeddings}}
    return Reply(200, orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


def error_reply(status: int, code: str, message: str | None = None) -> Reply:
    """Answer with an error in the documented form."""
    if message is None:
        message = MESSAGES.get(code, code)
    body = orjson.dumps({**_envelope(0), "code": code, "message": message})
    return Reply(status, body, error=(code, message))


def gateway_reply(status: int, reason: str) -> Reply:
    """Answer with a page, as what stands before a service does when it never gets there."""
    title = f"{status} {reason}".strip()
    page = f"<html>\n<head><title>{title}</title></head>\n<body><center><h1>{title}</h1></center></body>\n</html>\n"
    return Reply(status, page.encode(), {"Content-Type": "text/html"})


def _envelope(latency_ms: float) -> dict[str, str | float]:
    """What every answer of the service begins with."""
    return {"request_id": str(uuid.uuid4()).upper(), "latency": round(latency_ms, 3)}
