"""The ways in which the project is used: each a generator that yields between two rounds, and tidies up at its end."""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import EmbeddingClient, OpenSearchEmbedError
from soak.lab import MODEL, Asked, Lab

Rounds = Generator[None, None, None]
Load = Callable[[Lab, random.Random], Rounds]


def threads(lab: Lab, chance: random.Random) -> Rounds:
    """One of several threads on one client."""
    while True:
        asked = lab.ask(chance, 150)
        lab.call(asked, chance.choice([lab.shared.embed, lab.shared.embed_array]), asked.role)
        yield


def long_loop(lab: Lab, chance: random.Random) -> Rounds:
    """One event loop that lives as long as the run: several calls at once, some of them cancelled."""
    with asyncio.Runner() as runner:
        while True:
            runner.run(_several(lab, chance))
            yield


async def _several(lab: Lab, chance: random.Random) -> None:
    tasks = []
    for _ in range(4):
        asked = lab.ask(chance, 100)
        method = chance.choice([lab.shared.aembed, lab.shared.aembed_array])
        tasks.append(asyncio.create_task(lab.acall(asked, method, asked.role)))
    if chance.random() < 0.3:
        await asyncio.sleep(chance.random() / 20)
        tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            lab.note(f"in a task: {error!r}")


def short_loops(lab: Lab, chance: random.Random) -> Rounds:
    """`asyncio.run` again and again, on the client that threads use as well."""
    while True:
        asked = lab.ask(chance, 60)
        asyncio.run(lab.acall(asked, lab.shared.aembed, asked.role))
        yield


def stream(lab: Lab, chance: random.Random) -> Rounds:
    """A corpus in arrays, sync and async by turns; some consumers leave in the middle."""
    with lab.client(qps=None, max_concurrency=4) as client:
        while True:
            for take in (_take, lambda *arguments: asyncio.run(_atake(*arguments))):
                asked = lab.ask(chance, 1500)
                reader = Reader(lab, asked, most=chance.choice([200, 10_000]))
                error = None
                try:
                    take(client, asked, reader)
                except OpenSearchEmbedError as raised:
                    error = raised
                lab.check_rest(asked, reader.count, error)
                yield


class Reader:
    """Compares the arrays of a stream as they come, and has enough after `most` rows."""

    def __init__(self, lab: Lab, asked: Asked, most: int) -> None:
        self.count = 0
        self._lab, self._asked, self._most = lab, asked, most

    def has_enough(self, rows: Any) -> bool:
        """Compare an array; tell whether to leave."""
        self._lab.check_part(self._asked, self.count, rows)
        self.count += len(rows)
        return self.count >= self._most


def _take(client: EmbeddingClient, asked: Asked, reader: Reader) -> None:
    for rows in client.iter_embed(iter(asked.texts), asked.role, batch=100):
        if reader.has_enough(rows):
            break


async def _atake(client: EmbeddingClient, asked: Asked, reader: Reader) -> None:
    async for rows in client.aiter_embed(_one_by_one(asked.texts), asked.role, batch=100):
        if reader.has_enough(rows):
            break


async def _one_by_one(texts: list[str]) -> AsyncIterator[str]:
    for text in texts:
        yield text


def langchain(lab: Lab, chance: random.Random) -> Rounds:
    """LangChain's four methods, at a limited rate."""
    embeddings = OpenSearchEmbeddings(model=MODEL, qps=400, max_concurrency=4, **lab.settings)
    with contextlib.closing(embeddings):
        while True:
            documents, query = lab.ask(chance, 100, "document"), lab.ask(chance, 1, "query")
            lab.call(documents, embeddings.embed_documents)
            lab.call(query, lambda texts: [embeddings.embed_query(texts[0])])
            asyncio.run(lab.acall(documents, embeddings.aembed_documents))
            asyncio.run(lab.acall(query, _first(embeddings.aembed_query)))
            yield


def llama_index(lab: Lab, chance: random.Random) -> Rounds:
    """LlamaIndex's four methods, at a limited rate."""
    embeddings = OpenSearchEmbedding(model_name=MODEL, qps=400, max_concurrency=4, **lab.settings)
    with contextlib.closing(embeddings):
        while True:
            documents, query = lab.ask(chance, 100, "document"), lab.ask(chance, 1, "query")
            lab.call(documents, embeddings.get_text_embedding_batch)
            lab.call(query, lambda texts: [embeddings.get_query_embedding(texts[0])])
            asyncio.run(lab.acall(documents, embeddings.aget_text_embedding_batch))
            asyncio.run(lab.acall(query, _first(embeddings.aget_query_embedding)))
            yield


def _first(method: Callable[[str], Any]) -> Callable[[list[str]], Any]:
    async def ask(texts: list[str]) -> list[Any]:
        return [await method(texts[0])]

    return ask


def cached(lab: Lab, chance: random.Random) -> Rounds:
    """A client with a file for a cache; every thirty rounds both are new."""
    while True:
        with tempfile.TemporaryDirectory() as folder, lab.client(qps=None, cache=Path(folder, "vectors")) as client:
            for _ in range(30):
                asked = lab.ask(chance, 100)
                lab.call(asked, client.embed, asked.role)
                yield


def new_clients(lab: Lab, chance: random.Random) -> Rounds:
    """A client for each call, closed or forgotten, that isolates or skips what is refused."""
    while True:
        asked = lab.ask(chance, 40)
        client = lab.client(qps=None, max_concurrency=2, on_error=chance.choice(["isolate", "raise"]))
        lab.call(asked, client.embed, asked.role)
        asyncio.run(lab.acall(asked, client.aembed_array, asked.role))
        if chance.random() < 0.8:
            client.close()
        yield


LOADS: list[Load] = [*[threads] * 4, long_loop, *[short_loops] * 2, stream, langchain, llama_index, cached, new_clients]
