"""When the next request may leave. The arithmetic is pyrate-limiter's; how to wait for a turn is decided here.

A job that stops ends every wait at once, and a wait that would last too long is not begun.
"""

import asyncio
import contextlib
import math
import threading
import time
import weakref
from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any, Protocol, TypeVar

from pyrate_limiter import Limiter, MonotonicClock, Rate, RateItem, StateBucket, TokenBucket

from opensearch_embed._rate import AdaptiveRate
from opensearch_embed.errors import ConfigurationError

ITEM = "opensearch-embed"
SLICE_SECONDS = 0.2
"""How often a thread that queues for a lock, or for a limiter that is not ours, looks whether its job has stopped."""

SHARE_OF_RATE = 0.985
"""Sent of the rate that the account is given. The rest keeps a server that counts by a sliding window from refusing."""

TOKENS_PER_REQUEST = 2
BURST_TOKENS = 3
"""Half an interval more than one request: rounding to milliseconds would cost 2% of the rate otherwise."""

HORIZON_SECONDS = 0.3
"""How far ahead turns are booked. Booked turns keep the rate when a busy thread or event loop wakes late; those of a
job that fails are lost, which is what limits the horizon."""

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


class Schedule:
    """Turns at even intervals, `qps` a second at most; fewer while the service refuses requests."""

    def __init__(self, qps: float) -> None:
        self._clock = MonotonicClock()
        self._bucket = StateBucket([token_rate(qps)], TokenBucket(), clock=self._clock)
        self._rate = AdaptiveRate(qps)
        self._lock = threading.Lock()
        # The first of those who wait books turns, and the others queue behind it: that costs least.
        self._queue = threading.Lock()
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    def take_turn(self, stop: threading.Event, seconds: float = math.inf) -> bool:
        """Wait for a turn; return `False` if the job stops, or the turn would come after more than `seconds`."""
        deadline = time.monotonic() + seconds
        while not self._queue.acquire(timeout=max(0.0, min(SLICE_SECONDS, deadline - time.monotonic()))):
            if stop.is_set() or time.monotonic() >= deadline:
                return False
        try:
            booked, wait = self._book(deadline)
            while not booked and wait < math.inf and not stop.wait(wait):
                booked, wait = self._book(deadline)
        finally:
            self._queue.release()
        return booked and not (stop.wait(wait) if wait > 0 else stop.is_set())

    async def atake_turn(self, stop: asyncio.Event, seconds: float = math.inf) -> bool:
        """Wait for a turn without blocking the event loop. See `take_turn`."""
        deadline = time.monotonic() + seconds
        queue = self._queue_here()
        while not await _acquired(queue, max(0.0, min(SLICE_SECONDS, deadline - time.monotonic()))):
            if stop.is_set() or time.monotonic() >= deadline:
                return False
        try:
            booked, wait = self._book(deadline)
            while not booked and wait < math.inf and not await stopped_within(stop, wait):
                booked, wait = self._book(deadline)
        finally:
            queue.release()
        return booked and not (await stopped_within(stop, wait) if wait > 0 else stop.is_set())

    def _book(self, deadline: float) -> tuple[bool, float]:
        """Return whether a turn is booked, and the seconds until it comes.

        If none is booked, the seconds until one can be booked; infinite if it would come after the deadline.
        """
        with self._lock:
            if time.monotonic() >= deadline:
                return False, math.inf
            item = RateItem(ITEM, self._clock.now(), TOKENS_PER_REQUEST)
            if self._bucket.put(item):
                return True, 0.0
            milliseconds = self._bucket.waiting(item)
            assert isinstance(milliseconds, int)  # noqa: S101 - ours is not an async bucket
            seconds = milliseconds / 1000
            if time.monotonic() + seconds > deadline:
                return False, math.inf
            if seconds > HORIZON_SECONDS:
                return False, seconds - HORIZON_SECONDS
            item.timestamp += milliseconds
            return bool(self._bucket.put(item)), seconds

    def _queue_here(self) -> asyncio.Lock:
        with self._lock:
            return self._queues.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def saw(self, *, throttled: bool) -> None:
        """Adapt to whether the service refused a request because of its rate."""
        with self._lock:
            if self._rate.saw(throttled, time.monotonic()):
                self._bucket.rates = [token_rate(self._rate.rate)]


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


def token_rate(qps: float) -> Rate:
    """Return pyrate-limiter's form of a rate: tokens in a period that is long enough for both to be whole numbers."""
    seconds = 1000 if qps >= 1 else math.ceil(1000 / qps)
    tokens = max(1, round(qps * SHARE_OF_RATE * TOKENS_PER_REQUEST * seconds))
    return Rate(tokens, seconds * 1000, burst=BURST_TOKENS)


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until the job stops, or `seconds` have passed; tell whether it has stopped."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


async def _acquired(lock: asyncio.Lock, seconds: float) -> bool:
    """Wait for a lock, for so long; tell whether it is ours."""
    if lock.locked():
        try:
            await asyncio.wait_for(lock.acquire(), seconds)
        except TimeoutError:
            return False
        return True
    return await lock.acquire()


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
