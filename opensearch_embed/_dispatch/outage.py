"""Whether the service is there at all. While it is not, a probe now and then finds out when it is back.

Arithmetic alone: time is an argument.
"""

import math

PROBE_SECONDS = 0.55
"""Between two probes: at most two a second."""

IN_A_ROW = 8
"""Failures with no success between, at least, that make an outage."""

SECONDS_IN_A_ROW = 0.05
"""At high rates, as many failures as leave within this time: half of all requests may fail by chance."""

LONE_CALLS = 4
"""Calls of a single request that must have failed: one that repeats itself is slowed down by its own backoff."""

STORM_SECONDS = 1.5
"""Refused for their rate and nothing else for so long: the rate says nothing any more. A window lets some through."""


class Outage:
    """Tells from the answers whether the service is down.

    Attributes:
        since: When it was found to be down; `None` while it is up.
    """

    def __init__(self, qps: float | None) -> None:
        self.since: float | None = None
        self._needed = max(IN_A_ROW, math.ceil((qps or 0) * SECONDS_IN_A_ROW))
        self._probe_at = -math.inf
        self._failures = 0
        self._refusals = 0
        self._refused_since = 0.0
        self._lone: set[int] = set()
        self._of_jobs = False

    def ready_at(self) -> float:
        """Return when the next probe may leave; at once while the service is up."""
        return -math.inf if self.since is None else self._probe_at

    def depart(self, now: float) -> None:
        """Note that a request leaves."""
        self._probe_at = now + PROBE_SECONDS

    def unavailable(self, now: float, caller: int, *, lone: bool) -> bool:
        """Note a request that found nobody, or a fault of the server. Tell whether an outage begins."""
        self._failures += 1
        self._of_jobs = self._of_jobs or not lone
        self._lone.add(caller)
        enough = self._failures >= self._needed and (self._of_jobs or len(self._lone) >= LONE_CALLS)
        return enough and self._begin(now)

    def refused(self, now: float) -> bool:
        """Note a request that was refused for the rate. Tell whether that has become a storm."""
        self._failures = 0
        if not self._refusals:
            self._refused_since = now
        self._refusals += 1
        return self._refusals >= IN_A_ROW and now - self._refused_since >= STORM_SECONDS and self._begin(now)

    def answered(self, sent_at: float) -> bool:
        """Note a request that was answered. Tell whether an outage ends."""
        self._failures = self._refusals = 0
        self._lone.clear()
        self._of_jobs = False
        ends = self.since is not None and sent_at >= self.since
        if ends:
            self.since = None
        return ends

    def _begin(self, now: float) -> bool:
        begins = self.since is None
        if begins:
            self.since = now
            self._probe_at = now + PROBE_SECONDS
        return begins
