"""Who hands out the turns to send: nobody, or a limiter of the user's own. `_schedule` keeps to the account's rate.

A job that stops ends every wait at once, and a wait that would last too long is not begun.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any, Protocol, TypeVar

from pyrate_limiter import Limiter

from opensearch_embed._departures import ITEM
from opensearch_embed.errors import ConfigurationError

SLICE_SECONDS = 0.2
"""How often a thread that queues for a lock, or for a limiter that is not ours, looks whether its job has stopped."""

StopT = TypeVar("StopT", threading.Event, asyncio.Event)


class Pace(Protocol):
    """Hands out turns, one for each request sent. Safe to share between threads and event loops."""

    def take_turn(self, stop: threading.Event, seconds: float = math.inf) -> bool:
        """Wait for a turn; return `False` if the job stops, or the turn would come after more than `seconds`."""
        ...

    async def atake_turn(self, stop: asyncio.Event, seconds: float = math.inf) -> bool:
        """Wait for a turn without blocking the event loop. See `take_turn`."""
        ...

    def saw(self, *, throttled: bool) -> None:
        """Note whether the service refused a request because of its rate."""
        ...


class Unlimited:
    """No limit."""

    def take_turn(self, stop: threading.Event, seconds: float = math.inf) -> bool:
        """Give a turn at once, unless it is too late for one."""
        return not stop.is_set() and seconds > 0

    async def atake_turn(self, stop: asyncio.Event, seconds: float = math.inf) -> bool:
        """Give a turn at once, unless it is too late for one."""
        return not stop.is_set() and seconds > 0

    def saw(self, *, throttled: bool) -> None:
        """Nothing to adapt."""


class UserLimiter:
    """Turns of a limiter that the user made, which may serve many processes. It is asked, and never changed."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        # One thread polls and the others wait for it: many pollers get 85% of the rate out of a limiter, one 98%.
        self._queue = threading.Lock()

    def take_turn(self, stop: threading.Event, seconds: float = math.inf) -> bool:
        """Wait for a turn; return `False` if the job stops, or `seconds` pass, before there is one."""
        deadline = time.monotonic() + seconds
        while not stop.is_set():
            patience = min(SLICE_SECONDS, deadline - time.monotonic())
            if patience <= 0:
                return False
            if self._queue.acquire(timeout=patience):
                try:
                    granted = self._limiter.try_acquire(ITEM, timeout=patience)
                finally:
                    self._queue.release()
                if _settled(granted):
                    return True
        return False

    async def atake_turn(self, stop: asyncio.Event, seconds: float = math.inf) -> bool:
        """Wait for a turn without blocking the event loop. See `take_turn`."""
        deadline = time.monotonic() + seconds
        while not stop.is_set():
            patience = min(SLICE_SECONDS, deadline - time.monotonic())
            if patience <= 0:
                return False
            if await self._limiter.try_acquire_async(ITEM, timeout=patience):
                return True
        return False

    def saw(self, *, throttled: bool) -> None:
        """Leave the user's limiter as it is."""


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until the job stops, or `seconds` have passed; tell whether it has stopped."""
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
    return stop.is_set()


def _settled(granted: bool | Awaitable[bool]) -> bool:
    """Refuse a limiter whose answer must be awaited: unawaited it looks like a yes."""
    if not isawaitable(granted):
        return bool(granted)
    awaitable: Any = granted
    awaitable.close()
    raise ConfigurationError(
        "This limiter's bucket is asynchronous, so it cannot pace the sync methods. "
        "Use aembed, or give a limiter with a sync bucket."
    )
