"""What the emulator saw and did: the requests, and running totals. Written by the server's thread, read by any."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opensearch_embed.emulator.figures import Figures


@dataclass(frozen=True, slots=True)
class Record:
    """One request that came in.

    Attributes:
        method: HTTP method.
        path: Path and query as they were sent.
        headers: Names are found in any case. Keys are blanked, here and in path and body.
        body: The parsed JSON; the raw bytes where they are not JSON; nothing of a body that is too large.
        received: When the whole request was there, in seconds of `time.monotonic`.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    received: float


@dataclass(slots=True)
class Usage:
    """Totals since the start, or since `Emulator.reset`.

    Attributes:
        requests: Requests that came in, of any kind.
        texts: Texts answered with vectors, by whole answers.
        tokens: Sum of the `token_count` of those answers.
        outcomes: How often each HTTP status was answered, and each `break_next` kind was done instead.
    """

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    outcomes: Counter[int | str] = field(default_factory=Counter)


class Journal:
    """The newest `keep` requests, the totals, the front page's figures, and how many requests are under way."""

    def __init__(self, keep: int) -> None:
        self.requests: list[Record] = []
        self.figures = Figures()
        self._keep = keep
        self._changed = threading.Condition()
        self._in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything but the requests that are under way."""
        with self._changed:
            self.requests.clear()
            self.figures.clear()
            self.usage = Usage()
            self.max_in_flight = 0

    def add(self, record: Record) -> None:
        """Remember a request, and forget the oldest if there are too many."""
        with self._changed:
            self.requests.append(record)
            del self.requests[: max(0, len(self.requests) - self._keep)]
            self.usage.requests += 1
            self._changed.notify_all()

    def wait(self, count: int, timeout: float) -> None:
        """Block until `count` requests have come in.

        Raises:
            TimeoutError: They have not, after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.usage.requests >= count, timeout):
                raise TimeoutError(f"{self.usage.requests} of {count} requests came in within {timeout:g} seconds.")

    def count_outcome(self, record: Record, outcome: int | str, ms: float) -> None:
        """Add what became of a request, as it is remembered: its status, or the kind of break."""
        self.usage.outcomes[outcome] += 1
        self.figures.add(record.method, record.path, record.body, outcome, ms)

    def count_success(self, texts: int, tokens: int) -> None:
        """Add an answer with vectors to the totals."""
        self.usage.texts += texts
        self.usage.tokens += tokens

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Count a request as being answered."""
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
