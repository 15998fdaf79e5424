"""What the cache is asked, and what is written to it. The cache itself is `cache.SqliteCache`, or the user's own."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from opensearch_embed._call.keys import keys_for
from opensearch_embed.models import INPUT_TYPES, InputType
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings

if TYPE_CHECKING:
    from opensearch_embed.cache import VectorCache


class Memory:
    """The cache of one client: vectors by endpoint, model, role and text."""

    def __init__(self, settings: Settings, cache: "VectorCache") -> None:
        self._cache = cache
        self._dimension = settings.model.dimension
        place = f"{settings.endpoint} {settings.workspace}"
        self._key = {role: keys_for(place, settings.model.service_id, role) for role in INPUT_TYPES}

    @classmethod
    def of(cls, settings: Settings, options: Options) -> "Memory | None":
        """Return the memory that the options ask for, if any."""
        return None if options.cache is None else cls(settings, options.cache)

    def recall(self, role: InputType, texts: Mapping[int, str]) -> dict[int, list[float]]:
        """Return the vectors that are there, by the number of their text."""
        keys = {number: self._key[role](text) for number, text in texts.items()}
        found = self._cache.get_many(list(keys.values()))
        vectors = {number: _floats(found[key]) for number, key in keys.items() if found.get(key) is not None}
        # A vector of another length is another model's, and NaN is damage: ask again.
        return {
            number: vector
            for number, vector in vectors.items()
            if len(vector) == self._dimension and math.isfinite(sum(vector))
        }

    def keep(self, role: InputType, texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> BaseException | None:
        """Write vectors; return what went wrong, since a cache that fails must not lose the vectors that are there."""
        try:
            # A copy, since the caller may change the lists that it is given.
            self._cache.put_many({self._key[role](text): list(v) for text, v in zip(texts, vectors, strict=True)})
        except Exception as error:  # noqa: BLE001 - the job raises it, with all that is done
            return error
        return None

    def close(self) -> None:
        """Close a file; the next use opens it again. A cache of the user's own is the user's to close."""
        from opensearch_embed.cache import SqliteCache

        if isinstance(self._cache, SqliteCache):
            self._cache.close()


def _floats(vector: Sequence[float]) -> list[float]:
    """Return a vector of any kind, such as a row of numpy, as a list of float."""
    return list(map(float, vector))
