"""The pieces that a long text was cut into, until all their vectors are there."""

from collections.abc import Callable, Sequence
from typing import Any

from opensearch_embed._texts.repeats import Composition

Combine = Callable[[Sequence[Any], Sequence[str]], Any]
"""Takes the vectors of a text's pieces, and the pieces; returns the text's vector."""


class Pieces:
    """The vectors of pieces, each kept until its text has all of them."""

    def __init__(self, composition: Composition, combine: Combine | None) -> None:
        self._composition = composition
        self._combine = combine
        self._have: dict[int, dict[int, Any]] = {}

    def joined(self, number: int, vector: Any) -> Any:
        """Return a text's vector, if this is all of it or the last piece that was missing; else `None`."""
        composition = self._composition
        text = composition.owner.get(number)
        if text is None:
            return vector
        numbers = composition.pieces[text]
        have = self._have.setdefault(text, {})
        have[number] = vector
        if len(have) < len(numbers) or self._combine is None:
            return None
        del self._have[text]
        return self._combine([have[i] for i in numbers], [composition.items[i] for i in numbers])
