"""When the next request may leave: who shares a rate, who waits, who gives up. Nothing here waits for the clock."""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pyrate_limiter import InMemoryBucket, Limiter, Rate

from opensearch_embed._pace import Pace, Unlimited, UserLimiter
from opensearch_embed._schedule import Schedule, token_rate
from opensearch_embed._shared import pace_for
from opensearch_embed.errors import ConfigurationError
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings, resolve_settings


def one_an_hour() -> InMemoryBucket:
    """Room for one turn an hour."""
    return InMemoryBucket([Rate(1, 3_600_000)])


class Script:
    """A limiter that answers as told, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.patience: list[float] = []

    def try_acquire(self, _name: str, weight: int = 1, *, timeout: float) -> Any:
        """Answer as told."""
        assert weight == 1
        self.patience.append(timeout)
        return self._answers.pop(0)

    async def try_acquire_async(self, *args: Any, **kwargs: Any) -> Any:
        """Answer as told."""
        return self.try_acquire(*args, **kwargs)


@pytest.fixture(params=["sync", "async"])
def take(request: pytest.FixtureRequest) -> Callable[..., bool]:
    """Take a turn, sync or async: `take(pace, stopped=…, seconds=…, stop_after=…)`."""

    def invoke(
        pace: Pace, *, seconds: float = math.inf, stopped: bool = False, stop_after: float | None = None
    ) -> bool:
        stop = threading.Event()
        if stopped:
            stop.set()
        if stop_after is not None:
            threading.Timer(stop_after, stop.set).start()
        return pace.take_turn(stop, seconds)

    async def ainvoke(
        pace: Pace, *, seconds: float = math.inf, stopped: bool = False, stop_after: float | None = None
    ) -> bool:
        stop = asyncio.Event()
        if stopped:
            stop.set()
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, stop.set)
        return await pace.atake_turn(stop, seconds)

    if request.param == "sync":
        return invoke
    return lambda *args, **kwargs: asyncio.run(ainvoke(*args, **kwargs))


def test_without_a_limit_everybody_goes(take: Callable[..., bool]) -> None:
    """No rate, no waiting."""
    pace = Unlimited()
    assert all(take(pace) for _ in range(100))


@pytest.mark.parametrize("pace", [Unlimited(), Schedule(1000), UserLimiter(Script())], ids=lambda p: type(p).__name__)
def test_a_stopped_job_gets_no_turn(take: Callable[..., bool], pace: Pace) -> None:
    """Who has stopped gets none, limit or not."""
    assert not take(pace, stopped=True)


def test_a_limiter_is_asked_until_it_grants(take: Callable[..., bool]) -> None:
    """A turn is waited for in slices, so that a stop is seen soon."""
    script = Script(False, False, True)
    assert take(UserLimiter(script))
    assert len(script.patience) == 3
    assert all(0 < patience <= 0.2 for patience in script.patience)


@pytest.mark.parametrize("make_pace", [lambda: Schedule(1 / 60), lambda: UserLimiter(Limiter(one_an_hour()))])
def test_a_stop_ends_the_waiting(take: Callable[..., bool], make_pace: Callable[[], Pace]) -> None:
    """Who stops while waiting for a turn that is far away gets none, and is not kept."""
    pace = make_pace()
    assert take(pace)
    begun = time.monotonic()
    assert not take(pace, stop_after=0.02)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
def test_no_turn_after_the_time(take: Callable[..., bool], seconds: float) -> None:
    """When the time has passed, the limiter is not asked any more."""
    script = Script()
    assert not take(UserLimiter(script), seconds=seconds)
    assert script.patience == []


def test_a_turn_is_not_waited_for_past_the_time(take: Callable[..., bool]) -> None:
    """The limiter is given no more patience than there is time."""
    script = Script(True)
    assert take(UserLimiter(script), seconds=0.05)
    assert 0 < script.patience[0] <= 0.05


def test_a_rate_lets_few_go_at_once(take: Callable[..., bool]) -> None:
    """With one request a minute, the first goes at once and the next does not get a turn in no time."""
    pace = Schedule(1 / 60)
    assert take(pace, seconds=5)
    assert not take(pace, seconds=0.01)


@pytest.mark.parametrize(("qps", "burst"), [(0.1, 3), (10, 3), (50, 6), (1000, 120)])
def test_a_rate_has_a_small_burst(qps: float, burst: int) -> None:
    """One and a half requests, or what 60 ms are worth, in tokens of half a request."""
    assert token_rate(qps).burst == burst


@pytest.mark.parametrize("qps", [0.001, 0.1, 0.9, 1, 1.5, 7, 50, 1000, 1e6])
def test_any_rate_is_possible(take: Callable[..., bool], qps: float) -> None:
    """Whatever the rate, there is a first turn."""
    assert take(Schedule(qps), seconds=5)


def test_turns_come_also_while_others_use_the_quota(take: Callable[..., bool]) -> None:
    """Refusals move turns about, and lose none."""
    pace = Schedule(1000)
    for _ in range(3):
        pace.saw(throttled=True)
    assert [take(pace, seconds=5) for _ in range(20)] == [True] * 20


def test_no_turn_comes_too_late_where_too_many_just_left(take: Callable[..., bool]) -> None:
    """A turn is booked in time, but a second's worth of requests has just left: there is none in time after all."""
    pace = Schedule(1.0)
    now = int(time.monotonic() * 1000)
    pace._departures.leave(now, now)
    assert not take(pace, seconds=0.2)


def test_the_users_limiter_is_asked(take: Callable[..., bool]) -> None:
    """A limiter of pyrate-limiter counts one for each turn."""
    bucket = InMemoryBucket([Rate(3, 1000_000)])
    pace = UserLimiter(Limiter(bucket))
    assert [take(pace, seconds=5) for _ in range(3)] == [True] * 3
    assert bucket.count() == 3
    assert not take(pace, seconds=0.01)


def settings_of(endpoint: str = "https://a", model: str = "ops-text-embedding-001") -> Settings:
    """Settings of a client."""
    return resolve_settings(endpoint=endpoint, api_key="OS-1", model=model)


def test_clients_that_are_alike_share_a_pace() -> None:
    """Same endpoint, model and rate, whether said as int or float: one pace. Anything else: another."""
    pace = pace_for(settings_of(), Options(qps=50))
    assert pace_for(settings_of("a/"), Options(qps=50.0, max_concurrency=3)) is pace
    assert pace_for(settings_of("https://b"), Options(qps=50)) is not pace
    assert pace_for(settings_of(model="ops-text-embedding-002"), Options(qps=50)) is not pace
    assert pace_for(settings_of(), Options(qps=49)) is not pace
    assert isinstance(pace, Schedule)


def test_no_rate_and_a_limiter_of_ones_own() -> None:
    """Without a rate there is no limit; a limiter goes before any rate."""
    assert isinstance(pace_for(settings_of(), Options(qps=None)), Unlimited)
    assert isinstance(pace_for(settings_of(), Options(limiter=Script())), UserLimiter)


async def yes() -> bool:
    """Answer True, once it is awaited."""
    return True


def test_an_async_limiter_cannot_pace_threads() -> None:
    """An answer that must be awaited looks like a yes: it is refused, with the way out, and leaves no warning."""
    with pytest.raises(ConfigurationError) as caught:
        UserLimiter(Script(yes())).take_turn(threading.Event())
    for words in ("asynchronous", "aembed", "sync bucket"):
        assert words in str(caught.value)


def test_an_error_of_the_limiter_leaves_no_lock() -> None:
    """A limiter that raises, as one over a network may, does not keep the next thread waiting."""

    class Broken(Script):
        def try_acquire(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

    broken = UserLimiter(Broken())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            broken.take_turn(threading.Event(), 5)


def test_who_waits_for_another_gives_up_in_time() -> None:
    """A thread whose turn to ask does not come in its time asks nothing."""
    inside, leave = threading.Event(), threading.Event()

    class Slow(Script):
        def try_acquire(self, *_: Any, **__: Any) -> Any:
            self.patience.append(0)
            inside.set()
            leave.wait(30)
            return True

    slow = Slow()
    pace = UserLimiter(slow)
    other = threading.Thread(target=pace.take_turn, args=[threading.Event()])
    other.start()
    inside.wait(30)
    try:
        assert not pace.take_turn(threading.Event(), 0.01)
        assert len(slow.patience) == 1
    finally:
        leave.set()
        other.join()
