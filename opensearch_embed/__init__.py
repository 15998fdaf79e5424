"""Embeddings from Alibaba Cloud OpenSearch."""
