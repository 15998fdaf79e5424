"""Where the vectors of one call are kept: as lists of float, or as the rows of one float32 array."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from opensearch_embed.errors import ResponseError

if TYPE_CHECKING:
    import numpy as np


class Store(Protocol):
    """Vectors of one call by the index of their text."""

    result: Any

    def convert(self, vectors: list[list[float]]) -> Any:
        """Bring a reply's vectors to the form they are kept in."""
        ...

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep converted vectors."""
        ...

    def put_zeros(self, indices: Iterable[int]) -> None:
        """Give these texts a zero vector."""
        ...


class Lists:
    """Vectors as lists of float, which frameworks take."""

    def __init__(self, count: int, dimension: int) -> None:
        self._dimension = dimension
        self.result: list[list[float]] = [[]] * count

    def convert(self, vectors: list[list[float]]) -> list[list[float]]:
        """Keep them as they are."""
        return vectors

    def put(self, indices: Sequence[int], vectors: list[list[float]]) -> None:
        """Keep converted vectors."""
        for index, vector in zip(indices, vectors, strict=True):
            self.result[index] = vector

    def put_zeros(self, indices: Iterable[int]) -> None:
        """Give these texts a zero vector, each its own."""
        for index in indices:
            self.result[index] = [0.0] * self._dimension


class Array:
    """Vectors as the rows of one float32 array: a tenth of the memory that lists take."""

    def __init__(self, count: int, dimension: int) -> None:
        import numpy as np

        self.result: np.ndarray[tuple[int, int], np.dtype[np.float32]] = np.empty((count, dimension), np.float32)

    def convert(self, vectors: list[list[float]]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Turn them into rows, and refuse numbers that float32 cannot hold."""
        import numpy as np

        with np.errstate(over="ignore"):
            rows = np.array(vectors, np.float32)
        if not np.isfinite(rows).all():
            raise ResponseError("The service sent a number that is too large for float32; embed() returns it as float.")
        return rows

    def put(self, indices: Sequence[int], vectors: Any) -> None:
        """Keep converted vectors."""
        self.result[indices] = vectors

    def put_zeros(self, indices: Iterable[int]) -> None:
        """Give these texts a zero vector."""
        self.result[list(indices)] = 0.0
