"""Vectors of batches that the framework has not asked for yet: it waits for one batch before it asks for the next."""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextvars import ContextVar

Vectors = Generator[list[list[float]], None, None]

_ahead: ContextVar[tuple[object, deque[list[str]], Vectors] | None] = ContextVar("opensearch_embed_ahead", default=None)


@contextlib.contextmanager
def sent_ahead(owner: object, batches: Iterable[list[str]], vectors: Vectors) -> Iterator[None]:
    """Let `taken_ahead` find the vectors of an owner's batches, inside, in their order."""
    token = _ahead.set((owner, deque(batches), vectors))
    try:
        with contextlib.closing(vectors):
            yield
    finally:
        _ahead.reset(token)


def taken_ahead(owner: object, texts: list[str]) -> list[list[float]] | None:
    """Return the vectors of a batch, if it is the next of those that its owner sent ahead."""
    found = _ahead.get()
    if found is None:
        return None
    whose, batches, vectors = found
    if whose is not owner or not batches or batches[0] != texts:
        return None
    batches.popleft()
    return next(vectors)
