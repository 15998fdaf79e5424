"""One call: its batches, its vectors so far, what is done and what is pending. This file does not know how to send."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from opensearch_embed._plan import Batch
from opensearch_embed._store import Store
from opensearch_embed.models import InputType

StopT = TypeVar("StopT", threading.Event, asyncio.Event)


class Stopped(Exception):
    """This batch was not sent, because its job has stopped. Never leaves the client."""


class Job(Generic[StopT]):
    """The state of one call of `embed` or a sibling. Safe to share between threads.

    Attributes:
        input_type: The role of all its texts.
        store: Where its vectors are kept.
        stop: Set on the first error, or when the caller interrupts: nothing more is sent, and waits end.
        settled: Set when nothing is under way and nothing more will be sent.
        error: The first error, if there was one.
    """

    def __init__(
        self,
        count: int,
        batches: Iterable[Batch],
        blank: Sequence[int],
        *,
        input_type: InputType,
        store: Store,
        stop: StopT,
        on_progress: Callable[[int], Any] | None = None,
    ) -> None:
        self.input_type = input_type
        self.store = store
        self.stop: StopT = stop
        self.settled = threading.Event()
        self.error: BaseException | None = None
        self._batches = deque(batches)
        self._under_way = 0
        self._lock = threading.Lock()
        self._done = bytearray(count)
        self._on_progress = on_progress
        store.put_zeros(blank)
        self._mark(blank)
        if not self._batches:
            self.settled.set()

    def __len__(self) -> int:
        """Batches that are not taken yet."""
        return len(self._batches)

    def take(self) -> Batch | None:
        """Return the next batch to send; `None` when nothing more is to be sent."""
        with self._lock:
            if self.stop.is_set() or not self._batches:
                return None
            self._under_way += 1
            return self._batches.popleft()

    def put(self, batch: Batch, vectors: Any) -> None:
        """Keep the converted vectors of a batch that was taken."""
        with self._lock:
            self.store.put(batch.indices, vectors)
            self._mark(batch.indices)
            self._end_one()

    def fail(self, error: BaseException) -> None:
        """Note that a batch that was taken has failed, which stops the job."""
        with self._lock:
            if self.error is None and not isinstance(error, Stopped):
                self.error = error
            self.stop.set()
            self._end_one()

    def outcome(self) -> Any:
        """Return the result; or raise the error, with all that was done.

        Raises:
            OpenSearchEmbedError: The first error, with `completed` and `pending`.
        """
        if self.error is not None:
            raise self.explain(self.error)
        return self.store.result

    def explain(self, error: BaseException) -> BaseException:
        """Say on an error what was done before it, and return it."""
        done, total = sum(self._done), len(self._done)
        error.completed = {i: self.store.result[i] for i in range(total) if self._done[i]}  # type: ignore[attr-defined]
        error.pending = [i for i in range(total) if not self._done[i]]  # type: ignore[attr-defined]
        if total > 1:
            error.add_note(f"{done} of {total} texts have their vector: see .completed and .pending of this error.")
        return error

    def _mark(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._done[index] = 1
        if self._on_progress is not None and indices:
            self._on_progress(len(indices))

    def _end_one(self) -> None:
        self._under_way -= 1
        if not self._under_way and (self.stop.is_set() or not self._batches):
            self.settled.set()
