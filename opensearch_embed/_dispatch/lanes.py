"""Who goes next: queries first, then what is sent again, then documents; fair between jobs. No clock, no waiting."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

QUERIES_IN_A_ROW = 3
"""After so many, a document goes: documents keep a quarter of the turns."""


class Lane(IntEnum):
    """Where a request waits, the first first."""

    QUERY = 0
    RETRY = 1
    DOCUMENT = 2


@dataclass(eq=False, slots=True)
class Host:
    """What wakes a waiting turn: one thread, or one event loop.

    Attributes:
        late: It did not take a turn that was due, so it is passed over until it speaks again.
    """

    late: bool = False


@dataclass(eq=False, slots=True)
class Pool:
    """Bounds the requests under way: of a client's threads together, or of a client in one event loop."""

    limit: int
    under_way: "set[Turn]" = field(default_factory=set)

    @property
    def full(self) -> bool:
        """Whether no more may be under way."""
        return len(self.under_way) >= self.limit


@dataclass(eq=False, slots=True)
class Turn:
    """One batch that is to be sent, perhaps several times; it waits in a lane each time.

    Attributes:
        owner: The call that it belongs to; calls share the turns.
        lane: Where it waits.
        pool: What bounds it.
        host: What wakes it.
        wake: Wakes it; may be called from any thread, takes no lock, and says whether there is anybody to wake.
        lone: Whether its call is this one request.
        sent_at: When it last left.
        waiting_in: The lane that it waits in now.
        timer: When it will look again by itself.
    """

    owner: object
    lane: Lane
    pool: Pool
    host: Host
    wake: Callable[[], bool]
    lone: bool = False
    sent_at: float = 0.0
    waiting_in: Lane | None = None
    timer: float = math.inf


class Lanes:
    """The turns that wait."""

    def __init__(self) -> None:
        # By owner, the owner that had its turn longest ago first.
        self._lanes: dict[Lane, dict[object, deque[Turn]]] = {lane: {} for lane in Lane}
        self._queries_in_a_row = 0

    def __bool__(self) -> bool:
        return any(self._lanes.values())

    def add(self, turn: Turn) -> None:
        """Let a turn wait."""
        turn.waiting_in = turn.lane
        self._lanes[turn.lane].setdefault(turn.owner, deque()).append(turn)

    def remove(self, turn: Turn) -> None:
        """Let a turn wait no more, if it does."""
        if turn.waiting_in is None:
            return
        owners = self._lanes[turn.waiting_in]
        turns = owners.get(turn.owner, deque())
        if turn in turns:
            turns.remove(turn)
        if not turns:
            owners.pop(turn.owner, None)
        turn.waiting_in = None

    def depart(self, turn: Turn) -> None:
        """Let a turn go: the others of its lane come before its owner's next one."""
        lane, owners = turn.lane, self._lanes[turn.lane]
        self._queries_in_a_row = self._queries_in_a_row + 1 if lane is Lane.QUERY else 0
        self.remove(turn)
        if turn.owner in owners:
            owners[turn.owner] = owners.pop(turn.owner)

    def in_order(self) -> Iterator[Turn]:
        """Yield the turns that may go, one of each owner, the first first."""
        order = list(Lane)
        if self._queries_in_a_row >= QUERIES_IN_A_ROW:
            order = [Lane.RETRY, Lane.DOCUMENT, Lane.QUERY]
        for lane in order:
            for turns in self._lanes[lane].values():
                turn = next((turn for turn in turns if not turn.pool.full), None)
                if turn is not None:
                    yield turn
