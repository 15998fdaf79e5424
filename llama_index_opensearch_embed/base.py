"""LlamaIndex's six methods, each saying which role its texts play. All else is the core's or the framework's."""

import logging
import pickle
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, ClassVar, Literal, TypeVar, cast

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks.base import CallbackManager
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from llama_index_opensearch_embed._cache import COLLECTION, CachedBatch, searching, view_for
from llama_index_opensearch_embed._whole import WholeList, handed_over, taken
from opensearch_embed import EmbeddingClient, OpenSearchEmbedError, Usage
from opensearch_embed.pydantic_support import (
    CacheField,
    FilePath,
    LimiterField,
    MadeAnew,
    Unserialised,
    configuration_error,
    hide_secrets,
)

logger = logging.getLogger(__name__)

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def _inside_the_span_of(overridden: object) -> Callable[[MethodT], MethodT]:
    """Keep the framework from making a second span of a method that calls the one it overrides: one query, one span.

    It leaves out what bears its mark, and the mark is in what `wraps` takes over.
    """
    return lambda method: wraps(overridden, assigned=())(method)  # type: ignore[arg-type, return-value]


class OpenSearchEmbedding(MadeAnew, BaseEmbedding):
    """Embeddings from Alibaba Cloud OpenSearch, for LlamaIndex.

    Example:
        >>> from llama_index.core import Settings
        >>> from llama_index_opensearch_embed import OpenSearchEmbedding
        >>> Settings.embed_model = OpenSearchEmbedding()  # OPENSEARCH_API_KEY and OPENSEARCH_ENDPOINT are set

    Each field that the framework does not define is an argument of `opensearch_embed.EmbeddingClient`, which says what
    it means; `model_name` is its `model`. What is left out comes from the environment. After construction each field
    holds the value in use, and is fixed: `model_copy(update={...})` makes another embedding. (`proxy` and `ca_bundle`
    stay `None` where the environment decides.)

    The framework hands over `embed_batch_size` texts at a time; the requests are full whatever that is. Where an error
    has `index`, `completed` or `pending`, they count within that batch.

    To keep to a quota use `qps`, which counts requests. The framework's `rate_limiter` is asked once for each batch,
    so once for up to 1024 texts. `qps` holds for one process: for `IngestionPipeline.run(num_workers=2)` set half of
    the quota, or share it with `limiter="redis://..."` (`docs/rate-limits.md`).

    `embeddings_cache` takes any key-value store. It is used through a view that keeps documents and queries, models
    and endpoints apart, so one store may serve many embeddings; `embeddings_cache.store` is the store itself.

    `to_dict` and `to_json` leave out the key, limiters that are objects, the password in a Redis URL, the callbacks and
    the cache. A pickle carries key and password: a worker process needs them. Copies share limiters, callbacks, cache.

    Raises:
        ConfigurationError: A setting is missing, misspelt, or makes no sense.
    """

    name_of_model: ClassVar[str] = "model_name"
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    model_name: str | None = None  # type: ignore[assignment]  # a str once it is made
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    endpoint: str | None = None
    workspace: str | None = None
    dimension: int | None = None
    qps: float | None = 50.0
    limiter: LimiterField = None
    max_concurrency: int | None = None
    batch_size: int = 32
    timeout: float = 30.0
    retry_timeout: float = 60.0
    max_attempts: int = 10
    empty: Literal["error", "zero"] = "error"
    on_error: Literal["raise", "isolate", "skip"] = "raise"
    overflow: Literal["send", "error", "truncate", "average"] = "send"
    length_function: Unserialised = None
    cache: CacheField = None
    compression: bool = False
    allow_http: bool = False
    ca_bundle: FilePath = None
    proxy: str | None = Field(default=None, repr=False)
    embed_batch_size: int = Field(default=1024, gt=0, le=2048)
    # The framework's to_json cannot write a store.
    embeddings_cache: Any = Field(default=None, exclude=True)

    _client: EmbeddingClient = PrivateAttr()

    def __init__(self, **data: Any) -> None:
        hide_secrets(data)
        cache = data.pop("embeddings_cache", None)
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise configuration_error(error, type(self).model_fields) from error
        given = {name: getattr(self, name) for name in CLIENT_FIELDS}
        client = EmbeddingClient(given.pop("model_name"), **given)
        self._client = client
        settings = client.settings
        self.__dict__.update(
            model_name=client.model.service_id,
            api_key=SecretStr(settings.api_key.get_secret_value()),
            endpoint=settings.endpoint,
            workspace=settings.workspace,
            dimension=client.dimension,
        )
        self.embeddings_cache = cache

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "embeddings_cache":
            value = view_for(self._client.settings, value)
        elif name in CLIENT_FIELDS:
            raise AttributeError(
                f"{name} is fixed. Make another embedding with embedding.model_copy(update={{{name!r}: ...}})."
            )
        super().__setattr__(name, value)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that the framework writes into what it stores."""
        return "OpenSearchEmbedding"

    @property
    def usage(self) -> Usage:
        """Requests, retries, texts and tokens since this object was made. What a cache held is not among them."""
        return self._client.usage

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        """Embed one batch of texts that are to be found.

        Returns:
            One vector of `dimension` floats for each text, in their order.

        Raises:
            InputError: A text cannot be sent; nothing of the batch has been sent then. Its `index` counts in the batch.
            OpenSearchEmbedError: The first error that trying again could not mend. Its `completed` and `pending` count
                in the batch; batches before this one are the framework's, and lost with its list.
        """
        vectors = taken(self, texts)
        return self._client.embed(texts, "document") if vectors is None else vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        """Embed one batch of texts that are to be found. See `_get_text_embeddings`."""
        return await self._client.aembed(texts, "document")

    def _get_text_embedding(self, text: str) -> list[float]:
        """Embed a text that is to be found. See `_get_text_embeddings`."""
        return self._client.embed([text], "document")[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        """Embed a text that is to be found. See `_get_text_embeddings`."""
        return (await self._client.aembed([text], "document"))[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches, into one vector of `dimension` floats. Raises what a batch of one raises."""
        return self._client.embed([query], "query")[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches. See `_get_query_embedding`."""
        return (await self._client.aembed([query], "query"))[0]

    @_inside_the_span_of(BaseEmbedding.get_query_embedding)
    def get_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches, or take its vector from the cache of queries."""
        with searching():
            return super().get_query_embedding(query)

    @_inside_the_span_of(BaseEmbedding.aget_query_embedding)
    async def aget_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches, or take its vector from the cache of queries."""
        with searching():
            return await super().aget_query_embedding(query)

    @_inside_the_span_of(BaseEmbedding.get_text_embedding_batch)
    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """Embed texts that are to be found, in batches of `embed_batch_size`.

        All of them are one call of the core, so a small `embed_batch_size` costs no full requests; unless the
        framework's own cache or rate limiter decides what is asked for, and when, or refused texts are isolated.
        """
        if self.embeddings_cache is not None or self.rate_limiter is not None or self.on_error != "raise":
            return super().get_text_embedding_batch(texts, show_progress, **kwargs)
        vectors = cast("Generator[tuple[int, list[float]], None, None]", self._client.iter_embed(texts, "document"))
        with handed_over(WholeList(self, list(texts), self.embed_batch_size, vectors), vectors):
            return super().get_text_embedding_batch(texts, show_progress, **kwargs)

    def _get_text_embeddings_cached(self, texts: list[str]) -> list[list[float]]:
        """Embed what the cache does not hold. The framework's own would let errors count in what is missing."""
        cache = self.embeddings_cache
        batch = CachedBatch(texts, [cache.get(text, COLLECTION) for text in texts])
        try:
            fresh = self._get_text_embeddings(batch.missing)
        except OpenSearchEmbedError as error:
            batch.recount(error)
            raise
        for text, vector in zip(batch.missing, fresh, strict=True):
            cache.put(text, {"vector": vector}, COLLECTION)
        return batch.fill(fresh)

    async def _aget_text_embeddings_cached(self, texts: list[str]) -> list[list[float]]:
        """Embed what the cache does not hold. See `_get_text_embeddings_cached`."""
        cache = self.embeddings_cache
        batch = CachedBatch(texts, [await cache.aget(text, COLLECTION) for text in texts])
        try:
            fresh = await self._aget_text_embeddings_rate_limited(batch.missing) if batch.missing else []
        except OpenSearchEmbedError as error:
            batch.recount(error)
            raise
        for text, vector in zip(batch.missing, fresh, strict=True):
            await cache.aput(text, {"vector": vector}, COLLECTION)
        return batch.fill(fresh)

    def close(self) -> None:
        """Close threads and connections. A later call opens new ones."""
        self._client.close()

    async def aclose(self) -> None:
        """Close threads, and the connections of threads and of the running event loop."""
        await self._client.aclose()

    def __getstate__(self) -> dict[Any, Any]:
        # The framework's own also takes what cannot be pickled off the object that is being pickled.
        state = BaseModel.__getstate__(self)
        state["__dict__"] = fields = dict(state["__dict__"])
        for name in ("callback_manager", "rate_limiter", "embeddings_cache"):
            try:
                pickle.dumps(fields[name])
            except Exception as error:  # noqa: BLE001 - pickling runs anybody's code, and raises anything
                logger.warning("%s cannot be pickled, and stays behind: %s", name, error)
                fields[name] = CallbackManager([]) if name == "callback_manager" else None
        return state


CLIENT_FIELDS = OpenSearchEmbedding.model_fields.keys() - (BaseEmbedding.model_fields.keys() - {"model_name"})
"""The arguments of the client. The other fields are the framework's, which may set them at any time."""
