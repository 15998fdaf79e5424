"""Turns that are reserved in a quota of several processes, in virtual time: nothing here waits, or talks to a Redis."""

import itertools
import math
import random

import pytest

from opensearch_embed import ConfigurationError
from opensearch_embed._dispatch.dispatcher import LEAVES_NOW, Dispatcher
from opensearch_embed._dispatch.lanes import Host, Lane, Pool, Turn
from opensearch_embed._dispatch.rate import Rate
from opensearch_embed._dispatch.reservations import Answer, Question, Reservations

QPS = 50.0
INTERVAL = 1 / (0.985 * QPS)
NEAR = pytest.approx


class Process:
    """A process whose callers take turns as soon as they may; its keeper is asked by the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reserved = Reservations("the keeper", Rate(QPS), random.Random(7))
        self.dispatcher = Dispatcher(QPS, reserved=self.reserved)
        self.questions: list[Question] = []
        self.news: list[str] = []
        self._pool = Pool(10**9)
        self._host = Host()

    def turn(self, lane: Lane = Lane.DOCUMENT) -> Turn:
        """Return a turn that nobody has taken."""
        return Turn(object(), lane, self._pool, self._host, lambda: True)

    def take(self, turn: Turn, at: float | None = None) -> float:
        """Take a turn at a time; return what the dispatcher says."""
        self.now = self.now if at is None else at
        wait = self.dispatcher.take(turn, self.now)
        self.note()
        return wait

    def note(self) -> None:
        """Note what is to be asked, and told."""
        question, news = self.reserved.to_do()
        self.questions += [question] if question else []
        self.news += [news] if news else []

    def answer(self, *turns: float, processes: int = 1, takes: float = 0.001) -> None:
        """Let the keeper answer the last question, now."""
        self.reserved.told(self.questions[-1], Answer(turns, processes, takes), self.now)
        self.note()

    def fail(self) -> None:
        """Let the keeper be unreachable, now."""
        self.reserved.failed(ConfigurationError("nobody there"), self.now)
        self.note()

    def departures(self, until: float) -> list[float]:
        """Take one turn after another as soon as they are due; questions stay without an answer."""
        left: list[float] = []
        turn = self.turn()
        while self.now < until:
            wait = self.take(turn)
            if wait == LEAVES_NOW:
                left.append(self.now)
                turn = self.turn()
            else:
                self.now += min(max(wait, 1e-4), 0.05)
        self.dispatcher.drop(turn)
        return left


@pytest.fixture
def process() -> Process:
    """A process that has had its first turn, and knows of four processes."""
    process = Process()
    turn = process.turn()
    process.take(turn)
    process.answer(100.0, processes=4)
    assert process.take(turn) == LEAVES_NOW
    return process


def test_a_turn_is_asked_for_once_and_waited_for(process: Process) -> None:
    """Whoever takes it meanwhile hears how long; nobody asks again."""
    first, second = process.turn(), process.turn()
    process.take(first, 101.0)
    process.take(second, 101.01)
    assert process.questions[1:] == [Question(1)]
    process.now = 101.02
    process.answer(101.3)
    assert process.take(first, 101.1) == NEAR(0.2)
    assert process.take(first, 101.3) == LEAVES_NOW
    # The next turn is asked for at once: its answer is there in time.
    assert process.questions[2:] == [Question(1)]


def test_a_query_asks_to_go_ahead(process: Process) -> None:
    """It has the turn that is there if that is soon; else it asks whether there is a sooner one, once."""
    document, query = process.turn(), process.turn(Lane.QUERY)
    process.take(document, 101.0)
    process.answer(101.0 + 5 * INTERVAL)
    process.take(query, 101.0)
    assert process.questions[2:] == [Question(1, express=True, within=NEAR(5 * INTERVAL))]
    process.answer()
    process.take(query, 101.001)
    assert len(process.questions) == 3
    assert process.take(query, 101.0 + 5 * INTERVAL) == LEAVES_NOW


def test_a_query_that_went_ahead_leaves_the_turn_that_was_there(process: Process) -> None:
    """The document has the turn that was reserved for it."""
    document, query = process.turn(), process.turn(Lane.QUERY)
    process.take(document, 101.0)
    process.answer(101.1)
    process.take(query, 101.0)
    process.answer(101.01)
    assert process.take(query, 101.01) == LEAVES_NOW
    assert process.take(document, 101.05) == NEAR(0.05)
    assert process.take(document, 101.1) == LEAVES_NOW


def test_a_turn_that_nobody_used_is_void(process: Process) -> None:
    """Else turns that were kept would leave together one day."""
    turn = process.turn()
    process.take(turn, 101.0)
    process.answer(101.1)
    process.dispatcher.drop(turn)
    later = process.turn()
    assert process.take(later, 101.3) > 0
    assert process.questions[2:] == [Question(1)]


@pytest.mark.parametrize(("takes", "turns"), [(0.001, 1), (0.03, 1), (0.1, 3), (0.5, 13)])
def test_far_from_the_keeper_several_turns_are_asked_for(process: Process, takes: float, turns: int) -> None:
    """As many as make up for the time that asking takes; how long it took to connect does not count."""
    turn = process.turn()
    process.take(turn, 101.0)
    process.answer(101.1, processes=4, takes=takes)
    assert process.take(turn, 101.1) == LEAVES_NOW
    process.take(process.turn(), 101.11)
    assert process.questions[-1].turns == turns


def test_without_an_answer_it_goes_on_with_its_part(process: Process) -> None:
    """After half a second: a quarter of the rate, where four processes were seen; and no burst before."""
    left = process.departures(110.0)
    assert process.news == ["away"]
    assert left[0] == NEAR(100.5, abs=0.06)
    assert [later - earlier for earlier, later in itertools.pairwise(left)] == NEAR(
        [4 * INTERVAL] * (len(left) - 1), abs=2e-3
    )
    # The question is still under way: no other is asked.
    assert len(process.questions) == 2


def test_a_keeper_that_is_away_is_asked_once_a_second_whether_it_is_back(process: Process) -> None:
    """And for no turns: those would be handed out to nobody if it only hung."""
    process.departures(101.0)
    process.fail()
    for _ in range(70):
        asked = len(process.questions)
        process.departures(process.now + 0.1)
        if len(process.questions) > asked:
            process.fail()
    assert process.questions[2:] == [Question(0)] * len(process.questions[2:])
    assert 5 <= len(process.questions[2:]) <= 8
    assert process.news == ["away"]


def test_after_its_return_it_keeps_to_its_part_for_a_while(process: Process) -> None:
    """Others may not have noticed yet, and the keeper does not know them all again."""
    process.departures(101.0)
    process.fail()
    process.departures(103.0)
    assert process.questions[-1] == Question(0)
    process.answer()
    assert process.news == ["away", "back"]
    turn = process.turn()
    process.take(turn)
    back = process.now
    process.answer(process.now, processes=1)
    assert process.reserved.processes == 4
    assert process.take(turn) == pytest.approx(4 * INTERVAL, abs=4 * INTERVAL)
    process.dispatcher.drop(turn)
    assert process.dispatcher.rate is not None
    assert process.dispatcher.rate.interval == NEAR(4 * INTERVAL)
    process.take(process.turn(), back + 2.6)
    assert process.dispatcher.rate.interval == NEAR(INTERVAL)


def test_a_keeper_that_was_never_there_is_an_error_for_everybody_who_waits() -> None:
    """Each has an error of its own; half a second later it is tried again."""
    process = Process()
    waiting = [process.turn() for _ in range(3)]
    for turn in waiting:
        assert process.take(turn) > 0
    process.fail()
    assert process.dispatcher.to_wake(process.now) == [waiting[0]]
    errors = []
    for turn in waiting:
        with pytest.raises(ConfigurationError, match="nobody there") as caught:
            process.take(turn)
        errors.append(caught.value)
        process.dispatcher.drop(turn)
    assert len({id(error) for error in errors}) == 3
    assert process.take(process.turn(), process.now + 0.6) > 0
    assert len(process.questions) == 2


def test_a_first_answer_that_does_not_come_is_an_error() -> None:
    """After some seconds, whatever the connection does."""
    process = Process()
    turn = process.turn()
    assert process.take(turn) == NEAR(5.0)
    with pytest.raises(ConfigurationError, match=r"the keeper does not answer"):
        process.take(turn, process.now + 5.0)


def test_a_late_answer_is_a_return(process: Process) -> None:
    """What comes after the patience is at its end counts all the same."""
    process.departures(101.0)
    assert process.news == ["away"]
    process.answer(process.now)
    assert process.news == ["away", "back"]


def test_nobody_asks_while_the_service_is_down(process: Process) -> None:
    """In an outage turns are asked for when a probe is due, not before."""
    for _ in range(8):
        turn = process.turn()
        turn.pool.under_way.add(turn)
        process.dispatcher.answer(turn, "unavailable", process.now)
    assert process.dispatcher.outage.since is not None
    asked = len(process.questions)
    assert 0.4 < process.take(process.turn(), process.now) < math.inf
    assert len(process.questions) == asked
