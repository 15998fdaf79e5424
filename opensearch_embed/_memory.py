"""What the cache is asked, and what is written to it. The cache itself is `cache.SqliteCache`, or the user's own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from opensearch_embed._keys import keys_for
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
        vectors = {number: list(found[key]) for number, key in keys.items() if key in found}
        # A vector of another length is another model's, or damage: ask again.
        return {number: vector for number, vector in vectors.items() if len(vector) == self._dimension}

    def keep(self, role: InputType, texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> BaseException | None:
        """Write vectors; return what went wrong, since a cache that fails must not lose the vectors that are there."""
        try:
            self._cache.put_many(dict(zip(map(self._key[role], texts), vectors, strict=True)))
        except Exception as error:  # noqa: BLE001 - the job raises it, with all that is done
            return error
        return None
