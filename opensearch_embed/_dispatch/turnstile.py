"""One dispatcher behind one lock, for all clients of a process that share a rate; and who is woken when it changes.

A finaliser or a signal may come in the middle of anything, also of what holds the lock. So `drop` never waits for it,
and the thread that holds it never asks for it again: what is to be done goes into a queue, which is emptied when the
lock is free. Nothing is called back under the lock.
"""

import functools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from opensearch_embed._dispatch.dispatcher import LEAVES_NOW, Dispatcher, Outcome
from opensearch_embed._dispatch.lanes import Turn
from opensearch_embed._dispatch.rate import Rate
from opensearch_embed._dispatch.redis_quota import RedisQuota
from opensearch_embed._dispatch.reservations import News, Question, Reservations
from opensearch_embed._dispatch.threads import workers
from opensearch_embed._redis_url import RedisUrl
from opensearch_embed.errors import ConfigurationError
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings

logger = logging.getLogger("opensearch_embed")
QUIET_SECONDS = 60.0
"""After a warning, later ones of its kind are of level INFO for so long."""

T = TypeVar("T")


class Turnstile:
    """Lets requests leave, one after another. Safe to share between threads, event loops and finalisers.

    Attributes:
        limiter: The user's own limiter, if there is one, which is asked for each turn.
    """

    def __init__(self, qps: float | None, limiter: Any = None) -> None:
        self.limiter = limiter
        self._dispatcher = Dispatcher(qps, limited=limiter is not None)
        self._lock = threading.Lock()
        self._holders: set[int] = set()  # the thread that holds the lock, and those that are about to
        self._later: deque[Callable[[float], object]] = deque()
        self._quiet_until: dict[str, float] = {}

    def take(self, turn: Turn) -> float:
        """Take a turn, if it is due. See `Dispatcher.take`."""
        if self._is_mine:
            return LEAVES_NOW  # a finaliser that embeds must not wait for what waits for it
        return self._locked(lambda now: self._dispatcher.take(turn, now))

    def permit(self, granted: bool) -> None:
        """Note what the limiter said."""
        self._now_or_later(lambda _: self._dispatcher.permit(granted))

    def answer(self, turn: Turn, outcome: Outcome, *, keep: bool = False) -> bool:
        """Note how a request ended; tell whether it found an outage."""
        before = self._pace()
        found = self._now_or_later(lambda now: self._dispatcher.answer(turn, outcome, now, keep=keep))
        self._tell(before)
        return before[0] if found is None else found

    def drop(self, turn: Turn) -> None:
        """Forget a turn, wherever it is. Waits for nothing."""
        self._later.append(functools.partial(self._forget, turn))
        self._catch_up()

    def close(self) -> None:
        """Close what is idle."""

    @property
    def _is_mine(self) -> bool:
        """Whether this thread holds the lock, and a finaliser or a signal has come in between."""
        return threading.get_ident() in self._holders and self._lock.locked()

    def _now_or_later(self, operation: Callable[[float], T]) -> T | None:
        if self._is_mine:
            self._later.append(operation)
            return None
        return self._locked(operation)

    def _locked(self, operation: Callable[[float], T]) -> T:
        found, wake = self._alone(operation)
        self._wake(wake)
        self._catch_up()
        result: T = found
        return result

    def _catch_up(self) -> None:
        """Do what was put off, unless somebody holds the lock, who looks once more when it is free again."""
        while self._later and not self._lock.locked():
            self._wake(self._alone(None)[1])

    def _alone(self, operation: Callable[[float], T] | None) -> tuple[Any, list[Turn]]:
        """Do something under the lock; return what came of it, and who has come to the front."""
        me = threading.get_ident()
        first = me not in self._holders
        try:
            # Before the lock is taken and until it is free again: a signal's handler may run between any two steps.
            self._holders.add(me)
            with self._lock:  # which alone takes a lock and gives it back, whatever interrupts
                now = time.monotonic()
                while self._later:
                    self._later.popleft()(now)
                result = None if operation is None else operation(now)
                return result, self._dispatcher.to_wake(now)
        finally:
            if first:
                self._holders.discard(me)

    def _wake(self, turns: list[Turn]) -> None:
        for turn in turns:
            if not turn.wake():  # its event loop is closed
                self._later.append(functools.partial(self._forget, turn))

    def _forget(self, turn: Turn, _: float) -> None:
        self._dispatcher.drop(turn)

    def _pace(self) -> tuple[bool, float]:
        rate = self._dispatcher.rate
        return self._dispatcher.outage.since is not None, 0.0 if rate is None else rate.current

    def _tell(self, before: tuple[bool, float]) -> None:
        """Log a change of pace."""
        (was_down, was_rate), (down, rate) = before, self._pace()
        if down and not was_down:
            self.warn(
                "pace", "The service is unreachable or refuses everything: two requests a second until it is back."
            )
        elif was_down and not down:
            logger.info("The service is back.")
        elif rate < was_rate:
            self.warn(
                "pace",
                f"The service refuses requests (429): {rate:.1f} requests a second, until they go through again.",
            )

    def warn(self, kind: str, message: str) -> None:
        """Log what slows jobs down: of each kind, a warning the first time in a while."""
        now = time.monotonic()
        level = logging.INFO if now < self._quiet_until.get(kind, now) else logging.WARNING
        if level == logging.WARNING:
            self._quiet_until[kind] = now + QUIET_SECONDS
        logger.log(level, message)


class SharedTurnstile(Turnstile):
    """Lets requests leave at the turns that it reserves in a quota of several processes.

    Reserving is done on a worker thread: no lock is held meanwhile, and no event loop waits.
    """

    def __init__(self, qps: float, quota: RedisQuota) -> None:
        super().__init__(qps)
        self._reserved = Reservations(f"Redis at {quota.url.place}", Rate(qps))
        self._dispatcher = Dispatcher(qps, reserved=self._reserved)
        self._quota = quota
        self._qps = qps
        self._pid = os.getpid()
        self._last_problem = ""
        self._away_quiet_until = -QUIET_SECONDS

    def take(self, turn: Turn) -> float:
        """Take a turn, if it is due. See `Dispatcher.take`."""
        if self._is_mine:
            return LEAVES_NOW
        return self._shared(lambda now: self._dispatcher.take(turn, now))

    def close(self) -> None:
        """Close the connection to the quota's keeper, if it is idle. The next question opens it again."""
        if self._pid == os.getpid():
            self._quota.close()

    def _shared(self, operation: Callable[[float], T]) -> T:
        """Do what needs the lock; then ask for turns, and tell what has changed."""
        result, (question, news) = self._locked(lambda now: (operation(now), self._reserved.to_do()))
        if news is not None:
            self._report(news, self._reserved.processes)
        if question is not None and not workers().run(functools.partial(self._ask, question)):
            self._ask(question)
        return result

    def _ask(self, question: Question) -> None:
        reserved = self._reserved
        try:
            answer = self._quota.ask(question)
        except ConfigurationError as error:
            problem = error
            self._last_problem = str(error)
            self._shared(lambda now: reserved.failed(problem, now))
        else:
            self._last_problem = ""
            self._shared(lambda now: reserved.told(question, answer, now))

    def _report(self, news: News, processes: int) -> None:
        place = self._quota.url.place
        if news == "back":
            logger.info("Redis at %s is back: the processes share %g requests a second again.", place, self._qps)
            return
        now = time.monotonic()
        level = logging.INFO if now < self._away_quiet_until else logging.WARNING
        self._away_quiet_until = now + QUIET_SECONDS
        logger.log(
            level,
            "Redis at %s does not answer: until it does, this process goes on at %.3g requests a second, "
            "as one of %d that share %g.%s",
            *(place, self._qps / processes, processes, self._qps, self._last_problem and f" {self._last_problem}"),
        )


# Kept for good: a client that is made after another one is gone must not begin with a rate of its own.
_turnstiles: dict[tuple[object, ...], Turnstile] = {}
_of_limiters: weakref.WeakValueDictionary[tuple[object, ...], Turnstile] = weakref.WeakValueDictionary()
_of_process = os.getpid()


def turnstile_for(settings: Settings, options: Options) -> Turnstile:
    """Return the turnstile that all clients of this process alike share."""
    global _of_process
    if _of_process != os.getpid():
        # A forked child starts afresh: another thread of the parent may have held a lock at that moment.
        _turnstiles.clear()
        _of_limiters.clear()
        _of_process = os.getpid()
    place = settings.endpoint, settings.model.service_id
    if isinstance(options.limiter, RedisUrl) and options.qps is not None:
        qps = float(options.qps)
        return _turnstiles.setdefault(
            (*place, qps, options.limiter), SharedTurnstile(qps, RedisQuota(options.limiter, *place, qps))
        )
    if options.limiter is not None:
        # The turnstile keeps its limiter, so that the id is not used again while it is there.
        return _of_limiters.setdefault((*place, id(options.limiter)), Turnstile(None, options.limiter))
    rate = None if options.qps is None else float(options.qps)
    return _turnstiles.setdefault((*place, rate), Turnstile(rate))
