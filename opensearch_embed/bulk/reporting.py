"""Tells, from a thread of its own, how far a run is."""

import threading
import time
from collections.abc import Callable
from typing import Self

from opensearch_embed.bulk.report import Progress
from opensearch_embed.bulk.vectors import REJECTED, Vectors
from opensearch_embed.client import EmbeddingClient

EVERY_SECONDS = 0.5


class Reporter:
    """Calls a function with the progress, now and then and at the end.

    Attributes:
        found: How many rows an earlier run had done, of those looked at so far.
    """

    def __init__(
        self,
        tell: Callable[[Progress], object] | None,
        vectors: Vectors,
        client: EmbeddingClient,
        rows: int,
        start: float,
    ) -> None:
        self._tell, self._vectors, self._client, self._rows, self._start = tell, vectors, client, rows, start
        self._before = client.usage
        self.found = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="opensearch-embed progress", daemon=True)

    def recalled(self, first: int, count: int) -> None:
        """Note which of some rows are done before anything of them is sent: an earlier run did them."""
        self.found += len(self._vectors.states[first : first + count].translate(None, b"\0"))

    def __enter__(self) -> Self:
        if self._tell is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self._say()
        self._say()

    def _say(self) -> None:
        usage = self._client.usage
        progress = Progress(
            rows=self._rows,
            done=self._vectors.done,
            found=self.found,
            tokens=usage.tokens - self._before.tokens,
            retries=usage.retries - self._before.retries,
            seconds=time.monotonic() - self._start,
            rejected=self._vectors.states.count(REJECTED),
        )
        if self._tell is not None:
            self._tell(progress)
