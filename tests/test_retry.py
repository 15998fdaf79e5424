"""What is tried again, after how long, until when: decided by table, without waiting."""

import asyncio
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from opensearch_embed._pace import Unlimited
from opensearch_embed._retry import (
    BACKOFF,
    QUOTA_BACKOFF,
    SHORTEST_WAIT,
    Attempts,
    RetryPolicy,
    is_retried,
    wait_seconds,
)
from opensearch_embed.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    ConnectFailed,
    InputError,
    InvalidRequest,
    OpenSearchEmbedError,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
    TimedOut,
    TransportError,
)


def permanent() -> TransportError:
    """A transport error that trying again cannot mend."""
    error = ConnectFailed("its certificate is refused")
    error.permanent = True
    return error


RETRIED = [
    (RateLimited(), True),
    (RateLimited(code="Throttling.AllocationQuota"), True),
    (ServiceUnavailable(), True),
    (TransportError(), True),
    (ConnectFailed(), True),
    (TimedOut(), True),
    (ResponseError(), True),
    (permanent(), False),
    (QuotaExhausted(), False),
    (AuthenticationError(), False),
    (InvalidRequest(), False),
    (ApiError(), False),
    (ConfigurationError(), False),
    (InputError(), False),
    (OpenSearchEmbedError(), False),
    (ValueError(), False),
    (OSError(), False),
    (KeyboardInterrupt(), False),
    (asyncio.CancelledError(), False),
]


@pytest.mark.parametrize(("error", "retried"), RETRIED, ids=lambda value: repr(value)[:60])
def test_what_is_tried_again(error: BaseException, retried: bool) -> None:
    """Throttling, faults of the service, no answer, and a damaged answer are tried again; nothing else is."""
    assert is_retried(error) is retried


def state(error: BaseException | None, attempt: int = 1, upcoming_sleep: float = 0.0) -> tenacity.RetryCallState:
    """What tenacity knows after an attempt that failed so."""
    made = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    made.attempt_number = attempt
    made.upcoming_sleep = upcoming_sleep
    if error is not None:
        made.outcome = tenacity.Future.construct(attempt, error, has_exception=True)
    return made


# What the service asks for, how long the wait is.
ASKED = [(7.5, 7.5), (1, 1.0), (120.0, 120.0), (0.06, 0.06), (0.01, SHORTEST_WAIT), (0.0, SHORTEST_WAIT)]


@pytest.mark.parametrize(("asked", "seconds"), ASKED)
@pytest.mark.parametrize("kind", [RateLimited, ServiceUnavailable])
@pytest.mark.parametrize("attempt", [1, 50])
def test_the_service_is_given_the_time_it_asks_for(
    kind: type[ApiError], attempt: int, asked: float, seconds: float
) -> None:
    """Retry-After counts as it is, for every attempt; no wait is so short that it would be a busy loop."""
    assert wait_seconds(state(kind(retry_after=asked), attempt)) == seconds


# Error, attempt, the shortest wait, the longest.
BACKOFFS: list[tuple[BaseException | None, int, float, float]] = [
    (ServiceUnavailable(), 1, 0.05, 0.5),
    (ServiceUnavailable(), 2, 0.05, 1.0),
    (RateLimited(), 3, 0.05, 2.0),
    (RateLimited(code="Throttling.RateQuota"), 4, 0.05, 4.0),
    (TimedOut(), 6, 0.05, 10.0),
    (ResponseError(), 5000, 0.05, 10.0),
    (None, 1, 0.05, 0.5),
    (RateLimited(code="Throttling.AllocationQuota"), 1, 1.0, 2.0),
    (RateLimited(code="Throttling.AllocationQuota"), 3, 1.0, 8.0),
    (RateLimited(code="Throttling.AllocationQuota"), 5000, 1.0, 30.0),
]


@pytest.mark.parametrize(("error", "attempt", "shortest", "longest"), BACKOFFS)
def test_backoff_grows_and_varies(error: BaseException | None, attempt: int, shortest: float, longest: float) -> None:
    """Without a Retry-After, waits are random within a bound that doubles up to ten seconds, or thirty for a quota."""
    waits = [wait_seconds(state(error, attempt)) for _ in range(500)]
    assert shortest <= min(waits)
    assert max(waits) <= longest
    assert max(waits) - min(waits) > (longest - shortest) / 2


def test_backoff_stays_within_its_bounds() -> None:
    """Both backoffs are those whose bounds the table above has."""
    assert (BACKOFF.min, BACKOFF.max) == (SHORTEST_WAIT, 10)
    assert (QUOTA_BACKOFF.min, QUOTA_BACKOFF.max) == (1, 30)


def attempts(
    max_attempts: int = 3,
    retry_timeout: float = 1e6,
    stop: Any = None,
    pace: Any = None,
    on_retry: Callable[[], None] = lambda: None,
) -> Attempts[Any]:
    """Attempts that no clock of this test can end, unless it is said."""
    return Attempts(RetryPolicy(max_attempts, retry_timeout), pace or Unlimited(), stop or threading.Event(), on_retry)


THROTTLED, FAILED = RateLimited(), ServiceUnavailable()

# max_attempts, the errors of the attempts so far, whether there is no further one after each.
COUNTED: list[tuple[int, list[BaseException], list[bool]]] = [
    (1, [FAILED], [True]),
    (2, [FAILED, FAILED], [False, True]),
    (3, [FAILED, ResponseError(), TimedOut()], [False, False, True]),
    (1, [THROTTLED] * 20, [False] * 20),
    (2, [THROTTLED, FAILED, THROTTLED, THROTTLED, FAILED], [False, False, False, False, True]),
]


@pytest.mark.parametrize(("max_attempts", "errors", "over"), COUNTED)
def test_only_failures_count_as_attempts(max_attempts: int, errors: list[BaseException], over: list[bool]) -> None:
    """A batch is sent max_attempts times; being throttled is no failure, so for it the time alone counts."""
    batch = attempts(max_attempts)
    assert [batch.is_over(state(error, number)) for number, error in enumerate(errors, 1)] == over


@pytest.mark.parametrize("error", [THROTTLED, FAILED])
@pytest.mark.parametrize(("retry_timeout", "sleep", "over"), [(1000, 10, False), (1000, 1001, True), (0, 0, True)])
def test_no_wait_goes_past_the_time(error: BaseException, retry_timeout: float, sleep: float, over: bool) -> None:
    """A wait that would end after retry_timeout is not begun, throttled or not; retry_timeout=0 means no retries."""
    assert attempts(99, retry_timeout).is_over(state(error, upcoming_sleep=sleep)) is over


def test_a_stopped_job_has_no_further_attempts() -> None:
    """When another batch has failed for good, this one is not tried again."""
    stop = threading.Event()
    batch = attempts(stop=stop)
    assert not batch.is_over(state(THROTTLED))
    stop.set()
    assert batch.is_over(state(THROTTLED))


def test_an_attempt_without_an_outcome_is_a_failure() -> None:
    """Tenacity's state may have no outcome; that ends in no exception of ours."""
    assert attempts(1).is_over(state(None))


class Turns:
    """A pace that hands out turns as told, and remembers how long each was waited for at most."""

    def __init__(self, granted: bool = True) -> None:
        self.granted = granted
        self.patience: list[float] = []

    def take_turn(self, _stop: Any, seconds: float) -> bool:
        """Answer as told."""
        self.patience.append(seconds)
        return self.granted

    async def atake_turn(self, _stop: Any, seconds: float) -> bool:
        """Answer as told."""
        self.patience.append(seconds)
        return self.granted


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run attempts whose outcomes are given, sync or async: `run(outcomes, max_attempts=…)`."""

    def play(outcomes: list[Any], **settings: Any) -> Any:
        left = iter(outcomes)

        def attempt(word: str) -> Any:
            assert word == "word"
            outcome = next(left)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        async def aattempt(word: str) -> Any:
            return attempt(word)

        async def aplay() -> Any:
            return await attempts(**settings, stop=asyncio.Event()).arun(aattempt, "word")

        if request.param == "sync":
            return attempts(**settings).run(attempt, "word")
        return asyncio.run(aplay())

    return play


def soon() -> RateLimited:
    """An error after which the next attempt is due at once."""
    return RateLimited(retry_after=0)


def test_the_first_answer_counts(run: Callable[..., Any]) -> None:
    """An attempt that succeeds is the last, and its first turn was taken before."""
    turns, retries = Turns(), [0]
    assert run(["vectors", "more"], pace=turns, on_retry=lambda: retries.append(1)) == "vectors"
    assert (turns.patience, retries) == ([], [0])


def test_each_further_attempt_takes_a_turn(run: Callable[..., Any]) -> None:
    """A retry waits, takes its turn within the time that is left, and is counted, before it is sent."""
    turns, retries = Turns(), []
    assert (
        run([soon(), soon(), "vectors"], pace=turns, on_retry=lambda: retries.append(1), retry_timeout=500) == "vectors"
    )
    assert len(turns.patience) == len(retries) == 2
    assert 400 < turns.patience[1] < turns.patience[0] < 500


def test_the_last_error_is_raised_as_it_is(run: Callable[..., Any]) -> None:
    """When the attempts are used up, the last error comes out itself, and not tenacity's; it says how often it was."""
    errors = [ServiceUnavailable(str(number), retry_after=0) for number in range(3)]
    with pytest.raises(ServiceUnavailable) as caught:
        run([*errors, "never"], max_attempts=3)
    assert caught.value is errors[2]
    [note] = caught.value.__notes__
    assert re.fullmatch(r"Sent 3 times in \d+\.\d seconds\.", note)
    assert [hasattr(error, "__notes__") for error in errors] == [False, False, True]


def test_a_single_attempt_is_no_news(run: Callable[..., Any]) -> None:
    """An error that was met once says nothing of attempts."""
    with pytest.raises(ServiceUnavailable) as caught:
        run([ServiceUnavailable("only", retry_after=0)], max_attempts=1)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("error", [InvalidRequest(), permanent(), ZeroDivisionError()], ids=repr)
def test_a_fatal_error_ends_it_at_once(run: Callable[..., Any], error: Exception) -> None:
    """What trying again cannot mend is raised after one attempt."""
    with pytest.raises(type(error)) as caught:
        run([error, "never"])
    assert caught.value is error


def test_without_a_turn_the_error_stands(run: Callable[..., Any]) -> None:
    """If the time ends, or the job stops, while a turn is waited for, nothing is sent and the last error is raised."""
    error, retries = soon(), []
    with pytest.raises(RateLimited) as caught:
        run([error, "never"], pace=Turns(granted=False), on_retry=lambda: retries.append(1))
    assert caught.value is error
    assert retries == []


def test_a_stop_ends_a_wait_at_once() -> None:
    """A thread that waits to retry is woken when its job stops, however long the wait would have been."""
    stop = threading.Event()

    def attempt() -> None:
        threading.Timer(0.02, stop.set).start()
        raise RateLimited(retry_after=3000)

    begun = time.monotonic()
    with pytest.raises(RateLimited):
        attempts(stop=stop).run(attempt)
    assert time.monotonic() - begun < 30


async def test_a_stop_ends_a_tasks_wait_at_once() -> None:
    """A task that waits to retry is woken when its job stops, however long the wait would have been."""
    stop = asyncio.Event()

    async def attempt() -> None:
        asyncio.get_running_loop().call_later(0.02, stop.set)
        raise RateLimited(retry_after=3000)

    async with asyncio.timeout(30):
        with pytest.raises(RateLimited):
            await attempts(stop=stop).arun(attempt)
