"""Turns of a quota that several processes share: those that this process has reserved with the quota's keeper.

And what it does while the keeper is away: it goes on with its part of the rate. Arithmetic alone: time is an argument.
The keeper itself is in `redis_quota.py`; a process reserves one turn at a time, and whoever is first in line uses it.
"""

import math
import random
from dataclasses import dataclass
from typing import Literal

from opensearch_embed._dispatch.rate import SHARE_OF_RATE, Rate
from opensearch_embed.errors import ConfigurationError

PATIENCE_SECONDS = 0.5
"""A keeper that says nothing for so long is away."""

FIRST_PATIENCE_SECONDS = 5.0
"""The same for the first answer of all: without one nothing is known, and the call fails."""

PROBE_SECONDS = 1.0
"""How often it is asked whether it is back."""

RETURN_SECONDS = 2.5
"""After its return a process keeps to its part of the rate for so long: others may not have noticed yet."""

GOOD_FOR_SECONDS = 0.1
"""A turn that was not used for so long is void: kept ones would leave together one day."""

PROBLEM_SECONDS = 0.5
"""For so long a keeper that could not be reached the first time is not tried again."""

News = Literal["away", "back"]


@dataclass(frozen=True, slots=True)
class Question:
    """What the keeper is asked.

    Attributes:
        turns: How many turns to reserve; 0 asks whether it is there.
        express: For a query, which goes ahead of turns that other processes have reserved.
        within: Seconds; if the turn came no sooner, none is reserved.
    """

    turns: int
    express: bool = False
    within: float = math.inf


@dataclass(frozen=True, slots=True)
class Answer:
    """What the keeper says.

    Attributes:
        turns: When the turns are, on this process's own clock.
        processes: How many processes share the quota; 0 if that was not asked.
        seconds: How long it took to ask.
    """

    turns: tuple[float, ...] = ()
    processes: int = 0
    seconds: float = 0.0


class Reservations:
    """The turns of this process.

    Args:
        keeper: What the keeper is called in errors.
        rate: The rate that is shared.
        chance: Randomness, for tests.

    Attributes:
        rate: The rate that is shared; it is divided while the keeper is away.
        processes: How many processes share the quota, as was last seen.
    """

    def __init__(self, keeper: str, rate: Rate, chance: random.Random | None = None) -> None:
        self.processes = 1
        self._keeper = keeper
        self.rate = rate
        self._chance = chance or random.Random()
        self._interval = 1 / (SHARE_OF_RATE * rate.qps)
        self._turns: list[float] = []
        self._question: Question | None = None
        self._news: News | None = None
        self._asked_at: float | None = None
        self._asking_takes = 0.0
        self._known = False
        self._away = False
        self._probe_at = -math.inf
        self._careful_until: float | None = None
        self._problem: ConfigurationError | None = None
        self._problem_at = -math.inf
        self._no_sooner = -math.inf

    def ready_at(self) -> float:
        """Return when the next turn is; when to look again, while the keeper has not answered."""
        if self._away or self._problem is not None:
            return -math.inf
        if self._turns:
            return self._turns[0]
        if self._asked_at is None:
            return -math.inf
        return self._asked_at + (PATIENCE_SECONDS if self._known else FIRST_PATIENCE_SECONDS)

    def look(self, now: float, rate_ready_at: float, *, query: bool) -> None:
        """Find what is to be asked for whoever is first in line.

        Raises:
            ConfigurationError: The keeper has never been reached.
        """
        self._check(now)
        if self._careful_until is not None and now >= self._careful_until:
            self._careful_until = None
            self.rate.divide(1, now)
        good_for = GOOD_FOR_SECONDS + self.rate.interval
        self._turns = [turn for turn in self._turns if turn + good_for > now]
        if self._asked_at is not None:
            return
        if self._away:
            if now >= self._probe_at:
                self._ask(Question(0), now)
        elif not self._turns:
            # Asked while the turn before is hardly over, so that the answer is there in time.
            if rate_ready_at <= now + self.rate.interval:
                self._ask(Question(self._at_a_time(), query), now)
        elif query and self._turns[0] > now + self._interval and self._turns[0] != self._no_sooner:
            self._ask(Question(1, express=True, within=self._turns[0] - now), now)

    def depart(self) -> None:
        """Note that a request leaves."""
        if self._turns:
            self._turns.pop(0)

    def told(self, question: Question, answer: Answer, now: float) -> None:
        """Note what the keeper said."""
        self._asked_at = None
        if self._known:
            # The least of late: one slow answer is chance. The very first one had to connect.
            self._asking_takes = min(answer.seconds, 1.1 * self._asking_takes or answer.seconds)
        self._known = True
        if self._away:
            self._away = False
            self._news = "back"
            self._careful_until = now + RETURN_SECONDS
        if answer.processes:
            # Just after its return the keeper does not know all of them again.
            least = self.processes if self._careful_until is not None else 1
            self.processes = max(least, answer.processes)
        if question.turns and not answer.turns and self._turns:
            self._no_sooner = self._turns[0]
        self._turns = sorted((*self._turns, *answer.turns))

    def failed(self, error: ConfigurationError, now: float) -> None:
        """Note that the keeper could not be asked."""
        self._asked_at = None
        self._give_up(error, now)

    def _give_up(self, error: ConfigurationError, now: float) -> None:
        if self._known:
            self._leave(now)
        else:
            self._problem, self._problem_at = error, now

    def to_do(self) -> tuple[Question | None, News | None]:
        """Return what is to be asked now, and what is to be told; once."""
        question, self._question = self._question, None
        news, self._news = self._news, None
        return question, news

    def _check(self, now: float) -> None:
        if self._problem is not None and now > self._problem_at + PROBLEM_SECONDS:
            self._problem = None
        waits = self._asked_at is not None and not self._turns and not self._away and self._problem is None
        if waits and now >= self.ready_at():
            self._give_up(ConfigurationError(f"limiter: {self._keeper} does not answer. Is it running there?"), now)
        if self._problem is not None:
            # A new one for each caller: errors carry what their own call has done.
            raise ConfigurationError(str(self._problem)) from self._problem.__cause__

    def _leave(self, now: float) -> None:
        self._probe_at = now + PROBE_SECONDS * self._chance.uniform(0.8, 1.2)
        if not self._away:
            self._away = True
            self._news = "away"
            self._careful_until = None
            self._turns.clear()
            self.rate.divide(self.processes, now)

    def _ask(self, question: Question, now: float) -> None:
        self._question = question
        self._asked_at = now

    def _at_a_time(self) -> int:
        """Return how many turns to reserve: one, unless asking takes longer than a turn of this process."""
        return min(100, max(1, math.ceil(2 * self._asking_takes / (self.processes * self._interval))))
