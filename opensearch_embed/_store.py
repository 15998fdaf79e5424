"""Where the vectors of one call are kept: as lists of float, or as the rows of one float32 array."""

from collections.abc import Sequence
from typing import Any, Protocol

from opensearch_embed._numbers import as_array, as_lists


class Store(Protocol):
    """Vectors of one call by the index of their text."""

    result: Any

    def read(self, vectors: list[list[Any]], /) -> Any:
        """Check a reply's vectors, and bring them to the form they are kept in."""
        ...

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        ...

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector."""
        ...


class Lists:
    """Vectors as lists of float, which frameworks take."""

    read = staticmethod(as_lists)

    def __init__(self, count: int, dimension: int) -> None:
        self._dimension = dimension
        self.result: list[list[float]] = [[]] * count

    def put(self, indices: Sequence[int], vectors: list[list[float]]) -> None:
        """Keep vectors that were read."""
        for index, vector in zip(indices, vectors, strict=True):
            self.result[index] = vector

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector, each its own."""
        for index in indices:
            self.result[index] = [0.0] * self._dimension


class Array:
    """Vectors as the rows of one float32 array: a tenth of the memory that lists take."""

    read = staticmethod(as_array)

    def __init__(self, count: int, dimension: int) -> None:
        import numpy as np

        self.result = np.empty((count, dimension), np.float32)

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        self.result[indices] = vectors

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector."""
        self.result[indices] = 0.0
