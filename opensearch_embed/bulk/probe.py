"""What the service does that its vendor does not document, found out by a few small requests. It believes what it sees.

Every step says what it will send before it sends. No step takes more than a handful of requests.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from opensearch_embed._texts.length import estimate_tokens
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import InvalidRequest
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST

if TYPE_CHECKING:
    from opensearch_embed._call.results import Rows

SAMPLES = (
    "Sourdough rises by wild yeast, and keeps for a week.",
    "Venice stands on wooden piles that were driven into the clay.",
    "青蒿素可以治疗疟疾，它来自一种古老的草药。",
    "def area(radius): return 3.14159 * radius ** 2",
)
"""English, Chinese and code."""

LATENCIES = 3
LONG = 2
"""How many times the model's limit a text is that is surely too long."""

SAME = 0.99999
"""Cosine of two vectors of one text."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out.

    Attributes:
        name: What it is about.
        found: What was seen.
        settings: Arguments of `EmbeddingClient` that follow from it.
    """

    name: str
    found: str
    settings: dict[str, object] = field(default_factory=dict)


def probe(client: EmbeddingClient, say: Say) -> Iterator[Finding]:
    """Find out what the service does, step by step.

    Args:
        client: With `batch_size=32`, `overflow="send"` and `on_error="raise"`, which are the defaults.
        say: Told before each step what it will send.

    Yields:
        What each step found.

    Raises:
        OpenSearchEmbedError: The service did not answer, or refused what nothing is wrong with.
    """
    yield from _vectors(client, say)
    yield _latency(client, say)
    yield _most_texts(client, say)
    yield _long_texts(client, say)


def _vectors(client: EmbeddingClient, say: Say) -> Iterator[Finding]:
    say(f"{len(SAMPLES)} short texts, one request each: the length of vectors, and how tokens are counted.")
    rows, ratios = [], []
    for text in SAMPLES:
        before = client.usage.tokens
        rows.append(client.embed_array([text])[0])
        ratios.append(estimate_tokens(text) / max(1, client.usage.tokens - before))
    lengths = np.linalg.norm(np.asarray(rows, np.float64), axis=1)
    if np.all(np.abs(lengths - 1) < 1e-3):
        yield Finding("vectors", "have unit length: the dot product is the cosine")
    else:
        yield Finding(
            "vectors", f"have lengths from {lengths.min():.3g} to {lengths.max():.3g}: compare them by cosine, not dot"
        )
    low, high = min(ratios), max(ratios)
    fits = "on the safe side" if low >= 1 else "too low for some texts: give a length_function, or cut shorter"
    yield Finding("tokens", f"our estimate is {low:.2f} to {high:.2f} times the service's count: {fits}")


def _latency(client: EmbeddingClient, say: Say) -> Finding:
    say(f"{LATENCIES} requests of one short text, one after another: the latency.")
    seconds = []
    for number in range(LATENCIES):
        start = time.perf_counter()
        client.embed([f"How long does this take? ({number})"], "query")
        seconds.append(time.perf_counter() - start)
    middle = statistics.median(seconds)
    return Finding("latency", f"{middle * 1000:.0f} ms (of {LATENCIES} requests, the middle one)")


def _most_texts(client: EmbeddingClient, say: Say) -> Finding:
    say(f"A request of {MAX_TEXTS_PER_REQUEST} short texts, and up to 5 of fewer: texts in one request, at most.")
    taken, refused = 1, MAX_TEXTS_PER_REQUEST + 1
    count = MAX_TEXTS_PER_REQUEST
    why = ""
    while refused - taken > 1:
        try:
            client.embed_array([f"Text number {number}." for number in range(count)])
            taken = count
        except InvalidRequest as error:
            refused, why = count, error.message
        count = (taken + refused) // 2
    if taken == MAX_TEXTS_PER_REQUEST:
        return Finding("batch", f"{taken} texts in one request are taken, as documented")
    return Finding("batch", f"{taken} texts in one request at most; of {refused} it says: {why}", {"batch_size": taken})


def _long_texts(client: EmbeddingClient, say: Say) -> Finding:
    limit = client.model.max_input_tokens
    if limit is None:
        return Finding("long texts", "not tried: nobody knows how much of a text this model reads")
    tokens = LONG * limit
    say(f"One request of two texts of about {tokens:,} tokens that end differently: what too long a text gets.")
    body = "word " * (tokens * 3 // 4)
    try:
        one, other = client.embed_array([body + end * (tokens // 4) for end in ("bread ", "moon ")])
    except InvalidRequest as error:
        return Finding("long texts", f"are refused: {error.message}", {"overflow": "truncate"})
    if _cosine(one, other) > SAME:
        return Finding("long texts", "are cut: two that end differently got the same vector", {"overflow": "average"})
    return Finding("long texts", f"are read beyond {limit:,} tokens: two that end differently got different vectors")


def _cosine(one: "Rows", other: "Rows") -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
