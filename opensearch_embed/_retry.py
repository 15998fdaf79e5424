"""What is tried again, after how long, until when. The same rules serve the sync and the async client.

This file does not know how a request is sent. One batch has two limits, whichever comes first: `max_attempts`, and
`retry_timeout` seconds from its first attempt. For `RateLimited` only the time counts: being throttled is no failure.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tenacity

from opensearch_embed._pace import Pace, StopT, stopped_within
from opensearch_embed.errors import RateLimited, ResponseError, ServiceUnavailable, TransportError

SHORTEST_WAIT = 0.05
BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=10, min=SHORTEST_WAIT)
QUOTA_BACKOFF = tenacity.wait_random_exponential(multiplier=2, max=30, min=1)
"""For a quota over a period, such as tokens a minute, which takes longer to clear than a rate."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits for every batch of one client."""

    max_attempts: int
    retry_timeout: float


def is_retried(error: BaseException) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(error, TransportError):
        return not error.permanent
    return isinstance(error, (RateLimited, ServiceUnavailable, ResponseError))


def wait_seconds(state: tenacity.RetryCallState) -> float:
    """Return how long to wait after a failed attempt: what the service asks, else backoff with jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        return max(float(asked), SHORTEST_WAIT)
    slowly = isinstance(error, RateLimited) and "AllocationQuota" in (error.code or "")
    return (QUOTA_BACKOFF if slowly else BACKOFF)(state)


class Attempts(Generic[StopT]):
    """The attempts of one batch. The first has its turn already; each further one waits, and takes a turn again.

    Args:
        policy: The limits.
        pace: Hands out turns.
        stop: Ends a wait at once, and the attempts with it.
        on_retry: Called before each further attempt.
    """

    def __init__(self, policy: RetryPolicy, pace: Pace, stop: StopT, on_retry: Callable[[], None]) -> None:
        self._policy = policy
        self._pace = pace
        self._stop: StopT = stop
        self._on_retry = on_retry
        self._deadline = time.monotonic() + policy.retry_timeout
        self._failures = 0
        self._error: BaseException | None = None
        self._rules: dict[str, Any] = {
            "retry": tenacity.retry_if_exception(is_retried),
            "wait": wait_seconds,
            "stop": self.is_over,
            "reraise": True,
        }

    def run(self: "Attempts[threading.Event]", attempt: Callable[..., T], *args: Any) -> T:
        """Return what the first attempt that succeeds returns, or raise the error of the last one."""
        return tenacity.Retrying(sleep=self._wait, **self._rules)(attempt, *args)

    async def arun(self: "Attempts[asyncio.Event]", attempt: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Return what the first attempt that succeeds returns, or raise the error of the last one."""
        retrying = tenacity.AsyncRetrying(sleep=self._await, **self._rules)
        return await retrying(attempt, *args)

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        """Tell, after a failed attempt, whether there will be no further one."""
        self._error = state.outcome.exception() if state.outcome else None
        throttled = isinstance(self._error, RateLimited)
        self._failures += not throttled
        too_often = not throttled and self._failures >= self._policy.max_attempts
        too_late = time.monotonic() + state.upcoming_sleep >= self._deadline
        over = too_often or too_late or self._stop.is_set()
        if over and self._error is not None and state.attempt_number > 1:
            self._error.add_note(f"Sent {state.attempt_number} times in {state.seconds_since_start or 0:.1f} seconds.")
        return over

    def _wait(self: "Attempts[threading.Event]", seconds: float) -> None:
        self._stop.wait(seconds)
        self._go_on(self._pace.take_turn(self._stop, self._deadline - time.monotonic()))

    async def _await(self: "Attempts[asyncio.Event]", seconds: float) -> None:
        await stopped_within(self._stop, seconds)
        self._go_on(await self._pace.atake_turn(self._stop, self._deadline - time.monotonic()))

    def _go_on(self, has_turn: bool) -> None:
        if not has_turn and self._error is not None:
            raise self._error
        self._on_retry()
