"""A reply's vectors are numbers, all of them: checked here, and brought to the form that a caller wants.

Both functions look at every number, and are written for speed: a reply has 32,768 of them. A vector is a list, or a
memoryview of doubles (`read_large`).
"""

import struct
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def as_lists(vectors: list[Any], first: int = 0) -> list[list[float]]:
    """Return the vectors as they are, whole numbers made float. `first` is the index of the first one.

    That they are finite is seen to by orjson, which reads neither NaN nor a number that a float cannot hold.

    Raises:
        ValueError: Something is not a number.
    """
    for index, vector in enumerate(vectors):
        if isinstance(vector, memoryview):
            vectors[index] = vector.tolist()
            continue
        try:
            # A method that does nothing, and that only a float has: the cheapest look at a thousand types.
            deque(map(float.conjugate, vector), maxlen=0)
        except TypeError as error:
            if not set(map(type, vector)) <= {float, int}:
                raise ValueError(f"has something that is not a number for index {first + index}") from error
            vectors[index] = list(map(float, vector))
    return vectors


def as_array(vectors: list[Any]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return the vectors, at least one and all of one length, as rows of float32.

    Raises:
        ValueError: Something is not a number, or too large for float32.
    """
    import numpy as np

    rows = np.empty((len(vectors), len(vectors[0])), np.float32)
    if all(isinstance(vector, memoryview) for vector in vectors):
        with np.errstate(over="ignore"):
            for index, vector in enumerate(vectors):
                rows[index] = vector
        if np.isfinite(rows).all():
            return rows
    row = struct.Struct(f"={rows.shape[1]}f")
    buffer = rows.data.cast("B")
    for index, vector in enumerate(vectors):
        try:
            row.pack_into(buffer, index * row.size, *vector)
        except struct.error as error:
            raise ValueError(f"has something that is not a number for index {index}") from error
        except OverflowError as error:
            raise ValueError(f"has a number that is too large for float32 (embed returns it) for {index}") from error
    # struct takes true for 1.0 and false for 0.0 without a word, so look at the types of what became these.
    for index in np.flatnonzero(((rows == 0.0) | (rows == 1.0)).any(axis=1)).tolist():
        as_lists([vectors[index]], first=index)
    return rows
