"""LlamaIndex's six methods, each saying which role its texts play. All else is the core's or the framework's."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Unpack, cast

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.schema import BaseNode
from pydantic import BaseModel, Field, SecretStr, ValidationError

from llama_index_opensearch_embed._cache import COLLECTION, CachedBatch, searching, view_for
from llama_index_opensearch_embed._framework import (
    LlamaIndexArguments,
    inside_the_span_of,
    leave_behind_what_cannot_be_pickled,
)
from llama_index_opensearch_embed._identity import cutting, described
from llama_index_opensearch_embed._nodes import counted_in_batches, embedding, embedding_for_the_caller, naming
from llama_index_opensearch_embed._whole import WholeList, handed_over, taken
from opensearch_embed import OpenSearchEmbedError
from opensearch_embed.pydantic_support import Adapter, ClientArguments, configuration_error, resolved, unknown_attribute


class OpenSearchEmbedding(Adapter, BaseEmbedding):
    """Embeddings from Alibaba Cloud OpenSearch, for LlamaIndex.

    Examples:
        >>> from llama_index.core import Settings
        >>> from llama_index_opensearch_embed import OpenSearchEmbedding
        >>> Settings.embed_model = OpenSearchEmbedding()  # OPENSEARCH_API_KEY and OPENSEARCH_ENDPOINT are set

    Each field that the framework does not define is an argument of `opensearch_embed.EmbeddingClient`, which says what
    it means; `model_name` is its `model`. What is left out comes from the environment. After construction each field
    holds the value in use, and is fixed: `model_copy(update={...})` makes another embedding. (`proxy` and `ca_bundle`
    stay `None` where the environment decides.) `client` is the core's client, for streams and arrays.

    The framework hands over `embed_batch_size` texts at a time; the requests are full whatever that is. Where an error
    has `index`, `completed` or `pending`, they count within that batch; it names the node, where there is one.

    To keep to a quota use `qps`, which counts requests; the framework's `rate_limiter` is asked once for each batch.
    `qps` holds for one process: for `IngestionPipeline.run(num_workers=2)` set half of the quota, or share it with
    `limiter="redis://..."`.

    `embeddings_cache` takes any key-value store. It is used through a view that keeps documents and queries, models
    and endpoints apart, so one store may serve many embeddings; `embeddings_cache.store` is the store itself.

    `to_dict` and `to_json` leave out the key, limiters that are objects, the password in a Redis URL, the callbacks and
    the cache. Of a `length_function` that decides how texts are cut they have the name: it has to be given again. A
    pickle carries key and password: a worker process needs them. Copies share limiters, callbacks, cache.

    Raises:
        ConfigurationError: A setting is missing, misspelt, or makes no sense.
    """

    name_of_model: ClassVar[str] = "model_name"

    model_name: str = resolved("The model's service id. Default: OPENSEARCH_MODEL or ops-text-embedding-002.")
    api_key: SecretStr = resolved("The key. Default: AISEARCH_API_KEY or OPENSEARCH_API_KEY.", exclude=True, repr=False)
    embed_batch_size: int = Field(
        default=1024,
        gt=0,
        le=2048,
        description="Texts that the framework hands over at once; requests are full anyhow.",
    )
    callback_manager: CallbackManager = Field(
        default_factory=lambda: CallbackManager([]), exclude=True, description="What the framework tells its events."
    )
    embeddings_cache: Any = Field(  # excluded, since the framework's to_json cannot write a store
        default=None, exclude=True, description="A key-value store that keeps vectors: see `ModelCache`."
    )

    if TYPE_CHECKING:

        def __init__(self, **data: Unpack[LlamaIndexArguments]) -> None: ...

    def _make(self, data: dict[str, Any]) -> None:
        if data.get("class_name") == self.class_name():
            del data["class_name"]  # what the framework writes into dumps
        cache = data.pop("embeddings_cache", None)
        super()._make(data)
        self.embeddings_cache = cache

    def __setattr__(self, name: str, value: Any) -> None:
        if name in CLIENT_FIELDS:
            del value  # it may be a key
            raise AttributeError(f"{name} is fixed. Make another: embedding.model_copy(update={{{name!r}: ...}}).")
        if name == "embeddings_cache":
            value = view_for(self._client.settings, cutting(self.overflow, self.length_function), value)
        elif name in type(self).model_fields:
            value = self._checked(name, value)
        elif not (name.startswith("_") or hasattr(type(self), name)):
            del value
            raise unknown_attribute(self, name)
        super().__setattr__(name, value)

    def _checked(self, name: str, value: Any) -> Any:
        """Return what a field becomes, checked as the constructor checks it."""
        try:
            twin = self.__pydantic_validator__.validate_assignment(self.model_construct(), name, value)
        except ValidationError as error:
            raise configuration_error(error) from error
        return vars(twin)[name]

    @classmethod
    def class_name(cls) -> str:
        """Return the name that the framework writes into what it stores."""
        return "OpenSearchEmbedding"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return every setting that can be written down. As text, it is those that decide a vector."""
        return described(super().to_dict(**kwargs), self.overflow, self.length_function)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Embed nodes, as a step of an `IngestionPipeline`. An error about a text names its node."""
        with embedding(nodes):
            return super().__call__(nodes, **kwargs)

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Embed nodes. See `__call__`."""
        with embedding(nodes):
            return await super().acall(nodes, **kwargs)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        """Embed one batch of texts that are to be found.

        Returns:
            One vector of `dimension` floats for each text, in their order.

        Raises:
            OpenSearchEmbedError: The first error that trying again could not mend. Its `completed` and `pending` count
                in the batch; batches before this one are the framework's, and lost with its list.
        """
        with naming(texts):
            vectors = taken(self, texts)
            return self._client.embed(texts, "document") if vectors is None else vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        """Embed one batch of texts that are to be found. See `_get_text_embeddings`."""
        with naming(texts):
            return await self._client.aembed(texts, "document")

    def _get_text_embedding(self, text: str) -> list[float]:
        """Embed a text that is to be found. See `_get_text_embeddings`."""
        return self._client.embed([text], "document")[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        """Embed a text that is to be found. See `_get_text_embeddings`."""
        return (await self._client.aembed([text], "document"))[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches. See `_get_text_embeddings`."""
        return self._client.embed([query], "query")[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches. See `_get_query_embedding`."""
        return (await self._client.aembed([query], "query"))[0]

    @inside_the_span_of(BaseEmbedding.get_query_embedding)
    def get_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches, or take its vector from the cache of queries."""
        with searching():
            return super().get_query_embedding(query)

    @inside_the_span_of(BaseEmbedding.aget_query_embedding)
    async def aget_query_embedding(self, query: str) -> list[float]:
        """Embed a text that searches, or take its vector from the cache of queries."""
        with searching():
            return await super().aget_query_embedding(query)

    @inside_the_span_of(BaseEmbedding.get_text_embedding_batch)
    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """Embed texts that are to be found: in one call of the core, so that requests are full.

        Unless the framework's own cache or rate limiter decides what is asked for, or refused texts are isolated.
        """
        with self._checked_whole(texts) as texts:
            if self.embeddings_cache is not None or self.rate_limiter is not None or self.on_error != "raise":
                return super().get_text_embedding_batch(texts, show_progress, **kwargs)
            vectors = cast("Generator[tuple[int, list[float]], None, None]", self._client.iter_embed(texts))
            with handed_over(WholeList(self, texts, self.embed_batch_size, vectors), vectors):
                return super().get_text_embedding_batch(texts, show_progress, **kwargs)

    @inside_the_span_of(BaseEmbedding.aget_text_embedding_batch)
    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Embed texts that are to be found, all batches of `embed_batch_size` at once."""
        with self._checked_whole(texts) as texts:
            return await super().aget_text_embedding_batch(texts, show_progress, **kwargs)

    def get_agg_embedding_from_queries(
        self, queries: list[str], agg_fn: Callable[..., Embedding] | None = None
    ) -> Embedding:
        """Embed texts that search, and return the mean of their vectors, or what `agg_fn` makes of them."""
        return super().get_agg_embedding_from_queries(self._client.check(queries, "query"), agg_fn)

    async def aget_agg_embedding_from_queries(
        self, queries: list[str], agg_fn: Callable[..., Embedding] | None = None
    ) -> Embedding:
        """Embed texts that search, and return the mean of their vectors. See `get_agg_embedding_from_queries`."""
        return await super().aget_agg_embedding_from_queries(self._client.check(queries, "query"), agg_fn)

    @contextlib.contextmanager
    def _checked_whole(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Look at the whole list before the first request: the framework hands over one batch after another."""
        texts = list(texts) if isinstance(texts, Iterator) else texts
        with embedding_for_the_caller():
            with counted_in_batches(texts, self.embed_batch_size):
                checked = self._client.check(texts)
            yield checked

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

    def __getstate__(self) -> dict[Any, Any]:
        # The framework's own also takes what cannot be pickled off the object that is being pickled.
        state = BaseModel.__getstate__(self)
        state["__dict__"] = fields = dict(state["__dict__"])
        leave_behind_what_cannot_be_pickled(fields)
        return state


CLIENT_FIELDS = frozenset({"model_name", *ClientArguments.__annotations__})
"""The arguments of the client. The other fields are the framework's, which may set them at any time."""
