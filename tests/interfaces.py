"""The three ways to embed a list of texts: the core, LangChain, LlamaIndex."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from servers import DIMENSION, KEY, MODEL

from opensearch_embed.emulator import Emulator

Embed = Callable[[list[str]], Any]
T = TypeVar("T")

EMULATOR_KEY = "OS-key-that-must-not-show"
"""Easy to search for, and not the key of the raw servers."""


def core(**settings: Any) -> Embed:
    """Return `EmbeddingClient.embed`."""
    from opensearch_embed import EmbeddingClient

    return EmbeddingClient(**settings).embed


def langchain(**settings: Any) -> Embed:
    """Return LangChain's `embed_documents`."""
    from langchain_opensearch_embed import OpenSearchEmbeddings

    return OpenSearchEmbeddings(**settings).embed_documents


def llama_index(**settings: Any) -> Embed:
    """Return LlamaIndex's `get_text_embedding_batch`."""
    from llama_index_opensearch_embed import OpenSearchEmbedding

    return OpenSearchEmbedding(model_name=settings.pop("model"), **settings).get_text_embedding_batch


INTERFACES = {"core": core, "langchain": langchain, "llama_index": llama_index}


def settings_for(url: str, **others: Any) -> dict[str, Any]:
    """Return settings for a raw server: its model, no rate limit, and what else is said."""
    return {"model": MODEL, "dimension": DIMENSION, "endpoint": url, "api_key": KEY, "qps": None} | others


def made_of(kind: Callable[..., T], emulator: Emulator) -> Iterator[Callable[..., T]]:
    """Yield a function that makes clients or embeddings of the emulator, without a limit; close them afterwards."""
    made: list[Any] = []

    def make(**settings: Any) -> T:
        defaults: dict[str, Any] = {"endpoint": emulator.url, "api_key": emulator.api_key, "qps": None}
        made.append(kind(**(defaults | settings)))
        result: T = made[-1]
        return result

    yield make
    for one in made:
        one.close()
