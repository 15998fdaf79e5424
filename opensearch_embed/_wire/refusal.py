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

TEMPORARY = {408, 421, 425, 499}
"""Statuses below 500 that say nothing of the request: it was late, on a wrong connection, early, or given up."""

MAXIMUM = re.compile(
    r"(?:at most|max(?:imum)?|(?:larger|greater|more|less|fewer|longer) than|exceed\w*|up to|limit\w*|[<>]=?"
    r"|\d\s*(?:to|-|~)|最多|最大|超过|上限)[^\d.]{0,40}(\d{1,2})(?!\d|\.\d|\s*(?:[kmg]i?b\b|%|tokens?\b|char|bytes?\b|seconds?\b))",
    re.IGNORECASE,
)
"""A small number that a message names as a limit, and that counts nothing else than texts."""

KEY_VARIABLE = "OPENSEARCH_API_KEY"
"""Where the key comes from, as far as this room knows."""

PAGE_ADVICE = (
    "This is a web page and not the service's answer: a firewall, proxy or gateway between may have refused the "
    "request. Ask whoever runs it, and check the endpoint"
)

ADVICE: dict[type[ApiError], str] = {
    AuthenticationError: f"Check {KEY_VARIABLE}, and that it belongs to this workspace and endpoint.",
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


def refusal(
    reply: Reply, content: Mapping[str, Any], body: bytes, conceal: Conceal = on_one_line, *, sent: int = 1
) -> ApiError:
    """Return the error for a reply that says no.

    Args:
        reply: What came back.
        content: Its body as JSON; empty where it is none.
        body: Its body, decompressed.
        conceal: Blanks secrets in words that came from outside.
        sent: How many texts the request held.
    """
    # The service writes request_id; gateways of the same vendor write RequestId.
    said = {name.lower().replace("_", ""): value for name, value in content.items()}
    code, message, request_id = (as_text(said.get(name), conceal) for name in ("code", "message", "requestid"))
    message = message or excerpt(body.decode("utf-8", "replace"), conceal)
    raw = said.get("code")
    kind = error_class(reply.status, raw if isinstance(raw, str) else code, message)
    facts = [f"HTTP {reply.status}", code, f"request_id {request_id}" if request_id else None]
    reason = f"{message.rstrip('.')}." if message else "it gave no reason."
    page = code is None and _is_page(reply, body)
    advice = _advice(kind, reply, page, _smaller_maximum(reply, message, sent))
    error = kind(
        f"The service said no ({', '.join(filter(None, facts))}): {reason} {advice}".strip(),
        status=reply.status,
        code=code,
        message=message,
        request_id=request_id,
        retry_after=retry_after(reply),
    )
    error.is_page = page
    return error


def _is_page(reply: Reply, body: bytes) -> bool:
    """Tell whether a web page came in place of an answer, as firewalls and gateways send."""
    kind = reply.headers.get("content-type", "").lower()
    return "html" in kind or body.lstrip()[:9].lower().startswith((b"<html", b"<!doctype", b"<head", b"<body"))


def _smaller_maximum(reply: Reply, message: str, sent: int) -> int | None:
    """Return the limit that a refusal names, if fewer texts than were sent keep to it."""
    if reply.status not in (400, 413, 422):
        return None
    limits = (int(found[1]) for found in MAXIMUM.finditer(message))
    return next((limit for limit in limits if 1 <= limit < sent), None)


def _advice(kind: type[ApiError], reply: Reply, page: bool, limit: int | None) -> str:
    if 300 <= reply.status < 400:
        return "Redirects are not followed, since the key must not travel to another host: check the endpoint."
    if page and kind is AuthenticationError:
        return f"{PAGE_ADVICE} and the key ({KEY_VARIABLE})."
    if page and kind is InvalidRequest:
        return f"{PAGE_ADVICE}."
    advice = ADVICE.get(kind, "")
    if limit is not None and kind is InvalidRequest:
        advice = f"If {limit} is the most texts that one request may hold, say batch_size={limit}. {advice}"
    return advice


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
    if status >= 500 or status in TEMPORARY:
        return ServiceUnavailable
    return InvalidRequest if status >= 400 else ApiError


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
