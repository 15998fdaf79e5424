"""The clients that are measured, each set up for a job.

A client's libraries are imported when it is made, so that one side's imports are not in another's process.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from benchmarks.job import BATCH, KEY, MODEL, Job

Call = Callable[[list[str]], Any]
"""Takes texts; returns their vectors, or how many there were."""

Notes = dict[str, float]
"""Figures that a side measures on its own."""

Maker = Callable[[Job, Notes], Call]


def in_one_loop(function: Callable[[list[str]], Awaitable[Any]]) -> Call:
    """Call an async function from here, each time in the same event loop."""
    runner = asyncio.Runner()

    async def call(texts: list[str]) -> Any:
        return await function(texts)

    return lambda texts: runner.run(call(texts))


def peer(job: Job, **options: Any) -> Any:
    """The LlamaIndex plugin that users have today."""
    from llama_index.embeddings.alibabacloud_aisearch import (
        AlibabaCloudAISearchEmbedding,
    )

    return AlibabaCloudAISearchEmbedding(
        endpoint=urlsplit(job.url).netloc, aisearch_api_key=KEY, service_id=MODEL, **options
    )


def _settings(job: Job) -> dict[str, Any]:
    settings: dict[str, Any] = {"endpoint": job.url, "api_key": KEY, "qps": job.qps}
    settings["max_concurrency"] = job.max_concurrency
    if job.limiter is not None:
        settings["limiter"] = job.limiter
    if job.dimension != 1024:  # not MODEL's own
        settings["dimension"] = job.dimension
    return settings


def _model(job: Job) -> str:
    return MODEL if job.dimension == 1024 else "benchmark-model"


def core(job: Job) -> Any:
    """This project's client."""
    from opensearch_embed import EmbeddingClient

    return EmbeddingClient(_model(job), **_settings(job))


def langchain(job: Job) -> Any:
    """This project's adapter for LangChain."""
    from langchain_opensearch_embed import OpenSearchEmbeddings

    return OpenSearchEmbeddings(model=_model(job), **_settings(job))


def llama_index(job: Job) -> Any:
    """This project's adapter for LlamaIndex."""
    from llama_index_opensearch_embed import OpenSearchEmbedding

    return OpenSearchEmbedding(model_name=_model(job), **_settings(job))


def baseten(job: Job) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The sync and the async call of a client in Rust that speaks OpenAI's form, set as ours: 32 texts, 32 at once.

    By default it sends 8,000 characters at most in a request, which is 16 of the texts here.
    """
    from baseten_performance_client import PerformanceClient, RequestProcessingPreference

    client = PerformanceClient(job.url, KEY)
    settings = RequestProcessingPreference(
        max_concurrent_requests=BATCH, batch_size=BATCH, max_chars_per_request=1 << 20
    )
    return (
        lambda texts: client.embed(texts, MODEL, preference=settings),
        lambda texts: client.async_embed(texts, MODEL, preference=settings),
    )
