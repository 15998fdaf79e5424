"""A corpus that does not fit in memory: read in chunks, each a call of its own, some ahead of the consumer.

While the consumer takes the vectors of one chunk, the next ones are under way. When it is slow, they wait.
"""

import math
import sys
from collections.abc import AsyncIterable, Generator, Iterable, Sequence, Sized
from itertools import islice
from typing import Any, cast

from opensearch_embed._call.attach import attach
from opensearch_embed._call.call import Calls, StoreKind
from opensearch_embed._call.job import Job
from opensearch_embed._call.progress import Progress, progress_bar
from opensearch_embed._call.sync_work import SyncWork
from opensearch_embed._call.telemetry import UNWATCHED, tell_ends
from opensearch_embed._dispatch.nested import in_a_call, is_nested
from opensearch_embed._dispatch.threads import Signal, workers
from opensearch_embed._texts.check import check_input_type, check_kind
from opensearch_embed._texts.repeats import Composition
from opensearch_embed.errors import ConfigurationError, InputError, OpenSearchEmbedError

AHEAD = 2
"""Chunks that are read and not yet taken, at most: one for the consumer, and one to keep every connection busy."""

FEWEST_REQUESTS = 32
"""In one chunk: as many as are under way where there is no rate."""

Texts = Iterable[str] | AsyncIterable[str]


class Stream:
    """One iteration over the chunks of a corpus. `AsyncChunks` is the same for tasks.

    Args:
        calls: Works off the chunks.
        texts: The corpus; it is read as the consumer goes on, one chunk after another.
        input_type: The role of all texts.
        kind: Where the vectors of a chunk are kept.
        progress: Show a progress bar.
        most: Texts of a chunk, at most; for those that are long.
    """

    def __init__(
        self,
        calls: Calls,
        texts: Texts,
        input_type: str,
        kind: StoreKind[Any],
        *,
        progress: bool,
        most: int | None = None,
    ) -> None:
        check_kind(texts)
        self.calls = calls
        self.texts = texts
        self.role = check_input_type(input_type)
        self._kind = kind
        options = calls.engine.options
        # Two chunks keep every connection busy, or the rate, where answers take a second or two.
        requests = min(options.most_under_way, max(FEWEST_REQUESTS, math.ceil(options.qps or 0)))
        self.size = min(options.batch_size * requests, most or sys.maxsize)
        self.total = len(texts) if isinstance(texts, Sized) else None
        self.progress = progress
        self.watch = UNWATCHED
        self._read = 0

    def run(self) -> Generator[tuple[int, Any], None, None]:
        """Yield the index of each chunk's first text, and what its store holds."""
        source = iter(cast("Iterable[str]", self.texts))
        works: list[BackgroundWork] = []
        self.watch = self.calls.telemetry.watch()
        with self.watch, progress_bar(self.total, self.progress) as tick:
            try:
                while True:
                    while len(works) < AHEAD and (chunk := list(islice(source, self.size))):
                        composition = self.compose(chunk)
                        job = self.begin(composition, self.calls.recall(self.role, composition), tick)
                        works.append(BackgroundWork(self.calls, job, owner=self, nested=is_nested()))
                        follow([work.job for work in works])
                        works[-1].start()
                    if not works:
                        return
                    works[0].finish()
                    result = self.calls.outcome(works[0].job)
                    yield works.pop(0).job.first, result
            except Exception as error:
                for work in works:
                    work.job.halt()
                for work in works:
                    work.finish()
                carry(error, [work.job for work in works])
                raise
            except BaseException as error:
                # Takes no lock and waits for nobody: it may be a finaliser that ends this generator.
                for work in works:
                    work.cancel()
                if not isinstance(error, GeneratorExit):
                    carry(error, [work.job for work in works])
                raise

    def compose(self, chunk: list[str]) -> Composition:
        """Check a chunk, the next one, and find what is to be sent for it."""
        first, self._read = self._read, self._read + len(chunk)
        _, composition = self.calls.compose(chunk, self.role, first)
        return composition

    def begin(self, composition: Composition, recalled: dict[int, list[float]], tick: Progress) -> Job:
        """Plan what is left to be sent of a chunk, and return it as a job."""
        return self.calls.begin(self.role, composition, self._kind, recalled, tick, self.watch)


class BackgroundWork(SyncWork):
    """A job whose turns a worker takes, while the consumer works; where there is none, the consumer."""

    def __init__(self, calls: Calls, job: Job, owner: object, *, nested: bool) -> None:
        super().__init__(calls, job, owner, nested=nested)
        self._finished = Signal()
        self._is_finished = False
        self._started = False

    @in_a_call
    def start(self) -> None:
        """Begin, on a worker."""
        if len(self.job):
            self._engine.connections.transport()  # slow the first time
        self._started = not self._nested and workers().run(self._run)

    def _run(self) -> None:
        try:
            self.coordinate()
        except BaseException as error:  # noqa: BLE001 - the consumer's thread raises it
            self.job.fail(error)
        finally:
            self._is_finished = True
            self._finished.set()
            tell_ends()

    @in_a_call
    def finish(self) -> None:
        """Return when the job is over."""
        if not self._started:
            self._started = True
            self._run()
        while not self._is_finished:
            self._finished.wait(math.inf)


def follow(jobs: Sequence[Job]) -> None:
    """Let the last of some jobs, if it is not alone, be halted with the one before it."""
    if len(jobs) > 1:
        jobs[-2].precede(jobs[-1])


def carry(error: BaseException, jobs: Iterable[Job]) -> None:
    """Put on an error what was received, of all chunks under way, and not yielded yet."""
    completed: dict[int, Any] = {}
    pending = set(getattr(error, "pending", ()))
    for job in jobs:
        part = job.explain(OpenSearchEmbedError())
        completed.update(part.completed)
        pending.update(part.pending)
    attach(error, completed, sorted(pending))


def check_batch(batch: int | None) -> None:
    """Refuse a number of rows that makes no sense."""
    if batch is not None and (type(batch) is not int or batch < 1):
        raise ConfigurationError(f"batch must be a whole number from 1, not {batch!r}: the rows of each array.")


def check_iterable(texts: object) -> None:
    """Refuse what the sync method cannot read, before anything is read."""
    if isinstance(texts, AsyncIterable):
        raise InputError("texts is an async iterable: use aiter_embed.")
    if not isinstance(texts, Iterable):
        raise InputError(f"texts must be an iterable of str, not {type(texts).__name__}.")


def acheck_iterable(texts: object) -> None:
    """Refuse what the async method cannot read, before anything is read."""
    if not isinstance(texts, (AsyncIterable, Iterable)):
        raise InputError(f"texts must be an iterable or async iterable of str, not {type(texts).__name__}.")
