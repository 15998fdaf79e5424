"""Which rate the service lets through, when others share the quota. Arithmetic alone: no clock, no waiting.

Answers are counted over about a second. A second with refusals lowers the rate to what got through; each second without
raises it again, by steps that double, up to the rate that was configured.
"""

FIRST_STEP = 0.02
LAST_STEP = 0.08
"""Of the configured rate, not of the present one: so clients that share a quota come to equal parts of it."""

TOLERATED_REFUSALS = 0.03
"""As many come by chance, when requests are late on their way and arrive together: the rate stays as it is."""

FEWEST_ANSWERS = 10
"""Fewer say too little: at a low rate, a window is longer than a second."""

LOWEST_SHARE = 0.02
"""Of the configured rate. Never nothing, or there would be no answer to learn from."""


class AdaptiveRate:
    """Requests a second, between a fiftieth of `most` and `most`."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.rate = most
        self._step = FIRST_STEP
        self._window_start = 0.0
        self._granted = 0
        self._refused = 0

    @property
    def contended(self) -> bool:
        """Whether others seem to use the same quota. One refusal comes by chance."""
        return self.rate < self.most or self._refused > 1

    def saw(self, throttled: bool, now: float) -> bool:
        """Note an answer, at `now` seconds on any clock that does not go back; tell whether the rate has changed."""
        if self._granted + self._refused == 0:
            self._window_start = now
        self._granted += not throttled
        self._refused += throttled
        answers = self._granted + self._refused
        if now - self._window_start < 1.0 or answers < FEWEST_ANSWERS:
            return False
        before = self.rate
        if self._refused > TOLERATED_REFUSALS * answers:
            # Turns that were booked before the rate fell are refused after it, and must not lower it twice: hence the
            # number that got through. It says nothing where few were asked for: hence their share.
            got_through = max(self._granted / (now - self._window_start), self.rate * self._granted / answers)
            self.rate = min(self.rate, max(self.most * LOWEST_SHARE, got_through))
            self._step = FIRST_STEP
        elif not self._refused:
            self.rate = min(self.most, self.rate + self.most * self._step)
            self._step = min(LAST_STEP, self._step * 2)
        self._granted = self._refused = 0
        return self.rate != before
