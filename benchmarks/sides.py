"""The sides: each makes a client for a job and returns the call that is measured."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.clients import Call, Maker, Notes, baseten, core, in_one_loop, langchain, llama_index, peer
from benchmarks.job import BATCH, Job
from benchmarks.sides_turns import TURNS


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


def _baseten_lists(job: Job, _: Notes) -> Call:
    embed = baseten(job)[0]
    return lambda texts: [item.embedding for item in embed(texts).data]


def _baseten_lists_async(job: Job, _: Notes) -> Call:
    aembed = baseten(job)[1]

    async def lists(texts: list[str]) -> list[list[float]]:
        return [item.embedding for item in (await aembed(texts)).data]

    return in_one_loop(lists)


def _baseten_array(job: Job, _: Notes) -> Call:
    embed = baseten(job)[0]
    return lambda texts: embed(texts).numpy()


def _baseten_array_async(job: Job, _: Notes) -> Call:
    aembed = baseten(job)[1]

    async def array(texts: list[str]) -> Any:
        return (await aembed(texts)).numpy()

    return in_one_loop(array)


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
    client = core(job)
    return _timed(notes, lambda text: client.embed([text], "query")[0])


def _core_aquery(job: Job, notes: Notes) -> Call:
    client = core(job)
    ask = in_one_loop(lambda texts: client.aembed(texts, "query"))
    return _timed(notes, lambda text: ask([text])[0])


def _threads(job: Job, _: Notes) -> Call:
    """Eight threads, each asking one query after another on the same object."""
    model = langchain(job)

    def call(texts: list[str]) -> list[Any]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(model.embed_query, texts))

    return call


def _streamed(job: Job, _: Notes) -> Call:
    """`iter_embed`, each piece dropped as soon as it is there: the result is how many vectors passed by."""
    client = core(job)
    return lambda texts: sum(1 for _ in client.iter_embed(texts))


SIDES: dict[str, Maker] = {
    "raw sockets": _raw,
    "raw sockets, decoded": _raw_decoded,
    "peer sync, its default batch of 10": lambda job, _: peer(job).get_text_embedding_batch,
    "peer sync": lambda job, _: peer(job, embed_batch_size=BATCH).get_text_embedding_batch,
    "peer async, 32 at once": lambda job, _: in_one_loop(
        peer(job, embed_batch_size=BATCH, num_workers=BATCH).aget_text_embedding_batch
    ),
    "peer async, all at once": lambda job, _: in_one_loop(peer(job, embed_batch_size=BATCH).aget_text_embedding_batch),
    "baseten": _baseten_lists,
    "baseten async": _baseten_lists_async,
    "baseten array": _baseten_array,
    "baseten array async": _baseten_array_async,
    "embed": lambda job, _: core(job).embed,
    "aembed": lambda job, _: in_one_loop(core(job).aembed),
    "embed_array": lambda job, _: core(job).embed_array,
    "aembed_array": lambda job, _: in_one_loop(core(job).aembed_array),
    "LangChain sync": lambda job, _: langchain(job).embed_documents,
    "LangChain async": lambda job, _: in_one_loop(langchain(job).aembed_documents),
    "LlamaIndex sync": lambda job, _: llama_index(job).get_text_embedding_batch,
    "LlamaIndex async": lambda job, _: in_one_loop(llama_index(job).aget_text_embedding_batch),
    "iter_embed": _streamed,
    "raw query": _raw_query,
    "peer query": lambda job, notes: _timed(notes, peer(job).get_query_embedding),
    "embed query": _core_query,
    "aembed query": _core_aquery,
    "LangChain query": lambda job, notes: _timed(notes, langchain(job).embed_query),
    "LlamaIndex query": lambda job, notes: _timed(notes, llama_index(job).get_query_embedding),
    "8 threads of queries": _threads,
    **TURNS,
}
