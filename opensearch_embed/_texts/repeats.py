"""What is sent for the texts of a call: each distinct text once, and pieces in place of a text that is too long.

Whatever is sent has a number. A text sent as it is has its index in the call's input; a piece has a number above those.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opensearch_embed._texts.check import check_fits, encoded_size

Shorten = Callable[[str, int], list[str]]
"""Takes a text and its index; returns what is sent for it: itself, a shorter one, or several pieces."""


@dataclass(frozen=True, slots=True)
class Composition:
    """What is sent, and which texts it is for.

    Attributes:
        count: How many texts the call has.
        first: Index of the first of them, for the caller: 0, or more in a later chunk of a stream.
        items: What may be sent, by number: first the texts, then the pieces.
        sizes: Encoded size of each; 0 for what is not sent: an empty text, a repeated one, one sent in pieces.
        copies: Indices of the texts that repeat a text, by its index.
        pieces: Numbers of a text's pieces, by its index.
        owner: The text that a piece is of, by its number.
    """

    count: int
    items: list[str]
    sizes: list[int]
    copies: dict[int, list[int]] = field(default_factory=dict)
    pieces: dict[int, range] = field(default_factory=dict)
    owner: dict[int, int] = field(default_factory=dict)
    first: int = 0

    def texts_of(self, number: int) -> list[int]:
        """Return the indices of all texts that need what has this number."""
        text = self.owner.get(number, number)
        return [text, *self.copies.get(text, ())]


def compose(
    texts: Sequence[str], sizes: Sequence[int], shorten: Shorten | None = None, *, sure_size: int = 0, first: int = 0
) -> Composition:
    """Find repeated texts, and texts that are too long: `shorten` is asked about those over `sure_size`.

    Raises:
        InputError: A text is larger than a body may be, as it will be sent.
    """
    whole = Composition(len(texts), list(texts), list(sizes), first=first)
    originals: dict[str, int] = {}
    for index, text in enumerate(texts):
        if not sizes[index]:
            continue
        original = originals.setdefault(text, index)
        if original != index:
            whole.copies.setdefault(original, []).append(index)
            whole.sizes[index] = 0
        elif shorten is not None and sizes[index] > sure_size:
            _shorten(whole, index, shorten(text, first + index))
        for number in whole.pieces.get(index, (index,)):
            check_fits(whole.sizes[number], first + index)
    return whole


def _shorten(whole: Composition, index: int, parts: list[str]) -> None:
    if len(parts) == 1:
        if parts[0] is not whole.items[index]:
            whole.items[index] = parts[0]
            whole.sizes[index] = encoded_size(parts[0], whole.first + index)
        return
    start = len(whole.items)
    whole.items.extend(parts)
    whole.sizes.extend(encoded_size(part, whole.first + index) for part in parts)
    whole.sizes[index] = 0
    whole.pieces[index] = range(start, start + len(parts))
    whole.owner.update(dict.fromkeys(whole.pieces[index], index))
