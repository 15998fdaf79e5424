"""What a client has spent so far."""

import threading
from dataclasses import dataclass

MOST_REFUSED = 10_000
"""Refused texts that are remembered."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals since a client was made. The service bills by tokens.

    Attributes:
        requests: Requests sent, retries counted.
        retries: How many of them repeated an earlier one.
        texts: Texts, or pieces of long ones, that got a vector from the service. What a call repeats is sent once.
        tokens: Tokens, as the service counts them.
        cached: Texts that got their vector from the cache.
        refused: Indices of the texts that the service refused, call after call, with `on_error` other than `"raise"`;
            the latest 10,000.
    """

    requests: int = 0
    retries: int = 0
    texts: int = 0
    tokens: int = 0
    cached: int = 0
    refused: tuple[int, ...] = ()


class Meter:
    """Adds up usage from many threads."""

    def __init__(self, start: Usage | None = None) -> None:
        self._lock = threading.RLock()
        self._usage = start or Usage()

    def add(
        self,
        *,
        requests: int = 0,
        retries: int = 0,
        texts: int = 0,
        tokens: int = 0,
        cached: int = 0,
        refused: tuple[int, ...] = (),
    ) -> None:
        """Add to the totals."""
        with self._lock:
            so_far = self._usage
            self._usage = Usage(
                so_far.requests + requests,
                so_far.retries + retries,
                so_far.texts + texts,
                so_far.tokens + tokens,
                so_far.cached + cached,
                (so_far.refused + refused)[-MOST_REFUSED:] if refused else so_far.refused,
            )

    @property
    def usage(self) -> Usage:
        """The totals now."""
        return self._usage
