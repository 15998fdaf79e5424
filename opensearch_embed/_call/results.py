"""Where the vectors of one call are kept: as lists of float, or as the rows of one float32 array.

A place that nobody filled is seen: `None` in a list, a row of NaN in an array.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from opensearch_embed._loading import load
from opensearch_embed._wire.numbers import as_array, as_lists
from opensearch_embed.errors import ApiError

if TYPE_CHECKING:
    import numpy as np

    Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]

ResultT_co = TypeVar("ResultT_co", covariant=True)


class Store(Protocol[ResultT_co]):
    """Vectors of one call by the index of their text.

    Attributes:
        shows_refusals: Whether the result says which texts were refused, so that no error need be raised.
    """

    shows_refusals: bool

    def read(self, vectors: list[list[Any]], /) -> Any:
        """Check a reply's vectors, and bring them to a form that can be put."""
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

    def at(self, index: int) -> Any:
        """Return one vector, as the result has it."""
        ...

    def result(self) -> ResultT_co:
        """Return what the call returns. Nothing is put after that."""
        ...


class Lists:
    """Vectors as lists of float, which frameworks take."""

    shows_refusals = False
    read = staticmethod(as_lists)

    def __init__(self, count: int, dimension: int) -> None:
        self._dimension = dimension
        self._vectors: list[Any] = [None] * count

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        for index, vector in zip(indices, vectors, strict=True):
            self._vectors[index] = vector

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector."""
        for index in indices:
            self._vectors[index] = [0.0] * self._dimension

    def put_refused(self, indices: Sequence[int], error: ApiError) -> None:
        """Leave no mark: a list of vectors holds vectors alone."""

    def at(self, index: int) -> Any:
        """Return one vector."""
        return self._vectors[index]

    def result(self) -> list[Any]:
        """Return all vectors."""
        return self._vectors


class ListsOrErrors(Lists):
    """Vectors as lists of float, and an error in place of one that the service refuses. For iteration."""

    shows_refusals = True

    def put_refused(self, indices: Sequence[int], error: ApiError) -> None:
        """Put the error where the vector would be."""
        for index in indices:
            self._vectors[index] = error


class Array:
    """Vectors as the rows of one float32 array: a tenth of the memory that lists take."""

    shows_refusals = True
    read = staticmethod(as_array)

    def __init__(self, count: int, dimension: int) -> None:
        np: Any = load("numpy")
        self._rows: Rows = np.full((count, dimension), np.nan, np.float32)

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep vectors that were read."""
        self._rows[indices] = vectors

    def put_zeros(self, indices: Sequence[int]) -> None:
        """Give these texts a zero vector."""
        self._rows[indices] = 0.0

    def put_refused(self, indices: Sequence[int], _error: ApiError) -> None:
        """Give these texts a row of NaN."""
        self._rows[indices] = float("nan")

    def at(self, index: int) -> Any:
        """Return one row."""
        return self._rows[index]

    def result(self) -> "Rows":
        """Return the array."""
        return self._rows
