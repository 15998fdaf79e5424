"""At what rate requests leave: even intervals, a log of what has left, and the rate that the service lets through.

Arithmetic alone: time is an argument, in seconds on any clock that does not go back. The numbers come from simulations
with the three ways to count requests a second (`tests/test_dispatch_simulation.py`).
"""

import math
import random
from collections import deque

SHARE_OF_RATE = 0.985
"""Sent of the rate that the account is given. The rest keeps a server that counts by a sliding window from refusing."""

CATCH_UP_SECONDS = 0.1
"""What late turns lost may be made up for, so much of it; departures are half an interval apart meanwhile."""

UNNOTICED_SECONDS = 0.0005
"""Departures need not be kept further apart than that: no timer is as exact, so at thousands a second each wait would
be late, and the rate lost."""

IDLE_CREDIT, IDLE_CREDIT_SECONDS = 2, 0.002
"""Turns that a pause leaves, and at thousands a second those of so long a time: a caller that takes one turn after
another pauses between them. More would leave together, and a sliding window would see that burst again each second."""

MARGIN_SECONDS, MOST_MARGIN_SECONDS = 0.008, 0.03
"""Added to the log's second, since requests do not all take the same time from here to the server."""

CUT = 0.94
"""What a refusal leaves of the rate; but never less than most of what got through within the last second."""

GOT_THROUGH_SHARE = 0.9

CLEAN_ANSWERS = 50
"""After so many answers without a refusal, one refusal comes by chance."""

LOWEST_SHARE = 0.02
"""Of the configured rate. Never nothing, or there would be no answer to learn from."""


class Rate:
    """Says when the next request may leave, at most `qps` a second.

    Attributes:
        qps: The rate that the account is given.
        current: The rate now, which is lower while the service refuses requests.
    """

    def __init__(self, qps: float, chance: random.Random | None = None) -> None:
        self.qps = qps
        self.current = qps
        self._chance = chance or random.Random()
        self._next = -math.inf
        self._last = -math.inf
        self._shift = 0.0
        # A server that counts by windows takes whole requests: 0.5 a second is one in two seconds.
        requests = max(1, math.floor(qps))
        self._log: deque[float] = deque(maxlen=requests)
        self._window = requests / qps
        self._margin = MARGIN_SECONDS
        self._got_through: deque[float] = deque()
        self._clean = 0
        self._cut_at = -math.inf
        self._granted_since_cut = True
        self._before = qps
        self._parts = 1

    @property
    def interval(self) -> float:
        """Seconds between two departures."""
        return self._parts / (SHARE_OF_RATE * self.current)

    def divide(self, parts: int, now: float) -> None:
        """Go on with one of so many parts of the rate, and without a turn that is owed: the others do the same."""
        self._parts = max(1, parts)
        self._next = max(self._next, self._last + self.interval, now)

    def ready_at(self) -> float:
        """Return when the next request may leave."""
        apart = self.interval / 2
        ready = max(self._next + self._shift, self._last + (apart if apart > UNNOTICED_SECONDS else 0.0))
        if len(self._log) == self._log.maxlen:
            ready = max(ready, self._log[0] + self._window + self._margin)
        return ready

    def begin(self, now: float) -> None:
        """Note that somebody waits again, after nobody did."""
        self._next = max(self._next, now - max(IDLE_CREDIT * self.interval, IDLE_CREDIT_SECONDS))

    def depart(self, now: float) -> None:
        """Note that a request leaves."""
        self._next = max(self._next, now - max(CATCH_UP_SECONDS, IDLE_CREDIT * self.interval)) + self.interval
        self._last = now
        self._log.append(now)
        # In step with others on the same quota, each turn would come just after theirs, and be refused.
        contended = self.current < self.qps
        self._shift = self._chance.uniform(0, self.interval / 5) if contended else 0.0

    def granted(self, sent_at: float, now: float) -> None:
        """Note that the service answered a request: the rate climbs, if it was lowered."""
        self._got_through.append(now)
        self._forget(now)
        self._clean += 1
        if sent_at < self._cut_at:  # sent at the rate before: it says nothing of this one
            return
        self._granted_since_cut = True
        if self.current < self.qps:
            haste = 1 + self._clean / CLEAN_ANSWERS
            step = min(0.0004, 0.008 / self.current) * haste * self.qps
            self.current = min(self.qps, self.current + step)

    def refused(self, now: float) -> None:
        """Note that the service refused a request because of its rate: the rate falls."""
        clean, self._clean = self._clean, 0
        if self._granted_since_cut:
            self._before = self.current
        if self.current == self.qps and clean >= CLEAN_ANSWERS:
            self._margin = min(MOST_MARGIN_SECONDS, self._margin + 0.002)
            return
        self._forget(now)
        kept = max(self.current * CUT, GOT_THROUGH_SHARE * len(self._got_through), self.qps * LOWEST_SHARE)
        self.current = min(self.current, kept)
        self._cut_at = now
        self._granted_since_cut = False

    def restore(self) -> None:
        """Go back to the rate before the last refusals in a row: they were no matter of the rate."""
        if not self._granted_since_cut:
            self.current = self._before

    def _forget(self, now: float) -> None:
        while self._got_through and self._got_through[0] < now - 1.0:
            self._got_through.popleft()
