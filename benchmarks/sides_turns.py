"""The sides of the suites about turns: what is asked at once, beside a job, and by many."""

import asyncio
import contextlib
import math
import random
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from benchmarks.clients import Call, Maker, Notes, core, in_one_loop, langchain, llama_index
from benchmarks.job import BATCH, Job

QUERY_SECONDS = 0.2
"""Between two queries, on average: a tenth of 50 QPS."""

STARTED = 2.0
"""Seconds until a job fills the quota, with some to spare."""

ASKERS = 32
"""Of a flood: each has one full request of queries under way, so they want six times the quota at 100 ms."""


def _corpus() -> Iterator[str]:
    """Documents without end."""
    return (f"{number} of the documents that a job embeds while somebody asks a question" for number in count())


@contextlib.contextmanager
def _busy(client: Any) -> Iterator[None]:
    """Meanwhile a job in a thread of its own fills the quota."""
    left = threading.Event()

    def work() -> None:
        for _ in client.iter_embed(_corpus(), batch=BATCH):
            if left.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(work)
        time.sleep(STARTED)
        try:
            yield
            if job.done():
                raise RuntimeError("the job beside the queries has ended") from job.exception()
        finally:
            left.set()


@contextlib.asynccontextmanager
async def _abusy(client: Any) -> AsyncIterator[None]:
    """Meanwhile a job in a task of this loop fills the quota."""

    async def work() -> None:
        async for _ in client.aiter_embed(_corpus(), batch=BATCH):
            pass

    job = asyncio.create_task(work())
    await asyncio.sleep(STARTED)
    try:
        yield
        if job.done():
            raise RuntimeError("the job beside the queries has ended") from job.exception()
    finally:
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job


def _due(texts: list[str]) -> Iterator[tuple[str, float]]:
    """Each query with the seconds until its time, which is a little irregular, as with users."""
    rng = random.Random(len(texts))
    due = time.perf_counter()
    for text in texts:
        yield text, max(0.0, due - time.perf_counter())
        due += QUERY_SECONDS * rng.uniform(0.75, 1.25)


def _note(notes: Notes, when: str, seconds: list[float]) -> None:
    """The median, and of a hundred the second longest."""
    notes[f"{when}_median_ms"] = statistics.median(seconds) * 1000
    notes[f"{when}_p99_ms"] = sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1] * 1000


def _ask_each(texts: list[str], one: Callable[[str], Any]) -> list[float]:
    """How long each query took, in seconds, each asked at its time."""
    seconds = []
    for text, wait in _due(texts):
        time.sleep(wait)
        start = time.perf_counter()
        one(text)
        seconds.append(time.perf_counter() - start)
    return seconds


async def _aask_each(texts: list[str], one: Callable[[str], Awaitable[Any]]) -> list[float]:
    seconds = []
    for text, wait in _due(texts):
        await asyncio.sleep(wait)
        start = time.perf_counter()
        await one(text)
        seconds.append(time.perf_counter() - start)
    return seconds


def _beside(make_one: Callable[[Job, Any], Callable[[str], Any]]) -> Maker:
    """Ask the same queries alone, then beside a job of a client; `make_one` says what asks them."""

    def make(job: Job, notes: Notes) -> Call:
        client = core(job)
        one = make_one(job, client)

        def call(texts: list[str]) -> int:
            _note(notes, "alone", _ask_each(texts, one))
            with _busy(client):
                _note(notes, "beside", _ask_each(texts, one))
            return len(texts)

        return call

    return make


def _by_client(client: Any) -> Callable[[str], Any]:
    return lambda text: client.embed([text], "query")


def _beside_async(job: Job, notes: Notes) -> Call:
    client = core(job)

    async def call(texts: list[str]) -> int:
        def one(text: str) -> Awaitable[Any]:
            return client.aembed([text], "query")

        _note(notes, "alone", await _aask_each(texts, one))
        async with _abusy(client):
            _note(notes, "beside", await _aask_each(texts, one))
        return len(texts)

    return in_one_loop(call)


def _batches(texts: list[str]) -> list[list[str]]:
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def _flood(job: Job, _: Notes) -> Call:
    """Threads ask full requests of queries, which nothing can share, as fast as they are answered; beside a job."""
    client = core(job)

    def call(texts: list[str]) -> int:
        with _busy(client), ThreadPoolExecutor(ASKERS) as pool:
            return sum(
                len(vectors) for vectors in pool.map(lambda batch: client.embed(batch, "query"), _batches(texts))
            )

    return call


def _flood_async(job: Job, _: Notes) -> Call:
    client = core(job)

    async def call(texts: list[str]) -> int:
        waiting = iter(_batches(texts))

        async def ask() -> int:
            return sum([len(await client.aembed(batch, "query")) for batch in waiting])

        async with _abusy(client):
            return sum(await asyncio.gather(*(ask() for _ in range(ASKERS))))

    return in_one_loop(call)


def _all_at_once(job: Job, _: Notes) -> Call:
    """Every query is a task of its own."""
    client = core(job)

    async def call(texts: list[str]) -> list[Any]:
        vectors = await asyncio.gather(*(client.aembed([text], "query") for text in texts))
        return [vector for [vector] in vectors]

    return in_one_loop(call)


def _many_threads(job: Job, _: Notes) -> Call:
    """Each of 64 threads asks one query after another."""
    client = core(job)

    def call(texts: list[str]) -> list[Any]:
        with ThreadPoolExecutor(64) as pool:
            return list(pool.map(lambda text: client.embed([text], "query")[0], texts))

    return call


TURNS: dict[str, Maker] = {
    "query, same client": _beside(lambda _, client: _by_client(client)),
    "query, same client, async": _beside_async,
    "query, another client": _beside(lambda job, _: _by_client(core(job))),
    "query, LangChain": _beside(lambda job, _: langchain(job).embed_query),
    "query, LlamaIndex": _beside(lambda job, _: llama_index(job).get_query_embedding),
    "flood of queries": _flood,
    "flood of queries, async": _flood_async,
    "queries at once, async": _all_at_once,
    "queries from 64 threads": _many_threads,
}
