"""What a client has spent so far."""

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals since a client was made. The service bills by tokens.

    Attributes:
        requests: Requests sent, retries counted.
        retries: How many of them repeated an earlier one.
        texts: Texts that got their vector from the service.
        tokens: Tokens, as the service counts them.
    """

    requests: int = 0
    retries: int = 0
    texts: int = 0
    tokens: int = 0


class Meter:
    """Adds up usage from many threads."""

    def __init__(self, start: Usage | None = None) -> None:
        self._lock = threading.Lock()
        self._usage = start or Usage()

    def add(self, *, requests: int = 0, retries: int = 0, texts: int = 0, tokens: int = 0) -> None:
        """Add to the totals."""
        with self._lock:
            now = self._usage
            self._usage = replace(
                now,
                requests=now.requests + requests,
                retries=now.retries + retries,
                texts=now.texts + texts,
                tokens=now.tokens + tokens,
            )

    @property
    def usage(self) -> Usage:
        """The totals now."""
        return self._usage
