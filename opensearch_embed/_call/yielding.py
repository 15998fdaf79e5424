"""What a stream's consumer gets: vector after vector, or arrays of as many rows as it wants."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from opensearch_embed._call.async_stream import AsyncChunks
from opensearch_embed._call.attach import attach
from opensearch_embed._call.stream import Stream


def pairs(stream: Stream) -> Iterator[tuple[int, Any]]:
    """Yield each vector with the index of its text."""
    with contextlib.closing(stream.run()) as chunks:
        for first, vectors in chunks:
            yield from enumerate(vectors, first)


async def apairs(stream: Stream) -> AsyncIterator[tuple[int, Any]]:
    """Yield each vector with the index of its text."""
    async with AsyncChunks(stream) as chunks:
        while (chunk := await chunks.next()) is not None:
            first, vectors = chunk
            for pair in enumerate(vectors, first):
                yield pair


def arrays(stream: Stream, rows: int) -> Iterator[Any]:
    """Yield arrays of so many rows, the last one shorter."""
    cut = _Cutter(rows)
    with cut.kept_on_errors(), contextlib.closing(stream.run()) as chunks:
        for _, chunk in chunks:
            yield from cut.add(chunk)
    yield from cut.rest()


async def aarrays(stream: Stream, rows: int) -> AsyncIterator[Any]:
    """Yield arrays of so many rows, the last one shorter."""
    cut = _Cutter(rows)
    with cut.kept_on_errors():
        async with AsyncChunks(stream) as chunks:
            while (chunk := await chunks.next()) is not None:
                for array in cut.add(chunk[1]):
                    yield array
    for array in cut.rest():
        yield array


class _Cutter:
    """Cuts the arrays that chunks come in to the length that the consumer wants."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._left: list[Any] = []
        self._yielded = 0

    def add(self, chunk: Any) -> Iterator[Any]:
        """Yield what is complete with this chunk."""
        import numpy as np

        self._left.append(chunk)
        have = sum(map(len, self._left))
        if have >= self._rows:
            whole = np.concatenate(self._left) if len(self._left) > 1 else chunk
            end = have - have % self._rows
            self._left = [whole[end:].copy()] if end < have else []
            for start in range(0, end, self._rows):
                self._yielded += self._rows
                yield whole[start : start + self._rows]

    @contextlib.contextmanager
    def kept_on_errors(self) -> Iterator[None]:
        """Let an error carry the rows that wait for others to make an array."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            waiting = (row for chunk in self._left for row in chunk)
            completed = dict(enumerate(waiting, self._yielded)) | getattr(error, "completed", {})
            attach(error, completed, getattr(error, "pending", []))
            raise

    def rest(self) -> Iterator[Any]:
        """Yield what is left at the end."""
        import numpy as np

        if self._left:
            yield np.concatenate(self._left)
