"""What is tried again, after how long, until when: tables, and no clock."""

import random
from typing import Any

import pytest

from opensearch_embed._dispatch.retry import Attempts, RetryPolicy, backoff, is_retried, outcome_of
from opensearch_embed.errors import (
    ApiError,
    AuthenticationError,
    ConnectFailed,
    InvalidRequest,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
    TimedOut,
    TransportError,
)

UNTRUSTED = ConnectFailed()
UNTRUSTED.permanent = True
ALLOCATION = RateLimited(code="Throttling.AllocationQuota")

# Error, whether it is retried, what it says of the service.
KINDS = [
    (RateLimited(), True, "throttled"),
    (ServiceUnavailable(), True, "unavailable"),
    (TransportError(), True, "unavailable"),
    (ConnectFailed(), True, "unavailable"),
    (TimedOut(), True, "unavailable"),
    (UNTRUSTED, False, "other"),
    (ResponseError(), True, "other"),
    (InvalidRequest(), False, "other"),
    (AuthenticationError(), False, "other"),
    (QuotaExhausted(), False, "other"),
    (ApiError(), False, "other"),
]


@pytest.mark.parametrize(("error", "retried", "outcome"), KINDS)
def test_what_is_retried_and_what_it_says(error: Any, retried: bool, outcome: str) -> None:
    """What may succeed later is sent again; what is nobody's fault but the service's counts for an outage."""
    assert is_retried(error) is retried
    assert outcome_of(error) == outcome
    assert outcome_of(None) == "success"


# Error, attempt, the least and the most that it waits.
WAITS = [
    (ServiceUnavailable(), 1, 0.05, 0.5),
    (ServiceUnavailable(), 3, 0.05, 2.0),
    (ServiceUnavailable(), 50, 0.05, 10.0),
    (RateLimited(), 1, 0.05, 0.25),
    (RateLimited(), 50, 0.05, 2.0),
    (ALLOCATION, 1, 1.0, 2.0),
    (ALLOCATION, 50, 1.0, 30.0),
    (RateLimited(retry_after=3.5), 9, 3.5, 3.5),
    (ServiceUnavailable(retry_after=0.0), 9, 0.05, 0.05),
]


@pytest.mark.parametrize(("error", "attempt", "least", "most"), WAITS)
def test_how_long_it_waits(error: Any, attempt: int, least: float, most: float) -> None:
    """Backoff with jitter, up to a limit; or what `Retry-After` asks for."""
    random.seed(3)
    waits = [backoff(error, attempt) for _ in range(300)]
    assert least <= min(waits) <= max(waits) <= most
    assert max(waits) >= least + (most - least) * 0.9


def attempts(max_attempts: int = 10, retry_timeout: float = 60.0, timeout: float = 30.0) -> Attempts:
    """The attempts of a batch that begins at 100."""
    made = Attempts(RetryPolicy(max_attempts, retry_timeout, timeout), 100.0)
    made.begin(100.0)
    return made


def test_max_attempts_counts_what_is_the_batchs_own() -> None:
    """Being throttled and an outage do not count; the error says how often it was sent."""
    batch = attempts(max_attempts=3)
    for number in range(20):
        batch.after((RateLimited(), ServiceUnavailable())[number % 2], 100.5, outage=number % 2 == 1)
        batch.begin(100.5)
    batch.after(ServiceUnavailable(), 100.5, outage=False)
    batch.begin(100.5)
    batch.after(ServiceUnavailable(), 100.5, outage=False)
    batch.begin(100.5)
    last = ServiceUnavailable("the last one")
    with pytest.raises(ServiceUnavailable) as caught:
        batch.after(last, 101.0, outage=False)
    assert caught.value is last
    assert last.__notes__ == ["Sent 23 times in 1.0 seconds."]


def test_in_an_outage_nobody_backs_off() -> None:
    """The dispatcher says who finds out whether it is over."""
    assert attempts().after(ServiceUnavailable(), 101.0, outage=True) == 0.0
    assert attempts().after(ServiceUnavailable(retry_after=2.0), 101.0, outage=True) == 2.0


def test_a_wait_that_does_not_fit_fails_at_once() -> None:
    """And the error says both figures."""
    error = RateLimited("Slow down.", retry_after=50.0)
    with pytest.raises(RateLimited):
        attempts(retry_timeout=20).after(error, 112.0, outage=False)
    assert str(error) == (
        "Slow down. The service asks to wait 50 seconds (Retry-After); of retry_timeout=20 seconds are 8.0 left."
    )


# Error before, seconds that the last attempt had, whether the error before is the one that is raised.
CUT_OFF = [
    (RateLimited("Slow down."), 0.05, True),
    (ServiceUnavailable("Busy."), 0.05, True),
    (RateLimited("Slow down."), 5.0, False),
    (TimedOut("No answer."), 0.05, False),
    (ResponseError("No vectors."), 0.05, True),
    (ConnectFailed("No connection."), 0.05, True),
]


@pytest.mark.parametrize(("before", "left", "kept"), CUT_OFF)
def test_an_attempt_that_was_hardly_begun_hides_nothing(before: Any, left: float, kept: bool) -> None:
    """What was the matter is told, and not the silence of the moment that was left of `retry_timeout`."""
    batch = attempts(retry_timeout=20)
    batch.after(before, 101.0, outage=False)
    batch.begin(120.0 - left)
    cut = TimedOut("cut off")
    with pytest.raises(type(before) if kept else TimedOut) as caught:
        batch.after(cut, 120.0, outage=False)
    assert (caught.value is before) == kept
    assert caught.value.__notes__ == ["Sent 2 times in 20.0 seconds."]


def test_an_attempt_near_the_end_gets_what_is_left() -> None:
    """Any attempt, the first too, has no more than what is left of `retry_timeout`; all of it without retries."""
    assert Attempts(RetryPolicy(10, 20.0, 30.0), 100.0).begin(100.0) == 20.0
    assert Attempts(RetryPolicy(10, 0.0, 30.0), 100.0).begin(100.0) == 30.0
    batch = Attempts(RetryPolicy(10, 40.0, 30.0), 100.0)
    assert batch.begin(100.0) == 30.0
    assert batch.begin(105.0) == 30.0
    assert batch.begin(130.0) == 10.0
    assert batch.deadline == 140.0


def test_what_is_not_retried_is_raised_at_once() -> None:
    """As it is."""
    error = InvalidRequest("no")
    with pytest.raises(InvalidRequest) as caught:
        attempts().after(error, 100.1, outage=False)
    assert caught.value is error
    assert not hasattr(error, "__notes__")
