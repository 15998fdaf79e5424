"""The vectors of a file, kept on disk from the moment that they arrive: what survives a kill, and is not paid again.

Each row has its place in one file of float32, behind room for the header of a .npy file. A second file holds a mark for
each row: the checksum of its vector, written after it. A row without its mark, or whose vector is not what the mark
says, counts as not done; so a torn write costs what it tore. Texts that the service refused are lines in a third file.
"""

import contextlib
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import orjson

from opensearch_embed.errors import ApiError

if TYPE_CHECKING:
    from opensearch_embed._call.results import Rows

HEADER_BYTES = 128
"""What a .npy file of any length has in front of its numbers."""

OPEN, EMBEDDED, REJECTED = 0, 1, 2
"""What is known of a row."""

_MARK = np.dtype("<u4")
_seeking = threading.Lock()


class Vectors:
    """The vectors of all rows. Safe to share between threads.

    Attributes:
        path: The file of vectors.
        states: What is known of each row so far, one byte a row.
        done: How many rows are embedded or rejected.
        changed: Wakes those who wait for rows.
        refused: Why the service refused a row, by row.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self.path = folder / "vectors"
        self.states = bytearray()
        self.done = 0
        self.changed = threading.Condition()
        self._row_bytes = 4 * dimension
        self._dimension = dimension
        self._vectors = _open(self.path)
        self._marks = _open(folder / "marks")
        self._marked = os.fstat(self._marks).st_size // _MARK.itemsize
        self._refusals = (folder / "refused.jsonl").open("a+b")
        # What comes after the end, from requests that were under way, must not be written: the numbers of these files
        # may be those of others by then.
        self._writing = threading.Lock()
        self._closed = False
        self.refused: dict[int, dict[str, Any]] = dict(_whole_lines(self._refusals))
        self._refusals.truncate(self._refusals.tell())

    def close(self) -> None:
        """Close the files. Nothing is written any more."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            os.close(self._vectors)
            os.close(self._marks)
            self._refusals.close()

    # --- what arrives ---

    def put(self, rows: Sequence[int], vectors: "Rows") -> None:
        """Keep the vectors of some rows."""
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        marks = np.fromiter((zlib.crc32(vector.data) or 1 for vector in vectors), _MARK, len(vectors))
        with self._writing:
            if self._closed:
                return
            for start, stop in _runs(rows):
                _write(self._vectors, vectors[start:stop].data.cast("B"), HEADER_BYTES + rows[start] * self._row_bytes)
                _write(self._marks, marks[start:stop].data.cast("B"), rows[start] * _MARK.itemsize)
        self._settle(rows, EMBEDDED)

    def refuse(self, rows: Sequence[int], error: ApiError) -> None:
        """Note that the service refuses the texts of some rows."""
        words = ": ".join(filter(None, (error.code, error.message))) or str(error)
        with self._writing:
            if self._closed:
                return
            for row in rows:
                self.refused[row] = {"row": row, "error": type(error).__name__, "message": f"The service says {words}"}
                self._refusals.write(orjson.dumps(self.refused[row], option=orjson.OPT_APPEND_NEWLINE))
            self._refusals.flush()
        self._settle(rows, REJECTED)

    def reject(self, row: int) -> None:
        """Note that a row has no text that could be sent."""
        self._settle([row], REJECTED)

    def _settle(self, rows: Sequence[int], state: int) -> None:
        with self.changed:
            missing = max(rows) + 1 - len(self.states)
            if missing > 0:
                self.states.extend(bytes(missing))
            for row in rows:
                self.done += not self.states[row]
                self.states[row] = state
            self.changed.notify_all()

    # --- what is there ---

    def recall(self, first: int, count: int) -> None:
        """Find out which of some rows an earlier run has done: those whose vector is what its mark says."""
        refused = [row for row in range(first, first + count) if row in self.refused]
        if refused:
            self._settle(refused, REJECTED)
        count = min(count, self._marked - first)
        if count <= 0:
            return
        marks = np.frombuffer(_read(self._marks, count * _MARK.itemsize, first * _MARK.itemsize), _MARK)
        if marks.any():
            vectors = self._read(first, count)
            sound = [
                first + i for i in np.flatnonzero(marks).tolist() if (zlib.crc32(vectors[i].data) or 1) == marks[i]
            ]
            sound = [row for row in sound if row not in self.refused]
            if sound:
                self._settle(sound, EMBEDDED)

    def state(self, row: int) -> int:
        """Return what is known of a row."""
        return self.states[row] if row < len(self.states) else OPEN

    def wait_for(self, stop: int, given_up: Callable[[], bool]) -> bool:
        """Return when every row before `stop` is done; `False` if that was given up."""
        first = 0
        with self.changed:
            while True:
                found = self.states.find(OPEN, first, stop)
                if found < 0 and len(self.states) >= stop:
                    return True
                first = len(self.states) if found < 0 else found
                if given_up():
                    return False
                self.changed.wait(1.0)

    def read(self, first: int, count: int) -> tuple["Rows", "np.ndarray[Any, np.dtype[np.bool_]]"]:
        """Return the vectors of some rows that are done, and which of them are rejected; those are zeros."""
        vectors = self._read(first, count)
        rejected = np.frombuffer(bytes(self.states[first : first + count]), np.uint8) == REJECTED
        vectors[rejected] = 0.0
        return vectors, rejected

    def overwrite(self, row: int, vector: Any) -> None:
        """Put a vector in the place of a row that is rejected, for a form that has no nulls."""
        _write(self._vectors, np.ascontiguousarray(vector, "<f4").data.cast("B"), HEADER_BYTES + row * self._row_bytes)

    def _read(self, first: int, count: int) -> "Rows":
        data = _read(self._vectors, count * self._row_bytes, HEADER_BYTES + first * self._row_bytes)
        return np.frombuffer(data, "<f4").reshape(count, self._dimension)


def marked(folder: Path) -> bytearray:
    """Return a byte for each row, 1 where it is done: by its mark, or since the service refused it. Only reads."""
    rows = bytearray()
    with contextlib.suppress(FileNotFoundError):
        rows += (np.fromfile(folder / "marks", _MARK) != 0).tobytes()
        with (folder / "refused.jsonl").open("rb") as file:
            for row, _ in _whole_lines(file):
                rows.extend(bytes(max(0, row + 1 - len(rows))))
                rows[row] = 1
    return rows


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield where each run of consecutive rows starts and stops."""
    cuts = [0, *(i for i, (row, following) in enumerate(pairwise(rows), 1) if following != row + 1), len(rows)]
    yield from pairwise(cuts)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        if hasattr(os, "pwrite"):
            written = os.pwrite(descriptor, data, offset)
        else:  # Windows
            with _seeking:
                os.lseek(descriptor, offset, os.SEEK_SET)
                written = os.write(descriptor, data)
        data, offset = data[written:], offset + written


def _read(descriptor: int, size: int, offset: int) -> bytearray:
    """Return so many bytes; zeros where the file ends before."""
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        if hasattr(os, "preadv"):
            read = os.preadv(descriptor, [view[got:]], offset + got)
        else:  # Windows
            with _seeking:
                os.lseek(descriptor, offset + got, os.SEEK_SET)
                part = os.read(descriptor, size - got)
            read = len(part)
            view[got : got + read] = part
        if not read:
            break
        got += read
    return data


def _whole_lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what a file of JSON lines says of each row, up to a line that was torn; the file is left there."""
    file.seek(0)
    end = 0
    for line in file:
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            break
        if not line.endswith(b"\n"):
            break
        end += len(line)
        yield found["row"], found
    file.seek(end)
