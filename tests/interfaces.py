"""The three ways to embed a list of texts: the core, LangChain, LlamaIndex."""

from collections.abc import Callable
from typing import Any

from servers import DIMENSION, KEY, MODEL

Embed = Callable[[list[str]], Any]


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
