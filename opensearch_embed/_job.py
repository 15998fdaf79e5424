"""One call: its batches, its vectors so far, what is done and what is pending. This file does not know how to send."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

from opensearch_embed._compose import Composition
from opensearch_embed._plan import Batch
from opensearch_embed._refusal import named
from opensearch_embed._store import Store
from opensearch_embed.errors import ApiError, InvalidRequest, OpenSearchEmbedError
from opensearch_embed.models import InputType

StopT = TypeVar("StopT", threading.Event, asyncio.Event)
OnError = Literal["raise", "isolate", "skip"]
ErrorT = TypeVar("ErrorT", bound=BaseException)
Combine = Callable[[Sequence[Any], Sequence[str]], Any]
"""Takes the vectors of a text's pieces, and the pieces; returns the text's vector."""


def attach(error: BaseException, completed: dict[int, Any], pending: list[int]) -> None:
    """Let an error carry what was done, also one that is not ours: Ctrl-C, or an error of a limiter or a cache."""
    if isinstance(error, OpenSearchEmbedError):
        error.completed, error.pending = completed, pending
    else:
        vars(error).update(completed=completed, pending=pending)


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
        refused: The texts that the service refuses for what they are, by index, each with its error.
    """

    def __init__(
        self,
        count: int,
        batches: Iterable[Batch],
        blank: Sequence[int],
        *,
        input_type: InputType,
        store: Store[Any],
        stop: StopT,
        on_progress: Callable[[int], Any] | None = None,
        on_error: OnError = "raise",
        composition: Composition | None = None,
        combine: Combine | None = None,
    ) -> None:
        self.input_type = input_type
        self.store = store
        self.stop: StopT = stop
        self.settled = threading.Event()
        self.error: BaseException | None = None
        self.refused: dict[int, ApiError] = {}
        self._successor: Job[StopT] | None = None
        self._batches = deque(batches)
        self._under_way = 0
        self._lock = threading.Lock()
        self._done = bytearray(count)
        self._on_progress = on_progress
        self._on_error = on_error
        self._composition = composition or Composition(count, [], [])
        self._combine = combine
        self._pieces: dict[int, dict[int, Any]] = {}
        store.put_zeros(blank)
        self._mark(blank)
        if not self._batches:
            self.settled.set()

    @property
    def first(self) -> int:
        """Index of its first text, for the caller."""
        return self._composition.first

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

    def put(self, batch: Batch, vectors: Any, problem: BaseException | None = None) -> None:
        """Keep the vectors of a batch that was taken, in the store's form; `problem` stops the job all the same."""
        with self._lock:
            self._keep(batch.indices, vectors)
            if problem is not None:
                self._stop_for(problem)
            self._end_one()

    def recall(self, vectors: Mapping[int, Any]) -> None:
        """Keep vectors that need not be asked for, by number, in the store's form."""
        with self._lock:
            self._keep(list(vectors), list(vectors.values()))

    def fail(self, error: BaseException, batch: Batch | None = None) -> None:
        """Note that a batch that was taken has failed. That stops the job, unless it isolates what is refused."""
        with self._lock:
            if batch is not None and isinstance(error, InvalidRequest) and self._isolates(error):
                self._divide(batch, error)
            elif not isinstance(error, Stopped):
                if batch is not None and isinstance(error, InvalidRequest):
                    error.indices = self._for_the_caller(
                        {text for number in batch.indices for text in self._composition.texts_of(number)}
                    )
                    error.args = (f"{error.args[0]} The request held {named(error.indices)}.",)
                self._stop_for(error)
            else:
                self._halt()
            self._end_one()

    def halt(self) -> None:
        """Send nothing more, of this job and of those after it."""
        with self._lock:
            self._halt()

    def precede(self, successor: "Job[StopT]") -> None:
        """Let another job be halted with this one, since nobody will take its vectors then."""
        with self._lock:
            self._successor = successor
            if self.stop.is_set():
                successor.halt()

    def outcome(self) -> Any:
        """Return the result; or raise the error, with all that was done.

        Raises:
            OpenSearchEmbedError: The first error, or what the service refuses, with `completed` and `pending`.
        """
        if self.error is not None:
            raise self.explain(self.error)
        if self.refused and not (self._on_error == "skip" and self.store.shows_refusals):
            raise self.explain(self._refusal())
        return self.store.result()

    def explain(self, error: ErrorT) -> ErrorT:
        """Say on an error what was done before it, and return it."""
        done, total = sum(self._done), len(self._done)
        completed = {self.first + i: self.store.at(i) for i in range(total) if self._done[i]}
        pending = [self.first + i for i in range(total) if not self._done[i]]
        attach(error, completed, pending)
        if total > 1:
            error.add_note(f"{done} of {total} texts have their vector: see .completed and .pending of this error.")
        return error

    def _isolates(self, error: InvalidRequest) -> bool:
        about_texts = error.status in (400, 413, 422) or error.code == "InvalidParameter"
        return self._on_error != "raise" and about_texts and error.code != "ServiceIdNotExist"

    def _divide(self, batch: Batch, error: InvalidRequest) -> None:
        """Send the halves of a refused batch by themselves, until it is known which texts are refused."""
        middle = len(batch.indices) // 2
        if middle:
            self._batches.appendleft(Batch(batch.indices[middle:], batch.texts[middle:]))
            self._batches.appendleft(Batch(batch.indices[:middle], batch.texts[:middle]))
        else:
            texts = [text for text in self._composition.texts_of(batch.indices[0]) if text not in self.refused]
            self.refused.update(dict.fromkeys(texts, error))
            self.store.put_refused(texts, error)
            self._progress(len(texts))

    def _refusal(self) -> ApiError:
        first = next(iter(self.refused.values()))
        indices = self._for_the_caller(self.refused)
        error = InvalidRequest(
            f"The service refuses {len(indices)} of {len(self._done)} texts: {named(indices)}. The first: {first}",
            status=first.status,
            code=first.code,
            message=first.message,
            request_id=first.request_id,
        )
        error.indices = indices
        error.__cause__ = first
        return error

    def _for_the_caller(self, texts: Iterable[int]) -> list[int]:
        return [self.first + text for text in sorted(texts)]

    def _keep(self, numbers: Sequence[int], vectors: Sequence[Any]) -> None:
        composition = self._composition
        if not composition.copies and not composition.pieces:
            self.store.put(numbers, vectors)
            self._mark(numbers)
            return
        for number, vector in zip(numbers, vectors, strict=True):
            text = composition.owner.get(number)
            whole = vector if text is None else self._joined(text, number, vector)
            if whole is not None:
                texts = [i for i in composition.texts_of(number) if i not in self.refused]
                # Sliced, so that each text has a list of its own.
                self.store.put(texts, [whole[:] for _ in texts])
                self._mark(texts)

    def _joined(self, text: int, number: int, vector: Any) -> Any:
        """Return a text's vector, if this was the last piece that was missing."""
        numbers = self._composition.pieces[text]
        have = self._pieces.setdefault(text, {})
        have[number] = vector
        if len(have) < len(numbers) or self._combine is None:
            return None
        del self._pieces[text]
        return self._combine([have[i] for i in numbers], [self._composition.items[i] for i in numbers])

    def _mark(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._done[index] = 1
        self._progress(len(indices))

    def _progress(self, texts: int) -> None:
        if self._on_progress is not None and texts:
            self._on_progress(texts)

    def _stop_for(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self._halt()

    def _halt(self) -> None:
        self.stop.set()
        if not self._under_way:
            self.settled.set()
        if self._successor is not None:
            self._successor.halt()

    def _end_one(self) -> None:
        self._under_way -= 1
        if not self._under_way and (self.stop.is_set() or not self._batches):
            self.settled.set()


def follow(jobs: Sequence[Job[StopT]]) -> None:
    """Let the last of some jobs, if it is not alone, be halted with the one before it."""
    if len(jobs) > 1:
        jobs[-2].precede(jobs[-1])
