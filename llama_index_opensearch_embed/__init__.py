"""LlamaIndex embeddings from Alibaba Cloud OpenSearch (AI Search Open Platform; not opensearch.org)."""

from typing import TYPE_CHECKING

from llama_index.core.embeddings.loading import RECOGNIZED_EMBEDDINGS

from llama_index_opensearch_embed.base import OpenSearchEmbedding

__all__ = ["OpenSearchEmbedding"]

# So that `load_embed_model` finds the class of a pipeline that was stored.
RECOGNIZED_EMBEDDINGS[OpenSearchEmbedding.class_name()] = OpenSearchEmbedding

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        import opensearch_embed
        from opensearch_embed.pydantic_support import missing

        raise missing(__name__, name, opensearch_embed.__all__)
