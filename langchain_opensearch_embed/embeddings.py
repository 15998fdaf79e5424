"""LangChain's four methods, each saying which role its texts play. All else is the core's."""

from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field

from opensearch_embed.pydantic_support import Adapter, ClientArguments, frozen_error, resolved


class LangChainArguments(ClientArguments, total=False):
    """The arguments, for type checkers and editors."""

    model: str | None
    show_progress_bar: bool


class OpenSearchEmbeddings(Adapter, Embeddings):
    """Embeddings from Alibaba Cloud OpenSearch, for LangChain.

    Examples:
        >>> from langchain_opensearch_embed import OpenSearchEmbeddings
        >>> embeddings = OpenSearchEmbeddings()  # OPENSEARCH_API_KEY and OPENSEARCH_ENDPOINT are set
        >>> vectors = embeddings.embed_documents(["The Alps are a mountain range."])
        >>> vector = embeddings.embed_query("Where is it high?")

    Every field is an argument of `opensearch_embed.EmbeddingClient`, which says what each means; what is left out comes
    from the environment. After construction each field holds the value in use, and is fixed: `model_copy(update={...})`
    makes another object. `client` is the core's client, for streams and arrays. `model_dump` masks the key; a pickle
    carries it, since a worker process needs it.

    Raises:
        ConfigurationError: A setting is missing, misspelt, or makes no sense.
    """

    name_of_model: ClassVar[str] = "model"
    model_config = ConfigDict(frozen=True)

    model: str = resolved("The model's service id. Default: OPENSEARCH_MODEL or ops-text-embedding-002.")
    show_progress_bar: bool = Field(default=False, description="Show a progress bar while documents are embedded.")

    if TYPE_CHECKING:

        def __init__(self, **data: Unpack[LangChainArguments]) -> None: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        del value  # it may be a key
        raise frozen_error(self, name)

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
