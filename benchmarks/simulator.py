"""Virtual time: a dispatcher, callers that wait for it, and a service. Nothing here waits for a clock."""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from opensearch_embed._dispatch.dispatcher import LEAVES_NOW, Dispatcher, Outcome
from opensearch_embed._dispatch.lanes import Host, Lane, Pool, Turn

Service = Callable[[float], Outcome]
"""Says what becomes of a request that arrives at a time."""


@dataclass(eq=False)
class Caller:
    """One job: `batches` to be sent, each until it succeeds."""

    batches: int
    lane: Lane = Lane.DOCUMENT
    begins: float = 0.0
    retry_seconds: float = 0.3
    blocked: tuple[float, float] = (math.inf, math.inf)
    waits: list[float] = field(default_factory=list)
    done_at: float = math.inf
    done: int = 0


@dataclass(eq=False)
class Departure:
    """One request."""

    at: float
    caller: Caller
    outcome: Outcome


class Simulation:
    """Runs callers against a service, from 0 to their end.

    Args:
        qps: What the dispatcher is told.
        service: What becomes of requests.
        latency: Seconds until an answer is there.
        jitter: By how much a request is late on its way, at most.
        late: By how much a caller wakes late, at most.
    """

    def __init__(
        self, qps: float | None, service: Service, *, latency: float = 0.1, jitter: float = 0.0, late: float = 0.001
    ) -> None:
        self.chance = random.Random(7)
        self.dispatcher = Dispatcher(qps, chance=self.chance)
        self.departures: list[Departure] = []
        self._service = service
        self._latency = latency
        self._jitter = jitter
        self._late = late
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._pool = Pool(10**9)
        self._turns: dict[Turn, tuple[Caller, float]] = {}

    def at(self, time: float, what: Callable[[float], None]) -> None:
        """Let something happen."""
        heapq.heappush(self._events, (time, next(self._order), what))

    def run(self, *callers: Caller, until: float = 1000.0) -> None:
        """Run to the end of all callers."""
        for caller in callers:
            host = Host()
            self.at(caller.begins, lambda now, c=caller, h=host: self._next(c, h, now))
        while self._events and self._events[0][0] <= until:
            now, _, what = heapq.heappop(self._events)
            what(now)

    def _next(self, caller: Caller, host: Host, now: float) -> None:
        if caller.batches:
            caller.batches -= 1
            self._line_up(caller, host, caller.lane, now)

    def _line_up(self, caller: Caller, host: Host, lane: Lane, now: float) -> None:
        turn = Turn(caller, lane, self._pool, host, lambda: True)
        self._turns[turn] = (caller, now)
        self._try(turn, now)

    def _try(self, turn: Turn, now: float) -> None:
        if turn not in self._turns:
            return
        caller, since = self._turns[turn]
        if caller.blocked[0] <= now < caller.blocked[1]:
            self.at(caller.blocked[1], lambda now: self._try(turn, now))
            return
        wait = self.dispatcher.take(turn, now)
        if wait == LEAVES_NOW:
            del self._turns[turn]
            caller.waits.append(now - since)
            arrives = now + self.chance.uniform(0, self._jitter)
            outcome = self._service(arrives)
            self.departures.append(Departure(now, caller, outcome))
            self.at(arrives + self._latency, lambda now: self._answer(turn, caller, outcome, now))
            self._next(caller, turn.host, now)
        elif wait < math.inf:
            self._timer(turn, now + wait)
        self._wake(now)

    def _timer(self, turn: Turn, time: float) -> None:
        time += self.chance.uniform(0, self._late)
        self.at(time, lambda now: self._try(turn, now))

    def _wake(self, now: float) -> None:
        for turn in self.dispatcher.to_wake(now):
            self._timer(turn, now)

    def _answer(self, turn: Turn, caller: Caller, outcome: Outcome, now: float) -> None:
        self.dispatcher.answer(turn, outcome, now)
        if outcome == "success":
            caller.done += 1
            caller.done_at = now
        else:
            outage = self.dispatcher.outage.since is not None
            wait = 0.0 if outage else self.chance.uniform(0.05, caller.retry_seconds)
            self.at(now + wait, lambda now: self._line_up(caller, turn.host, Lane.RETRY, now))
        self._wake(now)
