"""LangChain's four methods, each saying which role its texts play. All else is the core's."""

from typing import Any, ClassVar, Literal

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from opensearch_embed import EmbeddingClient, Usage
from opensearch_embed.pydantic_support import (
    CacheField,
    FilePath,
    LimiterField,
    MadeAnew,
    Unserialised,
    configuration_error,
    hide_secrets,
)


class OpenSearchEmbeddings(MadeAnew, Embeddings):
    """Embeddings from Alibaba Cloud OpenSearch, for LangChain.

    Example:
        >>> from langchain_opensearch_embed import OpenSearchEmbeddings
        >>> embeddings = OpenSearchEmbeddings()  # OPENSEARCH_API_KEY and OPENSEARCH_ENDPOINT are set
        >>> vectors = embeddings.embed_documents(["The Alps are a mountain range."])
        >>> vector = embeddings.embed_query("Where is it high?")

    Every field is an argument of `opensearch_embed.EmbeddingClient`, which says what each means; what is left out comes
    from the environment. After construction each field holds the value in use. `model_dump` masks the key; a pickle
    carries it, since a worker process needs it.

    Raises:
        ConfigurationError: A setting is missing, misspelt, or makes no sense.
    """

    name_of_model: ClassVar[str] = "model"
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)

    model: str | None = None
    api_key: SecretStr | None = None
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
    show_progress_bar: bool = False

    _client: EmbeddingClient = PrivateAttr()

    def __init__(self, **data: Any) -> None:
        hide_secrets(data)
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise configuration_error(error, type(self).model_fields) from error
        # Every field but one is an argument of the client.
        given = {name: getattr(self, name) for name in OpenSearchEmbeddings.model_fields if name != "show_progress_bar"}
        client = EmbeddingClient(**given)
        self._client = client
        settings = client.settings
        self.__dict__.update(
            model=client.model.service_id,
            api_key=SecretStr(settings.api_key.get_secret_value()),
            endpoint=settings.endpoint,
            workspace=settings.workspace,
            dimension=client.dimension,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        # Frozen, so pydantic refuses; but its error prints the value, which may be a key.
        super().__setattr__(name, None if name in type(self).model_fields else value)

    @property
    def usage(self) -> Usage:
        """Requests, retries, texts and tokens since this object was made."""
        return self._client.usage

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts that are to be found.

        Returns:
            One vector of `dimension` floats for each text, in their order.

        Raises:
            InputError: A text cannot be sent; nothing has been sent then. Its `index` counts in `texts`.
            OpenSearchEmbedError: The first error that trying again could not mend, with `completed` and `pending`.
        """
        return self._client.embed(texts, "document", progress=self.show_progress_bar)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts that are to be found. See `embed_documents`."""
        return await self._client.aembed(texts, "document", progress=self.show_progress_bar)

    def embed_query(self, text: str) -> list[float]:
        """Embed a text that searches, into one vector of `dimension` floats. Raises what `embed_documents` raises."""
        return self._client.embed([text], "query")[0]

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a text that searches. See `embed_query`."""
        return (await self._client.aembed([text], "query"))[0]

    def close(self) -> None:
        """Close threads and connections. A later call opens new ones."""
        self._client.close()

    async def aclose(self) -> None:
        """Close threads, and the connections of threads and of the running event loop."""
        await self._client.aclose()
