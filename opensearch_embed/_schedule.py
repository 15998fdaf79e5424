"""Turns at the rate that the account is given, booked ahead. The arithmetic is pyrate-limiter's; who waits is here."""

import asyncio
import math
import random
import threading
import time
import weakref

from pyrate_limiter import MonotonicClock, Rate, RateItem, StateBucket, TokenBucket

from opensearch_embed._departures import ITEM, Departures, milliseconds_until
from opensearch_embed._pace import SLICE_SECONDS, stopped_within
from opensearch_embed._rate import AdaptiveRate

SHARE_OF_RATE = 0.988
"""Sent of the rate that the account is given. The rest keeps a server that counts by a sliding window from refusing."""

TOKENS_PER_REQUEST = 2
LEAST_BURST = 3
"""Tokens: half an interval more than one request. Rounding to milliseconds would cost 2% of the rate otherwise."""

BURST_SECONDS = 0.06
"""What a pause leaves unused may be made up for afterwards, so much of it: at 50 a second, three requests at once."""

HORIZON_SECONDS = 0.3
"""How far ahead turns are booked. Booked turns keep the rate when a busy thread or event loop wakes late; those of a
job that fails are lost, which is what limits the horizon."""


class Schedule:
    """Turns at even intervals, `qps` a second at most; fewer while the service refuses requests.

    Turns are booked ahead, and a turn that is late does not delay the next. What has left is logged all the same: after
    a stall, when many turns are late, no more leave within a second than a sliding window lets through.
    """

    def __init__(self, qps: float) -> None:
        self._clock = MonotonicClock()
        self._bucket = StateBucket([token_rate(qps)], TokenBucket(), clock=self._clock)
        self._departures = Departures(qps)
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
        turn = time.monotonic() + wait
        while booked and turn <= deadline and not stop.wait(turn - time.monotonic()):
            turn, has_left = self._leave(turn)
            if has_left:
                return True
        return False

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
        turn = time.monotonic() + wait
        while booked and turn <= deadline and not await stopped_within(stop, turn - time.monotonic()):
            turn, has_left = self._leave(turn)
            if has_left:
                return True
        return False

    def _book(self, deadline: float) -> tuple[bool, float]:
        """Return whether a turn is booked, and the seconds until it comes.

        If none is booked, the seconds until one can be booked; infinite if it would come after the deadline.
        """
        with self._lock:
            left = deadline - time.monotonic()
            if left <= 0:
                return False, math.inf
            item = RateItem(ITEM, self._clock.now(), TOKENS_PER_REQUEST)
            if self._bucket.put(item):
                return True, self._shift(left)
            wait = milliseconds_until(item, self._bucket)
            seconds = wait / 1000
            if seconds > left:
                return False, math.inf
            if seconds > HORIZON_SECONDS:
                return False, seconds - HORIZON_SECONDS
            item.timestamp += wait
            return bool(self._bucket.put(item)), seconds + self._shift(left - seconds)

    def _shift(self, most: float) -> float:
        """Return by how many seconds a turn is moved, at random, while others use the same quota.

        Turns in step with theirs would all come just after theirs, and be refused.
        """
        most = min(most, 1 / self._rate.rate, HORIZON_SECONDS)
        return random.uniform(0, most) if self._rate.contended else 0.0

    def _leave(self, turn: float) -> tuple[float, bool]:
        """Return whether a request leaves now; if too many just left, its turn is later."""
        with self._lock:
            now = self._clock.now()
            wait = self._departures.leave(round(turn * 1000), now)
            return (now + wait) / 1000, not wait

    def _queue_here(self) -> asyncio.Lock:
        with self._lock:
            return self._queues.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    def saw(self, *, throttled: bool) -> None:
        """Adapt to whether the service refused a request because of its rate."""
        with self._lock:
            if self._rate.saw(throttled, time.monotonic()):
                self._bucket.rates = [token_rate(self._rate.rate)]


def token_rate(qps: float) -> Rate:
    """Return pyrate-limiter's form of a rate: tokens in a period that is long enough for both to be whole numbers."""
    seconds = 1000 if qps >= 1 else math.ceil(1000 / qps)
    tokens = max(1, round(qps * SHARE_OF_RATE * TOKENS_PER_REQUEST * seconds))
    burst = max(LEAST_BURST, round(qps * TOKENS_PER_REQUEST * BURST_SECONDS))
    return Rate(tokens, seconds * 1000, burst=burst)


async def _acquired(lock: asyncio.Lock, seconds: float) -> bool:
    """Wait for a lock, for so long; tell whether it is ours."""
    if lock.locked():
        try:
            await asyncio.wait_for(lock.acquire(), seconds)
        except TimeoutError:
            return False
        return True
    return await lock.acquire()
