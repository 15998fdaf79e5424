"""The rows that could not be embedded, told in the order of the rows, whatever the order in which that was found."""

import heapq
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import orjson

from opensearch_embed.bulk.vectors import Vectors


class Rejections:
    """Collects the rows without a text that could be sent, and joins them with those that the service refused.

    The former are found again by each run, in their order; the latter are kept in `Vectors`, since finding them takes
    requests.
    """

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        self._vectors = vectors
        self._path = folder / "rejected.jsonl"
        self._found = (folder / "unfit.jsonl").open("w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._found.close()

    def add(self, row: int, problem: str) -> None:
        """Note what is wrong with a row's text."""
        rejection = {"row": row, "error": "InputError", "message": problem}
        self._found.write(orjson.dumps(rejection, option=orjson.OPT_APPEND_NEWLINE))
        self._vectors.reject(row)

    def finish(self) -> str | None:
        """Write the file that tells all of them, and return its name; `None` where there are none."""
        self._found.flush()
        self._found.seek(0)
        refused = (self._vectors.refused[row] for row in sorted(self._vectors.refused))
        count = 0
        with self._path.open("wb") as file:
            for rejection in heapq.merge(map(orjson.loads, self._found), refused, key=_row):
                file.write(orjson.dumps(rejection, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
            file.flush()
            os.fsync(file.fileno())
        return self._path.name if count else None


def count_rejected(path: Path) -> int:
    """Return how many rows a file tells as rejected."""
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file


def _row(rejection: dict[str, Any]) -> int:
    row: int = rejection["row"]
    return row
