"""A corpus that does not fit in memory: read in chunks, each a call of its own, some ahead of the consumer.

While the consumer takes the vectors of one chunk, the next ones are under way. When it is slow, they wait.
"""

import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Sized
from itertools import islice
from typing import Any, cast

from opensearch_embed._call.async_work import AsyncWork
from opensearch_embed._call.call import Calls, StoreKind, progress_bar
from opensearch_embed._call.job import Job, attach, follow
from opensearch_embed._call.sync_work import SyncWork
from opensearch_embed._dispatch.threads import Signal, workers
from opensearch_embed._texts.check import check_input_type, check_not_bare
from opensearch_embed.errors import ConfigurationError, InputError, OpenSearchEmbedError

AHEAD = 2
"""Chunks that are read and not yet taken, at most: one for the consumer, and one to keep every connection busy."""

FEWEST_REQUESTS = 32
"""In one chunk: as many as are under way where there is no rate."""

Texts = Iterable[str] | AsyncIterable[str]


class Stream:
    """One iteration over the chunks of a corpus. `run` and `arun` differ in waiting alone.

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
        check_not_bare(texts)
        self._calls = calls
        self._texts = texts
        self._role = check_input_type(input_type)
        self._kind = kind
        options = calls.engine.options
        # Two chunks keep every connection busy, or the rate, where answers take a second or two.
        requests = min(options.most_under_way, max(FEWEST_REQUESTS, math.ceil(options.qps or 0)))
        self._size = min(options.batch_size * requests, most or sys.maxsize)
        self._total = len(texts) if isinstance(texts, Sized) else None
        self._progress = progress
        self._read = 0

    def run(self) -> Generator[tuple[int, Any], None, None]:
        """Yield the index of each chunk's first text, and what its store holds."""
        source = iter(cast("Iterable[str]", self._texts))
        works: list[BackgroundWork] = []
        with progress_bar(self._total, self._progress) as tick:
            try:
                while True:
                    while len(works) < AHEAD and (chunk := list(islice(source, self._size))):
                        role, composition = self._calls.compose(chunk, self._role, self._advance(chunk))
                        recalled = self._calls.recall(role, composition)
                        job = self._calls.begin(role, composition, self._kind, recalled, tick)
                        works.append(BackgroundWork(self._calls, job, owner=self))
                        follow([work.job for work in works])
                        works[-1].start()
                    if not works:
                        return
                    works[0].finish()
                    result = self._calls.outcome(works[0].job)
                    yield works.pop(0).job.first, result
            except Exception as error:
                for work in works:
                    work.job.halt()
                for work in works:
                    work.finish()
                _carry(error, [work.job for work in works])
                raise
            except BaseException as error:
                # Takes no lock and waits for nobody: it may be a finaliser that ends this generator.
                for work in works:
                    work.cancel()
                if not isinstance(error, GeneratorExit):
                    _carry(error, [work.job for work in works])
                raise

    async def arun(self) -> AsyncGenerator[tuple[int, Any], None]:
        """Yield what `run` yields, without blocking the event loop."""
        jobs: list[Job] = []
        tasks: list[asyncio.Task[None]] = []
        async with contextlib.aclosing(_aiter(self._texts)) as source:
            with progress_bar(self._total, self._progress) as tick:
                try:
                    while True:
                        while len(jobs) < AHEAD and (chunk := await _take(source, self._size)):
                            role, composition = self._calls.compose(chunk, self._role, self._advance(chunk))
                            recalled = await self._calls.arecall(role, composition)
                            jobs.append(self._calls.begin(role, composition, self._kind, recalled, tick))
                            follow(jobs)
                            await self._calls.engine.connections.here()
                            work = AsyncWork(self._calls, jobs[-1], owner=self)
                            tasks.append(asyncio.create_task(work.coordinate()))
                        if not jobs:
                            return
                        await tasks[0]
                        result = self._calls.outcome(jobs[0])
                        tasks.pop(0)
                        yield jobs.pop(0).first, result
                except Exception as error:
                    _halt(jobs)
                    await asyncio.gather(*tasks, return_exceptions=True)
                    _carry(error, jobs)
                    raise
                finally:
                    _halt(jobs)
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    def _advance(self, chunk: list[str]) -> int:
        """Return the index of a chunk's first text, and count the chunk as read."""
        first, self._read = self._read, self._read + len(chunk)
        return first


class BackgroundWork(SyncWork):
    """A job whose turns a worker takes, while the consumer works; where there is none, the consumer."""

    def __init__(self, calls: Calls, job: Job, owner: object) -> None:
        super().__init__(calls, job, owner)
        self._finished = Signal()
        self._is_finished = False
        self._started = False

    def start(self) -> None:
        """Begin, on a worker."""
        self._started = workers().run(self._run)

    def _run(self) -> None:
        try:
            self.coordinate()
        except BaseException as error:  # noqa: BLE001 - the consumer's thread raises it
            self.job.fail(error)
        finally:
            self._is_finished = True
            self._finished.set()

    def finish(self) -> None:
        """Return when the job is over."""
        if not self._started:
            self._started = True
            self._run()
        while not self._is_finished:
            self._finished.wait(math.inf)


def _halt(jobs: Iterable[Job]) -> None:
    for job in jobs:
        job.halt()


def _carry(error: BaseException, jobs: Iterable[Job]) -> None:
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


async def _aiter(texts: Texts) -> AsyncGenerator[str, None]:
    if isinstance(texts, AsyncIterable):
        closing = contextlib.aclosing(texts) if isinstance(texts, AsyncGenerator) else contextlib.nullcontext(texts)
        async with closing as source:
            async for text in source:
                yield text
    else:
        for text in texts:
            yield text


async def _take(source: AsyncIterator[str], count: int) -> list[str]:
    taken: list[str] = []
    while len(taken) < count:
        try:
            taken.append(await anext(source))
        except StopAsyncIteration:
            break
    return taken
