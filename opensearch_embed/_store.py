"""Where the vectors of one call are kept: as lists of float, or as the rows of one float32 array."""

from collections.abc import Sequence
from typing import Any, Protocol

from opensearch_embed._numbers import as_array, as_lists
from opensearch_embed.errors import ApiError


class Store(Protocol):
    """Vectors of one call by the index of their text.

    Attributes:
        result: What the call returns.
        shows_refusals: Whether the result says which texts were refused, so that no error need be raised.
    """

    result: Any
    shows_refusals: bool

    def read(self, vectors: list[list[Any]], /) -> Any:
        """Check a reply's vectors, and bring them to the form they are kept in."""
        ...

    def copy(self, vector: Any, /) -> Any:
        """Return a vector for another text with the same words."""
        ...

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        ...

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector."""
        ...

    def put_refused(self, indices: Sequence[int], error: ApiError) -> None:
        """Note that the service refuses these texts."""
        ...


class Lists:
    """Vectors as lists of float, which frameworks take."""

    shows_refusals = False
    read = staticmethod(as_lists)

    def __init__(self, count: int, dimension: int) -> None:
        self._dimension = dimension
        self.result: list[Any] = [[]] * count

    def copy(self, vector: list[float]) -> list[float]:
        """Return another list, so that changing one text's vector changes no other."""
        return vector.copy()

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        for index, vector in zip(indices, vectors, strict=True):
            self.result[index] = vector

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector, each its own."""
        for index in indices:
            self.result[index] = [0.0] * self._dimension

    def put_refused(self, indices: Sequence[int], error: ApiError) -> None:
        """Leave no mark: a list of vectors holds vectors alone."""


class ListsOrErrors(Lists):
    """Vectors as lists of float, and an error in place of one that the service refuses. For iteration."""

    shows_refusals = True

    def put_refused(self, indices: Sequence[int], error: ApiError) -> None:
        """Put the error where the vector would be."""
        for index in indices:
            self.result[index] = error


class Array:
    """Vectors as the rows of one float32 array: a tenth of the memory that lists take."""

    shows_refusals = True
    read = staticmethod(as_array)

    def __init__(self, count: int, dimension: int) -> None:
        import numpy as np

        self.result = np.empty((count, dimension), np.float32)

    def copy(self, vector: Any) -> Any:
        """Return the row itself: it is copied when it is put."""
        return vector

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        self.result[indices] = vectors

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector."""
        self.result[indices] = 0.0

    def put_refused(self, indices: Sequence[int], _error: ApiError) -> None:
        """Give these texts a row of NaN."""
        self.result[indices] = float("nan")
