"""A corpus read in chunks by tasks. `stream` is the twin, for threads.

Nothing here is an async generator but what the consumer holds: of generators within one another, each would be ended
by a task of its own when the garbage collector finds them, and they would end each other in the middle.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from types import TracebackType
from typing import Any

from opensearch_embed._call.async_work import AsyncWork
from opensearch_embed._call.job import Job
from opensearch_embed._call.progress import progress_bar
from opensearch_embed._call.stream import AHEAD, Stream, Texts, carry, follow


class AsyncChunks:
    """The chunks of a stream, one after another; what is under way ends with the `async with`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._source = _Source(stream.texts)
        self._jobs: list[Job] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._until_end = contextlib.ExitStack()

    async def __aenter__(self) -> "AsyncChunks":
        stream = self._stream
        stream.watch = self._until_end.enter_context(stream.calls.telemetry.watch())
        self._tick = self._until_end.enter_context(progress_bar(stream.total, stream.progress))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._end()
            await self._source.close()
        finally:
            self._until_end.__exit__(kind, error, trace)

    async def next(self) -> tuple[int, Any] | None:
        """Return the index of the next chunk's first text, and what its store holds; `None` at the end."""
        try:
            await self._read_ahead()
            if not self._jobs:
                return None
            await self._tasks[0]
            result = self._stream.calls.outcome(self._jobs[0])
        except Exception as error:
            await self._end()
            carry(error, self._jobs)
            raise
        del self._tasks[0]
        return self._jobs.pop(0).first, result

    async def _read_ahead(self) -> None:
        stream, calls = self._stream, self._stream.calls
        while len(self._jobs) < AHEAD and (chunk := await self._source.take(stream.size)):
            composition = stream.compose(chunk)
            recalled = await calls.arecall(stream.role, composition)
            self._jobs.append(stream.begin(composition, recalled, self._tick))
            follow(self._jobs)
            await calls.engine.connections.here()
            work = AsyncWork(calls, self._jobs[-1], owner=stream)
            self._tasks.append(asyncio.create_task(work.coordinate()))

    async def _end(self) -> None:
        for job in self._jobs:
            job.halt()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Source:
    """The texts of a stream, async or not."""

    def __init__(self, texts: Texts) -> None:
        self._texts: AsyncIterator[str] | Iterator[str]
        self._texts = aiter(texts) if isinstance(texts, AsyncIterable) else iter(texts)

    async def take(self, count: int) -> list[str]:
        """Return the next texts, fewer at the end."""
        taken: list[str] = []
        if isinstance(self._texts, AsyncIterator):
            while len(taken) < count:
                try:
                    taken.append(await anext(self._texts))
                except StopAsyncIteration:
                    break
        else:
            for text in self._texts:
                taken.append(text)
                if len(taken) == count:
                    break
        return taken

    async def close(self) -> None:
        """End an async generator; the garbage collector may be ending it at this moment."""
        close = getattr(self._texts, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):
                await close()
