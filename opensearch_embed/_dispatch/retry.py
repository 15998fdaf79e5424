"""What is tried again, after how long, until when. No clock, no waiting: time is an argument.

One batch has two limits, whichever comes first: `max_attempts`, and `retry_timeout` seconds from its first attempt. For
`RateLimited`, and in an outage, only the time counts: neither is the batch's own failure.
"""

import math
import random
from dataclasses import dataclass

from opensearch_embed._dispatch.dispatcher import Outcome
from opensearch_embed.errors import (
    ApiError,
    OpenSearchEmbedError,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
    TimedOut,
    TransportError,
)

SHORTEST_WAIT = 0.05
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds of exponential backoff, of which each wait is a random part."""

FIRST_THROTTLED_WAIT, LONGEST_THROTTLED_WAIT = 0.25, 2.0
"""After a refusal for the rate: who goes when is the dispatcher's concern, so a short wait is enough."""

FIRST_QUOTA_WAIT, LEAST_QUOTA_WAIT, LONGEST_QUOTA_WAIT = 2.0, 1.0, 30.0
"""For a quota over a period, such as tokens a minute, which takes longer to clear than a rate."""

SHORTEST_TELLING = 0.1
"""Seconds. The silence of an attempt that had fewer left tells nothing: what was the matter before it does."""


def is_retried(error: BaseException) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(error, TransportError):
        return not error.permanent
    return isinstance(error, (RateLimited, ServiceUnavailable, ResponseError))


def outcome_of(error: BaseException | None) -> Outcome:
    """Return what an error says of the service; `None` is a success."""
    if error is None:
        return "success"
    if isinstance(error, RateLimited):
        return "throttled"
    unavailable = isinstance(error, (TransportError, ServiceUnavailable)) and is_retried(error)
    return "unavailable" if unavailable else "other"


def backoff(error: BaseException, attempt: int) -> float:
    """Return how long to wait after so many attempts: what the service asks, else backoff with jitter."""
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        return max(float(asked), SHORTEST_WAIT)
    first, least, longest = FIRST_WAIT, SHORTEST_WAIT, LONGEST_WAIT
    if isinstance(error, RateLimited):
        first, longest = FIRST_THROTTLED_WAIT, LONGEST_THROTTLED_WAIT
        if "AllocationQuota" in (error.code or ""):
            first, least, longest = FIRST_QUOTA_WAIT, LEAST_QUOTA_WAIT, LONGEST_QUOTA_WAIT
    return max(least, random.uniform(0, min(longest, first * 2 ** min(attempt - 1, 30))))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits for every batch of one client."""

    max_attempts: int
    retry_timeout: float
    timeout: float


class Attempts:
    """The attempts of one batch.

    Attributes:
        deadline: No attempt starts after it, and none goes past it.
        number: Attempts so far.
    """

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self._policy = policy
        self._begun = now
        self.deadline = now + policy.retry_timeout
        self.number = 0
        self._failures = 0
        self._given = math.inf
        self._error: OpenSearchEmbedError | None = None

    @property
    def ends(self) -> float:
        """When an attempt that is under way ends, at the latest."""
        return self.deadline if self._policy.retry_timeout else math.inf

    def begin(self, now: float) -> float:
        """Note that an attempt begins, and return the seconds that it may take."""
        self.number += 1
        if not self._policy.retry_timeout:  # nothing is tried again, and the one attempt has its whole time-out
            return self._policy.timeout
        self._given = max(min(self._policy.timeout, self.deadline - now), 0.001)
        return self._given

    def after(self, error: OpenSearchEmbedError, now: float, *, outage: bool) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            OpenSearchEmbedError: The error, if there is to be none.
        """
        said = self._error is not None and not isinstance(self._error, TimedOut)
        if said and isinstance(error, TimedOut) and self._given < SHORTEST_TELLING:
            self.give_up(now)
        self._error = error
        if not is_retried(error):
            self.give_up(now)
        counted = not outage and not isinstance(error, RateLimited)
        self._failures += counted
        # In an outage the dispatcher says who finds out whether it is over.
        wait = 0.0 if outage and getattr(error, "retry_after", None) is None else backoff(error, self.number)
        if counted and self._failures >= self._policy.max_attempts:
            self.give_up(now)
        if now + wait >= self.deadline:
            if isinstance(error, ApiError) and error.retry_after is not None and self._policy.retry_timeout:
                left = max(self.deadline - now, 0)
                error.args = (
                    f"{error} The service asks to wait {error.retry_after:g} seconds (Retry-After); of "
                    f"retry_timeout={self._policy.retry_timeout:g} seconds are {left:.1f} left.",
                )
            self.give_up(now)
        return wait

    def give_up(self, now: float) -> None:
        """Raise the last error, which says how often it was tried."""
        if self._error is not None:
            if self.number > 1:
                self._error.add_note(f"Sent {self.number} times in {now - self._begun:.1f} seconds.")
            raise self._error
