"""When the next request may leave: one rate limit for all clients of a process that share endpoint, model and rate.

The arithmetic is pyrate-limiter's. Waiting is done here, in slices, so that a job that stops is not kept waiting.
"""

import math
import os
import threading
import time
from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any, Protocol

from pyrate_limiter import Limiter, Rate, SingleBucketFactory, StateBucket, TokenBucket

from opensearch_embed.errors import ConfigurationError

ITEM = "opensearch-embed"
SLICE_SECONDS = 0.2
SHARE_OF_RATE = 0.98
"""Sent of the rate that the account is given. The rest keeps a server that counts by a sliding window from refusing."""


class Stop(Protocol):
    """`threading.Event` or `asyncio.Event`, as far as both agree."""

    def is_set(self) -> bool:
        """Tell whether the job has stopped."""
        ...


def make_limiter(qps: float) -> Limiter:
    """Return a limiter that spreads `qps` requests evenly over each second, with a burst of two to make up for delays."""
    seconds = 1000 if qps >= 1 else math.ceil(1000 / qps)
    rate = Rate(math.ceil(qps * SHARE_OF_RATE * seconds), seconds * 1000, burst=2 if qps >= 1 else 1)
    # No thread that leaks the bucket (it has nothing to leak), and no extra wait: the default adds 50 ms to each.
    return Limiter(SingleBucketFactory(StateBucket([rate], TokenBucket()), schedule_leak=False), buffer_ms=0)


class Pace:
    """Hands out turns, one for each request sent. Safe to share between threads and event loops."""

    def __init__(self, limiter: Limiter | None) -> None:
        self._limiter = limiter
        # One thread polls the limiter and the others wait for it: many pollers reach 85% of the rate, one 98%.
        self._poll = threading.Lock()

    def take_turn(self, stop: Stop, seconds: float = math.inf) -> bool:
        """Wait for a turn; return `False` if the job stops, or `seconds` pass, before there is one."""
        deadline = time.monotonic() + seconds
        while not stop.is_set():
            if self._limiter is None:
                return True
            patience = min(SLICE_SECONDS, deadline - time.monotonic())
            if patience <= 0:
                return False
            if self._poll.acquire(timeout=patience):
                try:
                    granted: bool | Awaitable[bool] = self._limiter.try_acquire(ITEM, timeout=patience)
                finally:
                    self._poll.release()
                if _settled(granted):
                    return True
        return False

    async def atake_turn(self, stop: Stop, seconds: float = math.inf) -> bool:
        """Wait for a turn; return `False` if the job stops, or `seconds` pass, before there is one."""
        deadline = time.monotonic() + seconds
        while not stop.is_set():
            if self._limiter is None:
                return True
            patience = min(SLICE_SECONDS, deadline - time.monotonic())
            if patience <= 0:
                return False
            if await self._limiter.try_acquire_async(ITEM, timeout=patience):
                return True
        return False


def _settled(granted: Any) -> bool:
    """Refuse a limiter whose answer must be awaited: unawaited it looks like a yes."""
    if not isawaitable(granted):
        return bool(granted)
    if hasattr(granted, "close"):
        granted.close()
    raise ConfigurationError(
        "This limiter's bucket is asynchronous, so it cannot pace the sync methods. "
        "Use aembed, or give a limiter with a sync bucket."
    )


_shared: dict[tuple[str, str, float], Pace] = {}
_shared_lock = threading.Lock()


def shared_pace(endpoint: str, service_id: str, qps: float | None) -> Pace:
    """Return the pace of this process for one endpoint, model and rate; the same object to everybody who asks."""
    if qps is None:
        return Pace(None)
    with _shared_lock:
        return _shared.setdefault((endpoint, service_id, float(qps)), Pace(make_limiter(qps)))


def _forget_after_fork() -> None:
    """Start afresh in a forked child: another thread of the parent may have held a lock at that moment."""
    global _shared_lock
    _shared_lock = threading.Lock()
    _shared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
