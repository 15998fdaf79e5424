"""What a stream's vectors and refusals become: rows in the file of vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from opensearch_embed._wire.numbers import as_array
from opensearch_embed.bulk.vectors import Vectors
from opensearch_embed.errors import ApiError


class Arrivals:
    """Takes the vectors of one chunk of a stream, and puts them where their rows belong.

    It is a store of `_call.results`, whose result is nothing: all that arrives is in the file at once.
    """

    shows_refusals = True
    read = staticmethod(as_array)

    def __init__(self, vectors: Vectors, rows: Sequence[int], dimension: int) -> None:
        self._vectors = vectors
        self._rows = rows
        self._dimension = dimension

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        if indices:
            self._vectors.put([self._rows[i] for i in indices], np.asarray(vectors, np.float32))

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector."""
        self.put(indices, np.zeros((len(indices), self._dimension), np.float32))

    def put_refused(self, indices: Sequence[int], error: ApiError) -> None:
        """Note that the service refuses these texts."""
        if indices:
            self._vectors.refuse([self._rows[i] for i in indices], error)

    def at(self, _index: int) -> None:
        """Return nothing: errors need not carry what is on disk."""

    def result(self) -> None:
        """Return nothing: the vectors are on disk."""
