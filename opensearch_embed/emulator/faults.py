"""What the emulator does wrong, on request: failures and broken connections, in the order asked for, or by chance."""

import asyncio
import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Literal, get_args

from multidict import CIMultiDict

from opensearch_embed.emulator.service import CODES, Reply, error_reply, gateway_reply

BreakKind = Literal["drop", "cut", "short", "garbled", "hang", "trickle", "trickle_head"]
Fault = Reply | BreakKind

TRICKLE_SECONDS = 0.05
"""Between two bytes of a trickle: often enough that no client sees a silence, far too slow for any answer to end."""


class Faults:
    """A queue of faults, each for one request; while it is empty, `rate` of the requests get one of `kinds`.

    Args:
        rate: Share of the requests, 0 to 1.
        kinds: Statuses as text ("429") and breaks ("cut"), all equally likely.
        seed: Of the chance.
    """

    def __init__(self, rate: float, kinds: Sequence[str], seed: int) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"fault_rate must be from 0 to 1, not {rate!r}.")
        self._rate = rate
        self._kinds = [make_failure(int(kind)) if kind.isdecimal() else check_break(kind) for kind in kinds]
        self._random = random.Random(seed)
        self._queue: deque[Fault] = deque()
        self._lock = threading.Lock()

    def add(self, fault: Fault, times: int) -> None:
        """Queue `fault` for `times` requests."""
        if times < 1:
            raise ValueError(f"times must be 1 or more, not {times!r}.")
        with self._lock:
            self._queue.extend([fault] * times)

    def take(self) -> Fault | None:
        """Return the fault of the next request; `None` for an honest answer."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            return self._random.choice(self._kinds) if self._random.random() < self._rate else None

    def clear(self) -> None:
        """Forget the queue."""
        with self._lock:
            self._queue.clear()


def check_break(kind: str) -> BreakKind:
    """Return `kind` if there is such a break.

    Raises:
        ValueError: There is not.
    """
    kinds: tuple[BreakKind, ...] = get_args(BreakKind)
    for known in kinds:
        if kind == known:
            return known
    raise ValueError(f"There is no break {kind!r}. There are: {', '.join(kinds)}.")


def make_failure(
    status: int,
    code: str | None = None,
    message: str | None = None,
    body: str | bytes | None = None,
    retry_after: float | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Build the reply of `Emulator.fail_next`."""
    code = code or CODES.get(status)
    if body is not None:
        raw = body.encode() if isinstance(body, str) else body
        reply = Reply(status, raw, {"Content-Type": "text/html" if raw.startswith(b"<") else "application/json"})
    elif code is not None:
        reply = error_reply(status, code, message)
    else:
        reply = gateway_reply(status, _reason(status))
    merged = CIMultiDict(reply.headers)
    if retry_after is not None:
        merged["Retry-After"] = str(retry_after)
    merged.update(headers or {})
    return replace(reply, headers=merged)


async def break_connection(transport: asyncio.Transport, reply: Reply, kind: BreakKind) -> None:
    """Do to the connection what `kind` says, with `reply` as what should have been sent.

    "short" and "garbled" are wrong in the reply alone: the connection is left as it is.
    """
    head, body = _head(reply), reply.body
    if kind in ("short", "garbled"):
        return
    if kind == "hang":
        await asyncio.Event().wait()  # until the client leaves or the server stops
    if kind == "cut":
        transport.write(head + body[: len(body) // 2])
    if kind == "trickle":
        transport.write(head)
        await _trickle(transport, body)
    if kind == "trickle_head":
        await _trickle(transport, head + body)
    transport.close()


async def _trickle(transport: asyncio.Transport, raw: bytes) -> None:
    for byte in raw:
        transport.write(bytes([byte]))
        await asyncio.sleep(TRICKLE_SECONDS)


def _head(reply: Reply) -> bytes:
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    lines = [
        f"HTTP/1.1 {reply.status} {_reason(reply.status)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _reason(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
