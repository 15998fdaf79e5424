"""A reply's vectors are numbers, all of them: checked here, and brought to the form that a caller wants.

Both functions look at every number, and are written for speed: a reply has 32,768 of them.
"""

from operator import countOf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def as_lists(vectors: list[list[Any]]) -> list[list[float]]:
    """Return the vectors as they are, whole numbers made float.

    That they are finite is seen to by orjson, which reads neither NaN nor a number that a float cannot hold.

    Raises:
        ValueError: Something is not a number.
    """
    for index, vector in enumerate(vectors):
        if countOf(map(type, vector), float) != len(vector):
            if not set(map(type, vector)) <= {float, int}:
                raise ValueError(f"has something that is not a number for index {index}")
            vectors[index] = list(map(float, vector))
    return vectors


def as_array(vectors: list[list[Any]]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return the vectors as rows of float32.

    Raises:
        ValueError: Something is not a number, or too large for float32.
    """
    import numpy as np

    try:
        rows = np.asarray(vectors)
    except ValueError:  # something among the numbers is an array
        rows = np.empty(0)
    # numpy takes true for 1.0 and false for 0.0 without a word, so where these stand, look at the types.
    if rows.dtype != np.float64 or rows.ndim != 2 or ((rows == 0.0) | (rows == 1.0)).any():
        rows = np.asarray(as_lists(vectors))
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("has a number that is too large for float32 (embed returns it as float)")
    return rows
