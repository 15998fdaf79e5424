"""LangChain embeddings from Alibaba Cloud OpenSearch (AI Search Open Platform; not opensearch.org)."""

from typing import TYPE_CHECKING

from langchain_opensearch_embed.embeddings import OpenSearchEmbeddings
from langchain_opensearch_embed.provider import register

__all__ = ["OpenSearchEmbeddings", "register"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        import opensearch_embed
        from opensearch_embed.pydantic_support import missing

        raise missing(__name__, name, opensearch_embed.__all__)
