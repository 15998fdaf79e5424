"""A corpus that does not fit in memory: read in chunks, each a call of its own, some ahead of the consumer.

While the consumer takes the vectors of one chunk, the next ones are under way. When it is slow, they wait.
"""

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from itertools import islice
from typing import Any

from opensearch_embed._calls import Calls, StoreKind, progress_bar
from opensearch_embed._job import Job
from opensearch_embed._plan import check_input_type, check_not_bare
from opensearch_embed.errors import ConfigurationError, OpenSearchEmbedError
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST

Texts = Iterable[str] | AsyncIterable[str]


class Stream:
    """One iteration over the chunks of a corpus. `run` and `arun` differ in waiting alone.

    Args:
        calls: Works off the chunks.
        texts: The corpus; it is read as the consumer goes on, by one chunk after another.
        input_type: The role of all texts.
        kind: Where the vectors of a chunk are kept.
        size: Texts in a chunk; as many as keep every connection busy, if not given.
        progress: Show a progress bar.
    """

    def __init__(
        self, calls: Calls, texts: Texts, input_type: str, kind: StoreKind, size: int | None, progress: bool
    ) -> None:
        full = MAX_TEXTS_PER_REQUEST * calls.engine.options.max_concurrency
        if size is not None and (type(size) is not int or size < 1):
            raise ConfigurationError(f"batch must be a whole number from 1, not {size!r}: the rows of each array.")
        check_not_bare(texts)
        self._calls = calls
        self._texts = texts
        self._role = check_input_type(input_type)
        self._kind = kind
        self._size = size or full
        # One chunk for the consumer, and enough others to keep every connection busy.
        self._ahead = 1 + -(-full // self._size)
        self._total = len(texts) if isinstance(texts, Sized) else None
        self._progress = progress
        self._read = 0

    def run(self) -> Iterator[tuple[int, Any]]:
        """Yield the index of each chunk's first text, and what its store holds."""
        assert isinstance(self._texts, Iterable)  # noqa: S101 - the client's signature says so
        source = iter(self._texts)
        jobs: list[Job[threading.Event]] = []
        with progress_bar(self._total, self._progress) as tick:
            try:
                while True:
                    while len(jobs) < self._ahead and (chunk := list(islice(source, self._size))):
                        role, composition = self._calls.compose(chunk, self._role, self._advance(chunk))
                        recalled = self._calls.recall(role, composition)
                        jobs.append(self._calls.begin(role, composition, self._kind, threading.Event(), recalled, tick))
                        self._calls.start(jobs[-1])
                    if not jobs:
                        return
                    result = self._calls.finish(jobs[0])
                    yield jobs.pop(0).first, result
            except OpenSearchEmbedError as error:
                self._halt(jobs)
                _carry(error, jobs)
                raise
            finally:
                self._halt(jobs)

    async def arun(self) -> AsyncIterator[tuple[int, Any]]:
        """Yield what `run` yields, without blocking the event loop."""
        source = _aiter(self._texts)
        jobs: list[Job[asyncio.Event]] = []
        tasks: list[asyncio.Task[None]] = []
        with progress_bar(self._total, self._progress) as tick:
            try:
                while True:
                    while len(jobs) < self._ahead and (chunk := await _take(source, self._size)):
                        role, composition = self._calls.compose(chunk, self._role, self._advance(chunk))
                        recalled = await self._calls.arecall(role, composition)
                        jobs.append(self._calls.begin(role, composition, self._kind, asyncio.Event(), recalled, tick))
                        tasks.append(asyncio.create_task(self._calls.awork(jobs[-1])))
                    if not jobs:
                        return
                    await tasks[0]
                    result = self._calls.outcome(jobs[0])
                    tasks.pop(0)
                    yield jobs.pop(0).first, result
            except OpenSearchEmbedError as error:
                await _ahalt(jobs, tasks)
                _carry(error, jobs)
                raise
            finally:
                await _ahalt(jobs, tasks)

    def _advance(self, chunk: list[str]) -> int:
        """Return the index of a chunk's first text, and count the chunk as read."""
        first, self._read = self._read, self._read + len(chunk)
        return first

    def _halt(self, jobs: list[Job[threading.Event]]) -> None:
        for job in jobs:
            job.stop.set()
        for job in jobs:
            # What is under way comes to its end, so that no thread works for nobody.
            job.settled.wait(self._calls.engine.options.timeout)


async def _ahalt(jobs: list[Job[asyncio.Event]], tasks: list[asyncio.Task[None]]) -> None:
    for job in jobs:
        job.stop.set()
    await asyncio.gather(*tasks, return_exceptions=True)


def _carry(error: OpenSearchEmbedError, jobs: Iterable[Job[Any]]) -> None:
    """Put on an error what was received, of all chunks under way, and not yielded yet."""
    completed, pending = {}, list(error.pending)
    for job in jobs:
        part = job.explain(OpenSearchEmbedError())
        completed.update(part.completed)
        pending += part.pending
    error.completed, error.pending = completed, sorted(set(pending))


def pairs(chunks: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Yield each vector with the index of its text."""
    for first, vectors in chunks:
        yield from enumerate(vectors, first)


async def apairs(chunks: AsyncIterator[tuple[int, Any]]) -> AsyncIterator[tuple[int, Any]]:
    """Yield each vector with the index of its text."""
    async for first, vectors in chunks:
        for pair in enumerate(vectors, first):
            yield pair


def arrays(chunks: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """Yield each chunk's array."""
    for _, rows in chunks:
        yield rows


async def aarrays(chunks: AsyncIterator[tuple[int, Any]]) -> AsyncIterator[Any]:
    """Yield each chunk's array."""
    async for _, rows in chunks:
        yield rows


async def _aiter(texts: Texts) -> AsyncIterator[str]:
    if isinstance(texts, AsyncIterable):
        async for text in texts:
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
