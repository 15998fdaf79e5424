"""One call: its batches, its vectors so far, what is done and what is pending. This file does not know how to send."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from opensearch_embed._call.attach import attach
from opensearch_embed._call.pieces import Combine, Pieces
from opensearch_embed._call.refusals import OnError, halves, is_about_a_text, refusal
from opensearch_embed._call.results import Store
from opensearch_embed._call.telemetry import UNWATCHED, Watch
from opensearch_embed._texts.batches import Batch
from opensearch_embed._texts.repeats import Composition
from opensearch_embed._wire.refusal import named
from opensearch_embed.errors import ApiError, InvalidRequest, OpenSearchEmbedError
from opensearch_embed.models import InputType

ErrorT = TypeVar("ErrorT", bound=BaseException)


class Job:
    """The state of one call of `embed` or a sibling. Safe to share between threads.

    It is over when its data say so: each text has its vector or its refusal, or there is an error. `halt` takes no
    lock, since a finaliser may call it.

    Attributes:
        input_type: The role of all its texts.
        store: Where its vectors are kept.
        watch: Tells what happens to it.
        live: The batches that somebody is working on.
        halted: Whether nothing more is to be sent.
        wakers: Called when the job halts or a batch ends: whoever waits for that looks again.
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
        on_progress: Callable[[int], Any] | None = None,
        on_error: OnError = "raise",
        composition: Composition | None = None,
        combine: Combine | None = None,
        watch: Watch = UNWATCHED,
    ) -> None:
        self.input_type = input_type
        self.store = store
        self.watch = watch
        self.halted = False
        self.live: set[int] = set()
        self.wakers: dict[int, Callable[[], object]] = {}
        self.error: BaseException | None = None
        self.refused: dict[int, ApiError] = {}
        self._successor: Job | None = None
        self._has_precedence = True
        self._batches = deque(batches)
        self._lock = threading.Lock()
        self._done = bytearray(count)
        self._on_progress = on_progress
        self._on_error = on_error
        self._composition = composition or Composition(count, [], [])
        self._pieces = Pieces(self._composition, combine)
        store.put_zeros(blank)
        self._mark(blank)
        self._progress(len(blank))

    @property
    def is_small(self) -> bool:
        """Whether it is one request, which may be shared; not one that holds a text twice, as pieces may."""
        if len(self._batches) != 1:
            return False
        [batch] = self._batches
        return len(set(batch.texts)) == len(batch.texts)

    @property
    def settled(self) -> bool:
        """Whether nothing is under way, and nothing more will be sent."""
        return not self.live and (self.halted or not self._batches)

    @property
    def ready(self) -> bool:
        """Whether it has a batch to send, and is the first of its stream that has."""
        return bool(self._batches) and not self.halted and self._has_precedence

    @property
    def first(self) -> int:
        """Index of its first text, for the caller."""
        return self._composition.first

    def __len__(self) -> int:
        """Batches that are not taken yet."""
        return len(self._batches)

    def take(self) -> Batch | None:
        """Return the next batch to send; `None` when nothing more is to be sent. Whoever takes it must `end` it."""
        with self._lock:
            if self.halted or not self._batches:
                return None
            batch = self._batches.popleft()
            self.live.add(id(batch))
            successor = None if self._batches else self._successor
        if successor is not None:
            successor.come_first()
        return batch

    def end(self, batch: Batch) -> None:
        """Note that nobody works on a batch any more."""
        self.live.discard(id(batch))
        self._wake()

    def put(self, batch: Batch, vectors: Any, problem: BaseException | None = None) -> None:
        """Keep the vectors of a batch that was taken, in the store's form; `problem` stops the job all the same."""
        with self._lock:
            done = self._keep(batch.indices, vectors)
            if problem is not None:
                self._stop_for(problem)
        self._progress(done)

    def put_back(self, batch: Batch) -> None:
        """Let a batch that was taken be taken again."""
        with self._lock:
            self._batches.appendleft(batch)

    def recall(self, vectors: Mapping[int, Any]) -> None:
        """Keep vectors that need not be asked for, by number, in the store's form."""
        with self._lock:
            done = self._keep(list(vectors), list(vectors.values()))
        self._progress(done)

    def fail(self, error: BaseException, batch: Batch | None = None) -> None:
        """Note that a batch that was taken has failed. That stops the job, unless it isolates what is refused."""
        done = 0
        with self._lock:
            if batch is not None and isinstance(error, InvalidRequest):
                if self._on_error != "raise" and is_about_a_text(error):
                    done = self._divide(batch, error)
                else:
                    error.indices = self._for_the_caller(
                        {text for number in batch.indices for text in self._composition.texts_of(number)}
                    )
                    error.args = (f"{error.args[0]} The request held {named(error.indices)}.",)
                    self._stop_for(error)
            else:
                self._stop_for(error)
        self._progress(done)

    def halt(self) -> None:
        """Send nothing more, of this job and of those after it."""
        self.halted = True
        self._wake()
        if self._successor is not None:
            self._successor.halt()

    def precede(self, successor: "Job") -> None:
        """Let another job begin when this one has nothing more to send, and be halted with it."""
        with self._lock:
            self._successor = successor
            successor._has_precedence = not self._batches
        if self.halted:
            successor.halt()

    def come_first(self) -> None:
        """Begin: the job before this one in its stream has nothing more to send."""
        self._has_precedence = True
        self._wake()

    def outcome(self) -> Any:
        """Return the result; or raise the error, with all that was done.

        Raises:
            OpenSearchEmbedError: The first error, or what the service refuses, with `completed` and `pending`.
        """
        if self.error is not None:
            raise self.explain(self.error)
        if not all(self._done[i] or i in self.refused for i in range(len(self._done))):
            raise self.explain(
                OpenSearchEmbedError("The call ended before every text had its vector: run the pending ones again.")
            )
        if self.refused and not (self._on_error == "skip" and self.store.shows_refusals):
            raise self.explain(refusal(self.refused, self.first, len(self._done)))
        return self.store.result()

    def explain(self, error: ErrorT) -> ErrorT:
        """Say on an error what was done before it, and return it."""
        with self._lock:
            return self._explain(error)

    def _explain(self, error: ErrorT) -> ErrorT:
        done, total = sum(self._done), len(self._done)
        completed = {self.first + i: self.store.at(i) for i in range(total) if self._done[i]}
        pending = [self.first + i for i in range(total) if not self._done[i]]
        attach(error, completed, pending)
        if total > 1:
            error.add_note(f"{done} of {total} texts have their vector: see .completed and .pending of this error.")
        return error

    def _divide(self, batch: Batch, error: InvalidRequest) -> int:
        """Send the halves of a refused batch by themselves, until it is known which texts are refused: so many now."""
        if parts := halves(batch):
            self._batches.extendleft(reversed(parts))
            return 0
        texts = [text for text in self._composition.texts_of(batch.indices[0]) if text not in self.refused]
        self.refused.update(dict.fromkeys(texts, error))
        self.store.put_refused(texts, error)
        return len(texts)

    def _for_the_caller(self, texts: Iterable[int]) -> list[int]:
        return [self.first + text for text in sorted(texts)]

    def _keep(self, numbers: Sequence[int], vectors: Sequence[Any]) -> int:
        """Keep vectors, and return how many texts have theirs now that had none."""
        composition = self._composition
        if not composition.copies and not composition.pieces:
            self.store.put(numbers, vectors)
            return self._mark(numbers)
        done = 0
        for number, vector in zip(numbers, vectors, strict=True):
            whole = self._pieces.joined(number, vector)
            if whole is not None:
                texts = [i for i in composition.texts_of(number) if i not in self.refused]
                # Sliced, so that each text has a list of its own.
                self.store.put(texts, [whole[:] for _ in texts])
                done += self._mark(texts)
        return done

    def _mark(self, indices: Sequence[int]) -> int:
        for index in indices:
            self._done[index] = 1
        return len(indices)

    def _progress(self, texts: int) -> None:
        if self._on_progress is not None and texts:
            self._on_progress(texts)

    def _stop_for(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self.halt()

    def _wake(self) -> None:
        for wake in list(self.wakers.values()):
            wake()
