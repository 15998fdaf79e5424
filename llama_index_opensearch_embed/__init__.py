"""LlamaIndex embeddings from Alibaba Cloud OpenSearch (AI Search Open Platform; not opensearch.org)."""

from llama_index_opensearch_embed.base import OpenSearchEmbedding

__all__ = ["OpenSearchEmbedding"]
