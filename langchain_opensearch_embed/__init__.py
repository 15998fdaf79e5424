"""LangChain embeddings from Alibaba Cloud OpenSearch (AI Search Open Platform; not opensearch.org)."""

from langchain_opensearch_embed.embeddings import OpenSearchEmbeddings

__all__ = ["OpenSearchEmbeddings"]
