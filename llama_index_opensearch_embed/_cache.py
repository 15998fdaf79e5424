"""What a cached vector is filed under. The framework's own key is the text alone; this file adds model and role.

It knows key-value stores, and nothing of how vectors are made.
"""

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from hashlib import sha256
from typing import Any

from llama_index.core.storage.kvstore.types import BaseKVStore

from opensearch_embed import ApiError, ConfigurationError, InputError, InputType, OpenSearchEmbedError, Settings

COLLECTION = "embeddings"
"""The one collection that the framework asks its embeddings cache for."""

_role: ContextVar[InputType] = ContextVar("opensearch_embed_role", default="document")


@contextlib.contextmanager
def searching() -> Iterator[None]:
    """Say that the texts embedded inside are queries: the framework tells its cache nothing but the text."""
    token = _role.set("query")
    try:
        yield
    finally:
        _role.reset(token)


class ModelCache(BaseKVStore):
    """A view of any key-value store, with a collection of its own for each model and role.

    What it does not have itself is the store's: `persist`, for one.

    Attributes:
        store: The store behind it. It may serve any number of models at once.
    """

    def __init__(self, store: BaseKVStore, model: str) -> None:
        self.store = store
        self._model = model

    def put(self, key: str, val: dict[str, Any], collection: str = COLLECTION) -> None:
        """Keep a vector."""
        if _is_kept(key):
            self.store.put(key, val, collection=self._place(collection))

    async def aput(self, key: str, val: dict[str, Any], collection: str = COLLECTION) -> None:
        """Keep a vector."""
        if _is_kept(key):
            await self.store.aput(key, val, collection=self._place(collection))

    def get(self, key: str, collection: str = COLLECTION) -> dict[str, Any] | None:
        """Return what is kept for a text; for a document, unless a query is being embedded."""
        return self.store.get(key, collection=self._place(collection)) if _is_kept(key) else None

    async def aget(self, key: str, collection: str = COLLECTION) -> dict[str, Any] | None:
        """Return what is kept for a text; for a document, unless a query is being embedded."""
        return await self.store.aget(key, collection=self._place(collection)) if _is_kept(key) else None

    def get_all(self, collection: str = COLLECTION) -> dict[str, dict[str, Any]]:
        """Return all that is kept for this model and role."""
        return self.store.get_all(collection=self._place(collection))

    async def aget_all(self, collection: str = COLLECTION) -> dict[str, dict[str, Any]]:
        """Return all that is kept for this model and role."""
        return await self.store.aget_all(collection=self._place(collection))

    def delete(self, key: str, collection: str = COLLECTION) -> bool:
        """Forget a text; say whether it was there."""
        return self.store.delete(key, collection=self._place(collection))

    async def adelete(self, key: str, collection: str = COLLECTION) -> bool:
        """Forget a text; say whether it was there."""
        return await self.store.adelete(key, collection=self._place(collection))

    def _place(self, collection: str) -> str:
        return f"{collection}_{_role.get()}_{self._model}"

    def __getattr__(self, name: str) -> Any:
        if name == "store" or name.startswith("__"):
            # Asked by pickle and copy, before there is a store.
            raise AttributeError(name)
        return getattr(self.store, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelCache) and self.store is other.store and self._model == other._model

    def __hash__(self) -> int:
        return hash((id(self.store), self._model))

    def __repr__(self) -> str:
        return f"ModelCache({self.store!r}, {self._model!r})"


def view_for(settings: Settings, cutting: str, store: object) -> ModelCache | None:
    """Return the view of a store, or of the store behind another model's view, for these settings.

    `cutting` tells apart what becomes of long texts; it is nothing where they are sent as they are.

    Raises:
        ConfigurationError: It is not a key-value store.
    """
    if isinstance(store, ModelCache):
        store = store.store
    if store is None:
        return None
    if not isinstance(store, BaseKVStore):
        raise ConfigurationError(
            f"embeddings_cache must be a BaseKVStore, such as SimpleKVStore(), not {type(store).__name__}."
        )
    # Stores differ in what a collection may be called: letters, digits, "-" and "_" suit all. The digest tells apart
    # what the name alone does not: the same service id elsewhere may be another model.
    model = settings.model
    parts = (settings.endpoint, settings.workspace, model.service_id, str(model.dimension), cutting)
    whole = "\n".join(filter(None, parts))
    name = re.sub(r"[^A-Za-z0-9-]", "-", model.service_id)[:64]
    return ModelCache(store, f"{name}_{sha256(whole.encode()).hexdigest()[:16]}")


class CachedBatch:
    """One batch of the framework, part of which the cache holds.

    Attributes:
        missing: The texts that it does not hold.
    """

    def __init__(self, texts: list[str], entries: list[dict[str, Any] | None]) -> None:
        self._vectors = [None if entry is None else next(iter(entry.values())) for entry in entries]
        self._positions = [i for i, vector in enumerate(self._vectors) if vector is None]
        self.missing = [texts[i] for i in self._positions]

    def fill(self, vectors: list[list[float]]) -> list[list[float]]:
        """Return the vectors of the whole batch, given those of the missing texts."""
        for position, vector in zip(self._positions, vectors, strict=True):
            self._vectors[position] = vector
        return [vector for vector in self._vectors if vector is not None]

    def recount(self, error: OpenSearchEmbedError) -> None:
        """Let an error that counts in the missing texts count in the whole batch."""
        # The message names the places too.
        error.args = (re.sub(r"texts\[(\d+)\]", lambda place: f"texts[{self._positions[int(place[1])]}]", str(error)),)
        if isinstance(error, InputError) and error.index is not None:
            error.index = self._positions[error.index]
        if isinstance(error, ApiError):
            error.indices = [self._positions[i] for i in error.indices]
        held = {i: vector for i, vector in enumerate(self._vectors) if vector is not None}
        received = {self._positions[i]: vector for i, vector in error.completed.items()}
        error.completed = dict(sorted((held | received).items()))
        error.pending = [self._positions[i] for i in error.pending]
        if held:
            error.add_note(f"The cache held {len(held)} of the {len(self._vectors)} texts of this batch.")


def _is_kept(key: object) -> bool:
    """Tell whether a text can have an entry. An empty one costs no request, and what it gets is a client's own choice.

    A store is not even asked for what is no text: its error would come before ours.
    """
    return isinstance(key, str) and bool(key.strip())
