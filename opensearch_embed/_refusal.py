"""What a refusal means: status, headers and body become the error that says so, without secrets.

The body's code decides which error it is, then the status. This file opens no connection and reads no clock.
"""

import email.utils
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from opensearch_embed.errors import (
    ApiError,
    AuthenticationError,
    InvalidRequest,
    OpenSearchEmbedError,
    QuotaExhausted,
    RateLimited,
    ServiceUnavailable,
)

EXCERPT_CHARS = 300
"""As much of a foreign message or body as goes into an error."""

ERRORS_BY_CODE: dict[str, type[ApiError]] = {
    "InvalidParameter": InvalidRequest,
    "ServiceIdNotExist": InvalidRequest,
    "Throttling": RateLimited,
    "Throttling.RateQuota": RateLimited,
    "Throttling.AllocationQuota": RateLimited,
    "InternalServerError": ServiceUnavailable,
}
"""The documented codes."""

ADVICE: dict[type[ApiError], str] = {
    AuthenticationError: "Check OPENSEARCH_API_KEY, and that it belongs to this workspace and endpoint.",
    RateLimited: "Lower qps, share one limiter between processes, or ask for a higher quota.",
    QuotaExhausted: "Switch billing on for the account, or wait for the next free quota.",
    ServiceUnavailable: "The fault is the service's: run the pending texts again later.",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: nothing of it is interpreted yet.

    Attributes:
        status: HTTP status.
        headers: Response headers, names in lower case.
        body: The bytes as sent; still compressed where `content-encoding` says so.
        complete: Whether the body came whole; a connection that dies in the middle leaves a part of it.
        received_at: Wall clock when the headers came, in seconds since 1970: a `Retry-After` date is compared with it.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    complete: bool = True
    received_at: float = 0.0


def refusal(reply: Reply, content: dict[str, Any], body: bytes) -> ApiError:
    """Return the error for a reply that says no.

    Args:
        reply: What came back.
        content: Its body as JSON; empty where it is none.
        body: Its body, decompressed.
    """
    code = text_or_none(content.get("code"))
    message = text_or_none(content.get("message")) or (_excerpt(body) if not content else "")
    request_id = text_or_none(content.get("request_id"))
    kind = error_class(reply.status, code, message)
    shown = message[:EXCERPT_CHARS]
    facts = [f"HTTP {reply.status}", code, f"request_id {request_id}" if request_id else None]
    words = [
        f"The service said no ({', '.join(filter(None, facts))}):",
        shown or "it gave no reason.",
        _advice(kind, reply),
    ]
    return kind(
        " ".join(filter(None, words)),
        status=reply.status,
        code=code,
        message=shown,
        request_id=request_id,
        retry_after=retry_after(reply),
    )


def _advice(kind: type[ApiError], reply: Reply) -> str:
    if 300 <= reply.status < 400:
        return "Redirects are not followed, since the key must not travel to another host: check the endpoint."
    return ADVICE.get(kind, "")


def error_class(status: int, code: str | None, message: str = "") -> type[ApiError]:
    """Return the error that says what happened: the code decides, then the status."""
    if code and code.startswith("Throttling"):
        free = "free" in message.lower() or "免费" in message
        return QuotaExhausted if free and "AllocationQuota" in code else RateLimited
    if code in ERRORS_BY_CODE:
        return ERRORS_BY_CODE[code]
    if status in (401, 403):
        return AuthenticationError
    if status == 429:
        return RateLimited
    if 400 <= status < 500:
        return InvalidRequest
    return ServiceUnavailable if status >= 500 else ApiError


def retry_after(reply: Reply) -> float | None:
    """Return the seconds that the reply asks to wait, given as seconds or as a date; `None` where it does not ask."""
    value = reply.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - reply.received_at
        except (ValueError, OverflowError):
            return None
        seconds = max(0.0, seconds)
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def redact(error: OpenSearchEmbedError, secret: str, texts: Sequence[str] = ()) -> OpenSearchEmbedError:
    """Blank the key and whole texts in what a server sent back; return the error without the frames that saw it."""

    def clean(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if secret:
            value = value.replace(secret, "***")
        for text in texts:
            # A short text is no secret to guard, and blanking "a" would garble every word.
            if len(text) >= 8:
                value = value.replace(text, "[text]").replace(orjson.dumps(text).decode()[1:-1], "[text]")
        return value

    error.args = tuple(map(clean, error.args))
    for name, value in vars(error).items():
        setattr(error, name, clean(value))
    cause = error.__cause__
    if cause is not None:
        cause.with_traceback(None)
        if isinstance(cause, orjson.JSONDecodeError):
            cause.doc = ""
        cause.args = tuple(map(clean, cause.args))
    return error.with_traceback(None)


def text_or_none(value: Any) -> str | None:
    """Return a scalar as text, cut to a sane length."""
    return str(value)[: 10 * EXCERPT_CHARS] if value is not None and not isinstance(value, (dict, list)) else None


def _excerpt(body: bytes) -> str:
    return " ".join(body[: 10 * EXCERPT_CHARS].decode("utf-8", "replace").split())
