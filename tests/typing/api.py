"""What users' type checkers see. This file is checked by mypy and pyright, strictly, and never run."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
from pydantic import SecretStr
from pyrate_limiter import Limiter

import langchain_opensearch_embed
import opensearch_embed
from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import (
    DEFAULT_MODEL,
    MODELS,
    ApiError,
    EmbeddingClient,
    InputError,
    InputType,
    ModelSpec,
    OpenSearchEmbedError,
    ResponseError,
    Settings,
    Usage,
)

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from llama_index.core.base.embeddings.base import BaseEmbedding

Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def made(key: SecretStr, limiter: Limiter) -> EmbeddingClient:
    """Every argument, with a value of its type."""
    EmbeddingClient()
    EmbeddingClient("ops-text-embedding-001", api_key="OS-1", endpoint="host", qps=None, empty="zero")
    return EmbeddingClient(
        DEFAULT_MODEL,
        endpoint="host",
        api_key=key,
        workspace="default",
        dimension=1024,
        qps=50,
        limiter=limiter,
        max_concurrency=32,
        timeout=30,
        retry_timeout=60,
        max_attempts=10,
        empty="error",
        allow_http=False,
        ca_bundle="ca.pem",
        proxy="http://proxy.example:3128",
    )


def refused() -> None:
    """What a type checker refuses before anything runs: with `warn_unused_ignores`, each must be an error."""
    EmbeddingClient(max_concurency=3)  # type: ignore[call-arg]
    EmbeddingClient("model", "endpoint")  # type: ignore[call-arg]
    EmbeddingClient(empty="skip")  # type: ignore[arg-type]
    EmbeddingClient(api_key=5)  # type: ignore[arg-type]
    EmbeddingClient().embed(["a"], "passage")  # type: ignore[arg-type]
    EmbeddingClient().embed([1])  # type: ignore[list-item]
    EmbeddingClient().embed(None)  # type: ignore[arg-type]
    EmbeddingClient().embed(["a"], "query", True)  # type: ignore[call-arg]
    EmbeddingClient().dimension = 3  # type: ignore[misc]


def refused_by_the_adapters() -> None:
    """The adapters' constructors are known as well: a wrong type and an unknown name are flagged."""
    OpenSearchEmbeddings(max_concurency=3)  # type: ignore[call-arg]
    OpenSearchEmbeddings(model_name="model")  # type: ignore[call-arg]
    OpenSearchEmbeddings(qps="fast")  # type: ignore[arg-type]
    OpenSearchEmbeddings(on_error="skip")  # type: ignore[arg-type]
    OpenSearchEmbeddings().embed_documents("tea")  # type: ignore[arg-type]
    OpenSearchEmbedding(chunk_size=3)  # type: ignore[call-arg]
    OpenSearchEmbedding(model="model")  # type: ignore[call-arg]
    OpenSearchEmbedding(timeout=None)  # type: ignore[arg-type]
    OpenSearchEmbedding(empty="skip")  # type: ignore[arg-type]
    opensearch_embed.Emulator  # type: ignore[attr-defined]  # noqa: B018
    langchain_opensearch_embed.OpenSearchEmbedding  # type: ignore[attr-defined]  # noqa: B018


def fields(embeddings: OpenSearchEmbeddings, embedding: OpenSearchEmbedding) -> None:
    """What is left out is there once they are made."""
    assert_type(embeddings.model, str)
    assert_type(embeddings.dimension, int)
    assert_type(embeddings.endpoint, str)
    assert_type(embeddings.api_key, SecretStr)
    assert_type(embeddings.qps, float | None)
    assert_type(embedding.model_name, str)
    assert_type(embedding.dimension, int)
    assert_type(embedding.workspace, str)
    assert_type(embedding.api_key, SecretStr)
    assert_type(embedding.client, EmbeddingClient)
    assert_type(embeddings.copy(update={"qps": 3}), OpenSearchEmbeddings)
    assert_type(embedding.model_copy(update={"qps": 3}), OpenSearchEmbedding)
    with embeddings as same:
        assert_type(same, OpenSearchEmbeddings)


def sync(client: EmbeddingClient, texts: Iterator[str], role: InputType) -> None:
    """The sync methods."""
    with client as same:
        assert_type(same, EmbeddingClient)
        assert_type(same.embed(["a"]), list[list[float]])
        assert_type(same.embed(texts, role, progress=True), list[list[float]])
        assert_type(same.embed_array(("a", "b"), "query"), Rows)
        same.close()


async def asynchronous(client: EmbeddingClient, texts: Iterator[str], role: InputType) -> None:
    """The async methods."""
    async with client as same:
        assert_type(same, EmbeddingClient)
        assert_type(await same.aembed(["a"]), list[list[float]])
        assert_type(await same.aembed(texts, role, progress=True), list[list[float]])
        assert_type(await same.aembed_array(("a", "b"), "query"), Rows)
        await same.aclose()


def facts(client: EmbeddingClient) -> None:
    """What a client tells of itself."""
    assert_type(client.model, ModelSpec)
    assert_type(client.model.max_input_tokens, int | None)
    assert_type(client.model.languages, str)
    assert_type(client.dimension, int)
    assert_type(client.usage, Usage)
    assert_type(client.usage.tokens, int)
    assert_type(client.settings, Settings)
    assert_type(MODELS[DEFAULT_MODEL].dimension, int)


def errors(client: EmbeddingClient) -> None:
    """What errors carry."""
    try:
        client.embed(["a"])
    except InputError as error:
        assert_type(error.index, int | None)
    except ApiError as error:
        assert_type(error.status, int)
        assert_type(error.code, str | None)
        assert_type(error.message, str)
        assert_type(error.request_id, str | None)
        assert_type(error.retry_after, float | None)
    except ResponseError as error:
        assert_type(error.request_id, str | None)
    except OpenSearchEmbedError as error:
        assert_type(error.completed, dict[int, Any])
        assert_type(error.pending, list[int])


def langchain() -> "Embeddings":
    """LangChain's adapter is an `Embeddings`, and its fields are typed."""
    OpenSearchEmbeddings(model=None, api_key="OS-1", qps=None, cache="vectors.db", ca_bundle=Path("ca.pem"))
    embeddings = OpenSearchEmbeddings(api_key=SecretStr("OS-1"), endpoint="host")
    assert_type(embeddings.embed_documents(["a"]), list[list[float]])
    assert_type(embeddings.embed_query("a"), list[float])
    assert_type(embeddings.usage, Usage)
    return embeddings


async def alangchain(embeddings: OpenSearchEmbeddings) -> None:
    """LangChain's async methods."""
    assert_type(await embeddings.aembed_documents(["a"]), list[list[float]])
    assert_type(await embeddings.aembed_query("a"), list[float])
    await embeddings.aclose()


def llama_index() -> "BaseEmbedding":
    """LlamaIndex's adapter is a `BaseEmbedding`."""
    OpenSearchEmbedding(model_name=None, api_key="OS-1", qps=5, embed_batch_size=8, length_function=len)
    embedding = OpenSearchEmbedding(api_key=SecretStr("OS-1"), endpoint="host")
    assert_type(embedding.get_text_embedding_batch(["a"]), list[list[float]])
    assert_type(embedding.get_query_embedding("a"), list[float])
    assert_type(embedding.usage, Usage)
    return embedding
