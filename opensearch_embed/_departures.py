"""What has left within about the last second, so that a sliding window refuses nothing. No clock, no waiting.

Turns come at even intervals, but a busy thread or event loop takes them late: decoding a reply takes milliseconds, a
round of the garbage collector up to a tenth of a second. Late turns leave together, and the turns a second after them
have to allow for that.
"""

import math
from typing import cast

from pyrate_limiter import AbstractBucket, InMemoryBucket, Rate, RateItem

ITEM = "opensearch-embed"

MARGIN = 10
"""Milliseconds added to the window, since requests do not all take the same time from here to the server."""

STALL = 5
"""Milliseconds for which Python lets a thread run while others wait. Who is later than this was stalled."""


class Departures:
    """A sliding window over what has left. All times are milliseconds on one clock that does not go back."""

    def __init__(self, qps: float) -> None:
        requests = max(1, int(qps))
        self._interval = 1000 / qps
        self._log = InMemoryBucket([Rate(requests, math.ceil(requests * self._interval) + MARGIN)])

    def leave(self, turn: int, now: int) -> int:
        """Log that a request whose turn it was at `turn` leaves now, and return 0.

        If too many just left, return the milliseconds until it can.
        """
        if now - turn > STALL:
            # What left just before the stall may have been held up between the log and the wire.
            for item in reversed(self._log.items):
                if item.timestamp < turn - 1.5 * self._interval:
                    break
                item.timestamp = now
        item = RateItem(ITEM, now)
        self._log.leak(now)
        return 0 if self._log.put(item) else milliseconds_until(item, self._log)


def milliseconds_until(item: RateItem, bucket: AbstractBucket) -> int:
    """Return how long a bucket that is not async lets an item wait."""
    return cast("int", bucket.waiting(item))
