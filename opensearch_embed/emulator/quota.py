"""How requests a second are counted. The service does not say how it counts, so there are three ways to choose from.

Time is passed in: this file has no clock.
"""

import math
from collections import deque
from typing import Literal, Protocol

Window = Literal["fixed", "sliding", "bucket"]


class Quota(Protocol):
    """Decides which requests are admitted."""

    def admit(self, now: float) -> bool:
        """Say whether a request at `now` (seconds) is within the quota; if so, it counts."""


class Unlimited:
    """Admits every request."""

    def admit(self, now: float) -> bool:  # noqa: ARG002 (the protocol's argument)
        """Say yes."""
        return True


class FixedWindow:
    """At most `limit` in each window of `period` seconds; the first window starts at the first request."""

    def __init__(self, limit: int, period: float) -> None:
        self._limit, self._period = limit, period
        self._start: float | None = None
        self._window, self._count = 0, 0

    def admit(self, now: float) -> bool:
        """Count within the window that `now` falls into."""
        if self._start is None:
            self._start = now
        window = math.floor((now - self._start) / self._period)
        if window != self._window:
            self._window, self._count = window, 0
        admitted = self._count < self._limit
        self._count += admitted
        return admitted


class SlidingWindow:
    """At most `limit` in any `period` seconds."""

    def __init__(self, limit: int, period: float) -> None:
        self._limit, self._period = limit, period
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count those admitted in the `period` seconds before `now`."""
        while self._admitted and now - self._admitted[0] >= self._period:
            self._admitted.popleft()
        admitted = len(self._admitted) < self._limit
        if admitted:
            self._admitted.append(now)
        return admitted


class Bucket:
    """A bucket of `limit` requests, full at first, that fills up again in `period` seconds."""

    def __init__(self, limit: int, period: float) -> None:
        self._limit, self._rate = limit, limit / period
        self._level, self._filled_at = float(limit), -math.inf

    def admit(self, now: float) -> bool:
        """Fill up for the time that has passed, then take one out."""
        self._level = min(self._limit, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
        admitted = self._level >= 1
        self._level -= admitted
        return admitted


def make_quota(qps: float | None, window: Window) -> Quota:
    """Build the counter for `qps` requests a second; `None` means no limit.

    A rate that is not a whole number is counted over a longer time than a second: 0.5 is one in two seconds.
    """
    kinds: dict[str, type[FixedWindow] | type[SlidingWindow] | type[Bucket]] = {
        "fixed": FixedWindow,
        "sliding": SlidingWindow,
        "bucket": Bucket,
    }
    if window not in kinds:
        raise ValueError(f"window must be one of {', '.join(kinds)}, not {window!r}.")
    if qps is None:
        return Unlimited()
    if not 0 < qps < math.inf:
        raise ValueError(f"qps must be over 0, or None for no limit, not {qps!r}.")
    limit = max(1, math.floor(qps))
    return kinds[window](limit, limit / qps)
