"""Which texts travel together. This file does not know what HTTP is.

A request takes at most 32 texts and 8 MB of encoded body. Texts are packed in their order, each batch as full as the
limits allow, which is the fewest requests that keep the order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from opensearch_embed._texts.check import ENVELOPE_BYTES
from opensearch_embed.models import MAX_BODY_BYTES, MAX_TEXTS_PER_REQUEST


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of one request, where each stands in the call's input, and their encoded size."""

    indices: Sequence[int]
    texts: Sequence[str]
    size: int = field(default=0, compare=False)


def plan(texts: Sequence[str], sizes: Sequence[int], most_texts: int = MAX_TEXTS_PER_REQUEST) -> Iterator[Batch]:
    """Yield the batches, in order, of so many texts at most; a text of size 0 is in none of them."""
    indices: list[int] = []
    body_bytes = ENVELOPE_BYTES
    for index, size in enumerate(sizes):
        if not size:
            continue
        comma = 1 if indices else 0
        if len(indices) == most_texts or body_bytes + comma + size > MAX_BODY_BYTES:
            yield Batch(indices, [texts[i] for i in indices], body_bytes - ENVELOPE_BYTES)
            indices, body_bytes, comma = [], ENVELOPE_BYTES, 0
        indices.append(index)
        body_bytes += comma + size
    if indices:
        yield Batch(indices, [texts[i] for i in indices], body_bytes - ENVELOPE_BYTES)
