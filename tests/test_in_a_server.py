"""What the pages say of web servers (docs/frameworks.md) and the vendor's store (docs/alibabacloud-opensearch.md)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import ha3engine
import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from langchain_community.vectorstores import AlibabaCloudOpenSearch, AlibabaCloudOpenSearchSettings

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed.emulator import Emulator

QUESTIONS = [f"question {number}" for number in range(40)]


def langchain(emulator: Emulator, **settings: Any) -> Any:
    """Return LangChain's object."""
    return OpenSearchEmbeddings(endpoint=emulator.url, api_key=emulator.api_key, **settings)


def llama_index(emulator: Emulator, **settings: Any) -> Any:
    """Return LlamaIndex's object."""
    return OpenSearchEmbedding(endpoint=emulator.url, api_key=emulator.api_key, **settings)


def application(embeddings: Any) -> FastAPI:
    """Return a server with one object, closed at its end, and an endpoint of each kind."""
    is_langchain = isinstance(embeddings, OpenSearchEmbeddings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with embeddings as app.state.embeddings:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/async")
    async def asynchronous(text: str, request: Request) -> list[float]:
        one = request.app.state.embeddings
        vector: list[float] = await (one.aembed_query(text) if is_langchain else one.aget_query_embedding(text))
        return vector

    @app.get("/sync")
    def synchronous(text: str, request: Request) -> list[float]:
        one = request.app.state.embeddings
        vector: list[float] = one.embed_query(text) if is_langchain else one.get_query_embedding(text)
        return vector

    return app


@pytest.fixture(params=[langchain, llama_index])
def adapter(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make either framework's object."""
    made: Callable[..., Any] = request.param
    return made


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_a_server_answers(emulator: Emulator, adapter: Callable[..., Any], path: str) -> None:
    """Both kinds of endpoint give the query's vector, and the server starts again after its end."""
    app = application(adapter(emulator))
    for _ in range(2):
        with TestClient(app) as browser:
            assert browser.get(path, params={"text": "tea"}).json() == emulator.vector("tea", "query")


def test_one_object_shares_requests(emulator: Emulator, adapter: Callable[..., Any]) -> None:
    """Forty people who ask at once under a small quota cost a few requests; each gets the answer to their question."""
    app = application(adapter(emulator, qps=5))

    async def ask() -> list[Any]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://server") as browser,
        ):
            asked = (browser.get("/async", params={"text": question}) for question in QUESTIONS)
            return [answer.json() for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [emulator.vector(question, "query") for question in QUESTIONS]
    assert len(emulator.requests) < 10


# --- the vendor's own vector store ---


@pytest.fixture
def stores() -> Iterator[list[ha3engine.Client]]:
    """The clients of the stand-in for its SDK."""
    with ha3engine.installed() as made:
        yield made


def settings(**others: Any) -> AlibabaCloudOpenSearchSettings:
    """Return the store's settings."""
    mapping = {"id": "id", "document": "document", "embedding": "embedding", "source": "source,="}
    given = {"endpoint": "h", "instance_id": "i", "username": "u", "password": "p", "table_name": "notes"}
    return AlibabaCloudOpenSearchSettings(field_name_mapping=mapping, **given, **others)


def test_the_vendors_store_takes_our_vectors(emulator: Emulator, stores: list[ha3engine.Client]) -> None:
    """Texts are embedded in full requests as documents, questions as queries, and the very vectors are pushed."""
    texts = [f"text {number}" for number in range(70)]
    store = AlibabaCloudOpenSearch(langchain(emulator, qps=None), settings())
    assert len(store.add_texts([*texts, texts[0]])) == 71
    assert len(store.similarity_search("text 33", k=2, search_filter={"source": "a"})) == 2
    assert asyncio.run(store.asimilarity_search("text 33", k=1))[0].page_content == "text 33"
    roles = [(request.body["input_type"], len(request.body["input"])) for request in emulator.requests]
    assert sorted(roles) == [("document", 6), ("document", 32), ("document", 32), ("query", 1), ("query", 1)]
    [client] = stores
    assert client.config.protocol == "http"
    assert client.pushes == [("i_notes", 71)]
    assert len(client.documents) == 70
    stored = {one["document"]: one["embedding"] for one in client.documents.values()}
    assert [float(number) for number in stored["text 33"].split(",")] == emulator.vector("text 33")
    assert client.queries[0].vector == emulator.vector("text 33", "query")
    assert client.queries[0].filter == 'source="a"'


def test_a_refusal_of_the_vendors_store_is_silent(emulator: Emulator, stores: list[ha3engine.Client]) -> None:
    """Nothing is raised where it refuses texts, and a KeyError where it refuses a search."""
    store = AlibabaCloudOpenSearch(langchain(emulator), settings())
    stores[0].refuses = True
    assert store.add_texts(["tea"]) == []
    with pytest.raises(KeyError, match="result"):
        store.similarity_search("tea")


@pytest.mark.usefixtures("stores")
def test_the_vendors_store_forgets_output_fields(emulator: Emulator) -> None:
    """The class sets the attribute only where the argument is left out."""
    assert not hasattr(settings(output_fields=["id"]), "output_fields")
    assert settings().output_fields == ["id", "document", "embedding", "source"]
    assert AlibabaCloudOpenSearch(langchain(emulator), settings()).embedding.dimension == 1024
