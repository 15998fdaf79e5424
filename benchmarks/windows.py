"""The three ways a service may count its quota. The vendor does not say which one is used, so all are measured.

Pure: a window is told the time and answers whether this request is within the quota.
"""

from collections import deque
from typing import Protocol


class Window(Protocol):
    """Counts requests against a quota of so many a second."""

    def admit(self, now: float) -> bool:
        """Whether a request that arrives at `now` (seconds, any origin) is within the quota."""
        ...


class FixedWindow:
    """At most `qps` requests in each whole second of the server's clock."""

    def __init__(self, qps: float) -> None:
        self._qps = qps
        self._second = -1
        self._count = 0

    def admit(self, now: float) -> bool:
        """Count within the second that `now` falls into."""
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        if self._count >= self._qps:
            return False
        self._count += 1
        return True


class SlidingWindow:
    """At most `qps` admitted requests in any stretch of one second: the strictest of the three."""

    def __init__(self, qps: float) -> None:
        self._qps = qps
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Forget what is older than a second, then count."""
        while self._admitted and self._admitted[0] <= now - 1:
            self._admitted.popleft()
        if len(self._admitted) >= self._qps:
            return False
        self._admitted.append(now)
        return True


class Bucket:
    """A token bucket: filled at `qps` a second, holding one second's worth, full at the start."""

    def __init__(self, qps: float) -> None:
        self._qps = qps
        self._tokens = qps
        self._filled_at: float | None = None

    def admit(self, now: float) -> bool:
        """Fill up for the time gone by, then take one token."""
        if self._filled_at is not None:
            self._tokens = min(self._qps, self._tokens + (now - self._filled_at) * self._qps)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


WINDOWS: dict[str, type[FixedWindow] | type[SlidingWindow] | type[Bucket]] = {
    "fixed": FixedWindow,
    "sliding": SlidingWindow,
    "bucket": Bucket,
}
