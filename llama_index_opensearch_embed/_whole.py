"""One call of the framework is one call of the core: its batches take their vectors from one stream over all texts.

The framework hands over one batch, waits for it, and then hands over the next. So a small `embed_batch_size` would make
requests that are not full, and between two batches nothing would be under way.
"""

import contextlib
import re
from collections.abc import Generator, Iterator, Sequence
from contextvars import ContextVar
from itertools import islice
from typing import Any

from opensearch_embed import ApiError, InputError, OpenSearchEmbedError

Vectors = Iterator[tuple[int, list[float]]]


class WholeList:
    """The texts of one call of the framework, and their vectors as they come."""

    def __init__(self, owner: object, texts: list[str], size: int, vectors: Vectors) -> None:
        self._owner = owner
        self._texts = texts
        self._size = size
        self._vectors: Vectors | None = vectors
        self._start = 0

    def take(self, owner: object, texts: list[str]) -> list[list[float]] | None:
        """Return the vectors of a batch, if it is the next one of this owner; an error counts in the batch."""
        start, end = self._start, self._start + self._size
        if self._vectors is None or owner is not self._owner or not texts or self._texts[start:end] != texts:
            return None
        self._start = end
        taken: list[list[float]] = []
        try:
            for _, vector in islice(self._vectors, len(texts)):
                taken.append(vector)
        except OpenSearchEmbedError as error:
            self._vectors = None
            if isinstance(error, InputError) and error.index is not None and error.index >= end:
                return None  # it is a later batch's, which will say so itself
            within_a_batch(error, start, len(texts), taken)
            raise
        except BaseException as error:  # Ctrl-C, which knows what is done as our errors do
            self._vectors = None
            if hasattr(error, "pending"):
                count_within(error, start, len(texts), taken)
            raise
        return taken


_current: ContextVar[WholeList | None] = ContextVar("opensearch_embed_whole", default=None)


@contextlib.contextmanager
def handed_over(whole: WholeList, vectors: Generator[Any, None, None]) -> Iterator[None]:
    """Let `taken` find the vectors of a list's batches, inside."""
    token = _current.set(whole)
    try:
        with contextlib.closing(vectors):
            yield
    finally:
        _current.reset(token)


def taken(owner: object, texts: list[str]) -> list[list[float]] | None:
    """Return the vectors of a batch, if it belongs to a list that was handed over."""
    whole = _current.get()
    return None if whole is None else whole.take(owner, texts)


def within_a_batch(error: OpenSearchEmbedError, start: int, count: int, taken: Sequence[list[float]] = ()) -> None:
    """Let an error that counts in the whole list count in one batch, whose first vectors were taken."""
    error.args = (re.sub(r"texts\[(\d+)\]", lambda place: f"texts[{int(place[1]) - start}]", str(error)),)
    if isinstance(error, InputError) and error.index is not None:
        error.index -= start
    if isinstance(error, ApiError):
        error.indices = [index - start for index in error.indices]
    count_within(error, start, count, taken)


def count_within(error: Any, start: int, count: int, taken: Sequence[list[float]] = ()) -> None:
    """Let what an error knows of the whole list be said of one batch."""
    received = {index - start: vector for index, vector in error.completed.items() if start <= index < start + count}
    error.completed = dict(sorted((dict(enumerate(taken)) | received).items()))
    error.pending = [index for index in range(count) if index not in error.completed]
    notes: list[str] = getattr(error, "__notes__", [])
    notes[:] = [re.sub(r"^\d+ of \d+ texts", f"{len(error.completed)} of {count} texts", note) for note in notes]
