"""When each request leaves, and whose turn it is. No clock, no thread, no event loop: time is an argument.

Nobody is granted a turn: who waits takes its own when it is first in line and the time has come. So a caller that is
late, cancelled or dead wastes none. Only the first in line, and a deputy on another thread or loop, keep a timer.
"""

import math
import random
from typing import Literal

from opensearch_embed._dispatch.lanes import Lane, Lanes, Turn
from opensearch_embed._dispatch.outage import Outage
from opensearch_embed._dispatch.rate import Rate
from opensearch_embed._dispatch.reservations import Reservations

Outcome = Literal["success", "throttled", "unavailable", "other"]
"""What came of a request, as far as it says something of the service. "other" is any other answer, or none wanted."""

LATE_SECONDS = 0.05
"""Who does not take a turn that was due for so long is passed over until it speaks again."""

TIMER_SECONDS = 1e-3
"""A timer that is late by less is early enough."""

LEAVES_NOW = 0.0
ASK_LIMITER = -1.0
"""The first in line is to ask the user's limiter, and then `permit`."""

LIMITER_PATIENCE_SECONDS = 1.0
"""Who asks the limiter and says nothing for so long is taken for dead."""


class Dispatcher:
    """Decides for all clients of a process with the same endpoint, model and rate.

    Args:
        qps: Requests a second, at most; `None` means no limit.
        limited: Whether a limiter of the user's hands out permits instead.
        reserved: The turns of this process, where the rate is shared with other processes.
        chance: Randomness, for tests.
    """

    def __init__(
        self,
        qps: float | None,
        *,
        limited: bool = False,
        reserved: Reservations | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.rate = None if qps is None or limited else Rate(qps, chance)
        self._reserved = reserved
        if reserved is not None:
            self.rate = reserved.rate
        self.outage = Outage(qps)
        self._limited = limited
        self._permits = 0
        self._asking_since: float | None = None
        self._lanes = Lanes()
        self._first: Turn | None = None
        self._deputy: Turn | None = None
        self._due_since = -math.inf
        self._rate_before = 0.0

    def take(self, turn: Turn, now: float) -> float:
        """Take a turn, if it is due.

        Returns:
            `LEAVES_NOW`, or the seconds to wait (infinite: until woken), or `ASK_LIMITER`.
        """
        turn.host.late = False
        if turn.waiting_in is None:
            if self.rate is not None and not self._lanes:
                self.rate.begin(now)
            self._lanes.add(turn)
        self._line_up(now)
        first = self._first
        if first is not None and first.host is not turn.host and now >= self._due_for_deputy():
            first.host.late = True
            deputy = self._deputy
            if deputy is not None and deputy.host is not turn.host and now >= self._due_for_deputy() + LATE_SECONDS:
                deputy.host.late = True  # it had its chance, too
            self._line_up(now)
        self._reserve(now)
        wait = self._wait(turn, now)
        if wait == LEAVES_NOW and self._reserved is not None:
            self._line_up(now)
            self._reserve(now)
        turn.timer = now + wait
        return wait

    def _reserve(self, now: float) -> None:
        """Let the turn of whoever is first be reserved, if it must be."""
        if self._reserved is not None and self._first is not None:
            self._reserved.look(now, self._ready_by_rate(), query=self._first.lane is Lane.QUERY)

    def _wait(self, turn: Turn, now: float) -> float:
        if turn is self._deputy:
            return max(self._due_for_deputy() - now, 1e-4)
        if turn is not self._first:
            return math.inf
        ready = self._ready_at()
        if now < ready:
            return ready - now
        if self._limited and not self._permits:
            return self._ask(now)
        self._depart(turn, now)
        return LEAVES_NOW

    def _due_for_deputy(self) -> float:
        return max(self._ready_at(), self._due_since) + LATE_SECONDS

    def permit(self, granted: bool) -> None:
        """Note what the limiter said."""
        self._asking_since = None
        self._permits += granted

    def answer(self, turn: Turn, outcome: Outcome, now: float, *, keep: bool = False) -> bool:
        """Note how a request ended. Tell whether it found an outage, which is no fault of its batch.

        Its place among those under way is free then; or kept, until it is dropped.
        """
        if not keep:
            turn.pool.under_way.discard(turn)
        was_down = self.outage.since is not None
        if outcome == "unavailable":
            self.outage.unavailable(now, id(turn.owner), lone=turn.lone)
        elif outcome == "throttled":
            self.outage.refused(now)
            if self.rate is not None:
                self.rate.refused(now)
        else:
            ended = self.outage.answered(turn.sent_at)
            if self.rate is not None:
                if ended:
                    self.rate.restore()
                    self.rate.begin(now)
                if outcome == "success":
                    self.rate.granted(turn.sent_at, now)
        return was_down or self.outage.since is not None

    def drop(self, turn: Turn) -> None:
        """Forget a turn, wherever it is. Dropping it twice is no mistake."""
        self._lanes.remove(turn)
        turn.pool.under_way.discard(turn)

    def to_wake(self, now: float) -> list[Turn]:
        """Return who is first, or its deputy, and keeps no timer that is early enough: it must look again."""
        self._line_up(now)
        wake: list[Turn] = []
        asking = self._limited and not self._permits and self._asking_since is not None
        if self._first is not None and not asking and self._first.timer > max(self._ready_at(), now) + TIMER_SECONDS:
            wake.append(self._first)
        if self._deputy is not None and self._deputy.timer > max(self._due_for_deputy(), now) + TIMER_SECONDS:
            wake.append(self._deputy)
        for turn in wake:
            turn.timer = now
        return wake

    def _ready_at(self) -> float:
        ready = self._ready_by_rate()
        return ready if self._reserved is None else max(ready, self._reserved.ready_at())

    def _ready_by_rate(self) -> float:
        ready = self.outage.ready_at()
        return ready if self.rate is None else max(ready, self.rate.ready_at())

    def _ask(self, now: float) -> float:
        if self._asking_since is None or now - self._asking_since > LIMITER_PATIENCE_SECONDS:
            self._asking_since = now
            return ASK_LIMITER
        return LIMITER_PATIENCE_SECONDS / 2

    def _depart(self, turn: Turn, now: float) -> None:
        turn.sent_at = now
        turn.pool.under_way.add(turn)
        self._lanes.depart(turn)
        self._permits -= self._limited
        self.outage.depart(now)
        if self.rate is not None:
            self.rate.depart(now)
        if self._reserved is not None:
            self._reserved.depart()

    def _line_up(self, now: float) -> None:
        """Find who is first, and the first after it that another thread or loop wakes."""
        first: Turn | None = None
        deputy: Turn | None = None
        late: Turn | None = None
        for turn in self._lanes.in_order():
            if turn.host.late:
                late = late or turn
            elif first is None:
                first = turn
            elif turn.host is not first.host:
                deputy = turn
                break
        first = first or late
        if first is not self._first:
            self._due_since = now
        self._first, self._deputy = first, deputy
