"""The sides: each makes a client for a job and returns the call that is measured.

A side's libraries are imported when the side is made, so that one side's imports are not in another's process.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from benchmarks.job import BATCH, KEY, MODEL, Job

Call = Callable[[list[str]], Any]
"""Takes texts; returns their vectors, or how many there were."""

Notes = dict[str, float]
"""Figures that a side measures on its own."""

Maker = Callable[[Job, Notes], Call]


def _in_one_loop(function: Callable[[list[str]], Awaitable[Any]]) -> Call:
    """Call an async function from here, each time in the same event loop."""
    runner = asyncio.Runner()

    async def call(texts: list[str]) -> Any:
        return await function(texts)

    return lambda texts: runner.run(call(texts))


def _peer(job: Job, **options: Any) -> Any:
    """The LlamaIndex plugin that users have today."""
    from llama_index.embeddings.alibabacloud_aisearch import (  # type: ignore[import-untyped]
        AlibabaCloudAISearchEmbedding,
    )

    return AlibabaCloudAISearchEmbedding(
        endpoint=urlsplit(job.url).netloc, aisearch_api_key=KEY, service_id=MODEL, **options
    )


def _settings(job: Job) -> dict[str, Any]:
    settings: dict[str, Any] = {"endpoint": job.url, "api_key": KEY, "qps": job.qps, "max_concurrency": BATCH}
    if job.limiter is not None:
        settings["limiter"] = job.limiter
    if job.dimension != 1024:  # not MODEL's own
        settings["dimension"] = job.dimension
    return settings


def _model(job: Job) -> str:
    return MODEL if job.dimension == 1024 else "benchmark-model"


def _core(job: Job) -> Any:
    from opensearch_embed import EmbeddingClient

    return EmbeddingClient(_model(job), **_settings(job))


def _langchain(job: Job) -> Any:
    from langchain_opensearch_embed import OpenSearchEmbeddings

    return OpenSearchEmbeddings(model=_model(job), **_settings(job))


def _llama_index(job: Job) -> Any:
    from llama_index_opensearch_embed import OpenSearchEmbedding

    return OpenSearchEmbedding(model_name=_model(job), **_settings(job))


def _raw(job: Job, _: Notes) -> Call:
    """Requests are prepared outside the clock: `Job.make_texts` gives the same texts again."""
    from benchmarks.raw import exchange_all, prepare_all

    ready = prepare_all(job.url, job.make_texts())

    def call(texts: list[str]) -> int:
        exchange_all(job.url, ready[: -(-len(texts) // BATCH)])
        return len(texts)

    return call


def _raw_decoded(job: Job, _: Notes) -> Call:
    from benchmarks.raw import exchange_all, prepare_all

    ready = prepare_all(job.url, job.make_texts())
    return lambda texts: exchange_all(job.url, ready[: -(-len(texts) // BATCH)], decode=True)


def _timed(notes: Notes, one: Callable[[str], Any]) -> Call:
    """One query after another; notes the median latency."""

    def call(texts: list[str]) -> list[Any]:
        vectors, seconds = [], []
        for text in texts:
            start = time.perf_counter()
            vectors.append(one(text))
            seconds.append(time.perf_counter() - start)
        notes["median_ms"] = statistics.median(seconds) * 1000
        return vectors

    return call


def _raw_query(job: Job, notes: Notes) -> Call:
    from benchmarks.raw import Wire, prepare

    wire = Wire(job.url, bytearray(1 << 20))
    request = prepare(job.url, ["what was meant?"], "query")

    def one(_: str) -> int:
        wire.send(request)
        while not wire.receive():
            pass
        return 1

    timed = _timed(notes, one)
    return lambda texts: len(timed(texts))


def _core_query(job: Job, notes: Notes) -> Call:
    client = _core(job)
    return _timed(notes, lambda text: client.embed([text], "query")[0])


def _core_aquery(job: Job, notes: Notes) -> Call:
    client = _core(job)
    ask = _in_one_loop(lambda texts: client.aembed(texts, "query"))
    return _timed(notes, lambda text: ask([text])[0])


def _threads(job: Job, _: Notes) -> Call:
    """Eight threads, each asking one query after another on the same object."""
    model = _langchain(job)

    def call(texts: list[str]) -> list[Any]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(model.embed_query, texts))

    return call


def _streamed(job: Job, _: Notes) -> Call:
    """`iter_embed`, each piece dropped as soon as it is there: the result is how many vectors passed by."""
    client = _core(job)
    return lambda texts: sum(1 for _ in client.iter_embed(texts))


SIDES: dict[str, Maker] = {
    "raw sockets": _raw,
    "raw sockets, decoded": _raw_decoded,
    "peer sync, its default batch of 10": lambda job, _: _peer(job).get_text_embedding_batch,
    "peer sync": lambda job, _: _peer(job, embed_batch_size=BATCH).get_text_embedding_batch,
    "peer async, 32 at once": lambda job, _: _in_one_loop(
        _peer(job, embed_batch_size=BATCH, num_workers=BATCH).aget_text_embedding_batch
    ),
    "peer async, all at once": lambda job, _: _in_one_loop(
        _peer(job, embed_batch_size=BATCH).aget_text_embedding_batch
    ),
    "embed": lambda job, _: _core(job).embed,
    "aembed": lambda job, _: _in_one_loop(_core(job).aembed),
    "embed_array": lambda job, _: _core(job).embed_array,
    "aembed_array": lambda job, _: _in_one_loop(_core(job).aembed_array),
    "LangChain sync": lambda job, _: _langchain(job).embed_documents,
    "LangChain async": lambda job, _: _in_one_loop(_langchain(job).aembed_documents),
    "LlamaIndex sync": lambda job, _: _llama_index(job).get_text_embedding_batch,
    "LlamaIndex async": lambda job, _: _in_one_loop(_llama_index(job).aget_text_embedding_batch),
    "iter_embed": _streamed,
    "raw query": _raw_query,
    "peer query": lambda job, notes: _timed(notes, _peer(job).get_query_embedding),
    "embed query": _core_query,
    "aembed query": _core_aquery,
    "LangChain query": lambda job, notes: _timed(notes, _langchain(job).embed_query),
    "LlamaIndex query": lambda job, notes: _timed(notes, _llama_index(job).get_query_embedding),
    "8 threads of queries": _threads,
}
