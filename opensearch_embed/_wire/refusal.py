"""What a refusal means: status, headers and body become the error that says so.

The body's code decides which error it is, then the status. This file opens no connection and reads no clock.
"""

import datetime
import email.utils
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opensearch_embed._wire.conceal import Conceal, excerpt, on_one_line
from opensearch_embed.errors import (
    ApiError,
    AuthenticationError,
    InvalidRequest,
    QuotaExhausted,
    RateLimited,
    ServiceUnavailable,
)

ERRORS_BY_CODE: dict[str, type[ApiError]] = {
    "InvalidParameter": InvalidRequest,
    "ServiceIdNotExist": InvalidRequest,
    "Throttling": RateLimited,
    "Throttling.RateQuota": RateLimited,
    "Throttling.AllocationQuota": RateLimited,
    "InternalServerError": ServiceUnavailable,
}
"""The documented codes."""

FREE_QUOTA = re.compile(r"\bfree\b(?!\s+to\b).{0,40}\bquota\b|\bquota\b.{0,40}\bfree\b(?!\s+to\b)|免费", re.IGNORECASE)
"""What the message of an exhausted free quota says; its code is that of any other quota."""

ADVICE: dict[type[ApiError], str] = {
    AuthenticationError: "Check OPENSEARCH_API_KEY, and that it belongs to this workspace and endpoint.",
    InvalidRequest: "The same request would be refused again: check model, workspace, endpoint and texts.",
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


def refusal(reply: Reply, content: Mapping[str, Any], body: bytes, conceal: Conceal = on_one_line) -> ApiError:
    """Return the error for a reply that says no.

    Args:
        reply: What came back.
        content: Its body as JSON; empty where it is none.
        body: Its body, decompressed.
        conceal: Blanks secrets in words that came from outside.
    """
    # The service writes request_id; gateways of the same vendor write RequestId.
    said = {name.lower().replace("_", ""): value for name, value in content.items()}
    code, message, request_id = (as_text(said.get(name), conceal) for name in ("code", "message", "requestid"))
    message = message or excerpt(body.decode("utf-8", "replace"), conceal)
    raw = said.get("code")
    kind = error_class(reply.status, raw if isinstance(raw, str) else code, message)
    facts = [f"HTTP {reply.status}", code, f"request_id {request_id}" if request_id else None]
    reason = f"{message.rstrip('.')}." if message else "it gave no reason."
    return kind(
        f"The service said no ({', '.join(filter(None, facts))}): {reason} {_advice(kind, reply)}".strip(),
        status=reply.status,
        code=code,
        message=message,
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
        return QuotaExhausted if "AllocationQuota" in code and FREE_QUOTA.search(message) else RateLimited
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
            date = email.utils.parsedate_to_datetime(value)
            # HTTP dates are in GMT, also where they do not say so.
            date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
            seconds = date.timestamp() - reply.received_at
        except (ValueError, OverflowError):
            return None
        seconds = max(0.0, seconds)
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def as_text(value: Any, conceal: Conceal) -> str | None:
    """Return a scalar from outside as text, fit to be shown."""
    return None if value is None or isinstance(value, (dict, list)) else excerpt(str(value), conceal)


def named(indices: Sequence[int]) -> str:
    """Name texts by their indices, in words for an error."""
    if len(indices) > 2 and indices[-1] - indices[0] == len(indices) - 1:
        return f"texts[{indices[0]}] to texts[{indices[-1]}]"
    shown = [f"texts[{index}]" for index in indices[:10]]
    return ", ".join(shown) + (f" and {len(indices) - 10} more" if len(indices) > 10 else "")
