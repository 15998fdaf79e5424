"""Several lists, one after another: each as a call of its own, no pause between, and an error stops them all."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from interfaces import settings_for
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from servers import Connection, RawRequest, RawServer, hang, honest, refuse, vector

from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import AuthenticationError, EmbeddingClient, InputError, InvalidRequest
from opensearch_embed.emulator import Emulator

SIZE = 3 * 32
LISTS = [[f"{name} {number}" for number in range(SIZE)] for name in ("first", "second", "third", "fourth")]
Run = Callable[[RawServer, list[list[str]]], list[list[float]]]


def right(lists: list[list[str]]) -> list[list[float]]:
    """Return the vectors of all texts, in order."""
    return [vector(text) for texts in lists for text in texts]


def by_client(server: RawServer, lists: list[list[str]]) -> list[list[float]]:
    """Embed lists with the client."""
    with EmbeddingClient(**settings_for(server.url, max_concurrency=4)) as client:
        return [embedding for vectors in client.embed_lists(lists) for embedding in vectors]


def by_framework(server: RawServer, lists: list[list[str]], max_concurrency: int = 4) -> list[list[float]]:
    """Embed what is in the lists with LlamaIndex, whose batches are of their size."""
    settings = settings_for(server.url, max_concurrency=max_concurrency, embed_batch_size=SIZE)
    embedding = OpenSearchEmbedding(model_name=settings.pop("model"), **settings)
    try:
        return embedding.get_text_embedding_batch([text for texts in lists for text in texts])
    finally:
        embedding.close()


@pytest.fixture(params=[by_client, by_framework])
def run(request: pytest.FixtureRequest) -> Run:
    """One way to embed several lists."""
    return request.param


@pytest.mark.parametrize("count", range(5))
def test_each_vector_is_in_its_place(run: Run, count: int) -> None:
    """Whatever the number of lists, even none."""
    with RawServer() as server:
        assert run(server, LISTS[:count]) == right(LISTS[:count])
        assert len(server.requests) == 3 * count


def test_lists_of_any_length_are_taken() -> None:
    """Empty ones too, and what is not a list."""
    lists: list[Any] = [[], ["a"], (), iter("bc"), [f"text {number}" for number in range(70)]]
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        got = list(client.embed_lists(lists, "query"))
    assert [len(vectors) for vectors in got] == [0, 1, 0, 2, 70]
    assert got[3] == [vector(text, "query") for text in "bc"]


def test_the_next_list_is_sent_while_one_is_finished(run: Run) -> None:
    """The last request of the first list is answered only after a request of the second has come."""
    arrived = threading.Event()

    def act(connection: Connection, request: RawRequest) -> None:
        if request.json["input"][0].startswith("second"):
            arrived.set()
        if request.json["input"][0] == f"first {SIZE - 32}":
            assert arrived.wait(10)
        honest(connection, request)

    with RawServer(default=act) as server:
        assert run(server, LISTS) == right(LISTS)


def test_no_more_than_one_list_is_ahead() -> None:
    """Lists are read as their vectors are taken."""
    read: list[int] = []

    def source() -> Iterator[list[str]]:
        for number, texts in enumerate(LISTS):
            read.append(number)
            yield texts

    with (
        RawServer() as server,
        EmbeddingClient(**settings_for(server.url)) as client,
        closing(client.embed_lists(source())) as vectors,
    ):
        assert read == []
        next(vectors)
        assert read == [0, 1]


def test_an_error_counts_in_its_list_and_stops_the_next() -> None:
    """While a request of the first list is still under way, none of the second is sent."""
    arrived = threading.Event()

    def act(connection: Connection, request: RawRequest) -> None:
        first = request.json["input"][0]
        if first == "first 0":
            arrived.wait(0.3)
        elif first.startswith("second"):
            arrived.set()
        (refuse(401) if first == "first 32" else honest)(connection, request)

    with RawServer(default=act) as server:
        with pytest.raises(AuthenticationError) as caught:
            by_framework(server, LISTS, max_concurrency=2)
        assert {request.json["input"][0] for request in server.requests} == {"first 0", "first 32"}
    error = caught.value
    assert error.completed == dict(enumerate(right([LISTS[0][:32]])))
    assert error.pending == list(range(32, SIZE))


@pytest.mark.parametrize("bad", ["", "\ud800"])
def test_a_bad_text_is_told_after_the_lists_before_it(bad: str) -> None:
    """Its index counts in its list, and what came before is delivered."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        vectors = client.embed_lists([LISTS[0], ["good", bad], LISTS[1]])
        assert next(vectors) == right(LISTS[:1])
        with pytest.raises(InputError, match=r"texts\[1\]") as caught:
            next(vectors)
        assert (caught.value.index, caught.value.pending) == (1, [0, 1])
        assert len(server.requests) == 3


def test_isolation_holds_for_each_list() -> None:
    """The refused text is named by its place in its list."""

    def act(connection: Connection, request: RawRequest) -> None:
        (refuse(400, "InvalidParameter") if "poison" in request.json["input"] else honest)(connection, request)

    with (
        RawServer(default=act) as server,
        EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client,
        closing(client.embed_lists([LISTS[0], ["good", "poison"]])) as vectors,
    ):
        next(vectors)
        with pytest.raises(InvalidRequest) as caught:
            next(vectors)
    assert (caught.value.indices, caught.value.completed) == ([1], {0: vector("good")})


def test_leaving_ends_what_is_under_way() -> None:
    """A hanging request of the next list does not keep the consumer."""

    def act(connection: Connection, request: RawRequest) -> None:
        (honest if request.json["input"][0].startswith("first") else hang)(connection, request)

    with RawServer(default=act) as server, EmbeddingClient(**settings_for(server.url)) as client:
        vectors = client.embed_lists(LISTS)
        assert next(vectors) == right(LISTS[:1])
        server.wait_for_requests(6)
        vectors.close()
        assert client.embed(LISTS[0]) == right(LISTS[:1])
        assert len(server.requests) == 9


def test_a_cache_that_fails_is_told_in_its_turn() -> None:
    """An error before anything is sent does not overtake the list before it."""

    class Broken(dict[str, Any]):
        asked = 0

        def get_many(self, _keys: list[str]) -> dict[str, list[float]]:
            self.asked += 1
            if self.asked == 2:
                raise OSError("the disk is gone")
            return {}

        put_many = dict.update

    with RawServer() as server, EmbeddingClient(**settings_for(server.url, cache=Broken())) as client:
        vectors = client.embed_lists(LISTS)
        assert next(vectors) == right(LISTS[:1])
        with pytest.raises(OSError, match="the disk is gone") as caught:
            next(vectors)
    assert vars(caught.value)["pending"] == list(range(SIZE))


def test_the_framework_decides_where_it_limits_or_remembers() -> None:
    """With a rate limiter or a cache of the framework's, nothing is sent before it asks."""
    asked: list[int] = []

    with Emulator(vectors="lexical", qps=None) as emulator:

        class Limiter:
            def acquire(self) -> None:
                asked.append(len(emulator.requests))

        embedding = OpenSearchEmbedding(endpoint=emulator.url, api_key=emulator.api_key, embed_batch_size=32, qps=None)
        embedding.rate_limiter = Limiter()  # type: ignore[assignment]
        embedding.get_text_embedding_batch(LISTS[0])
        embedding.close()
    assert asked == [0, 1, 2]


def test_another_embedding_inside_a_callback_gets_vectors_of_its_own() -> None:
    """Vectors that were sent for ahead are their owner's, though the texts are the same."""
    texts = LISTS[0]

    with Emulator(vectors="lexical", qps=None) as emulator:
        settings: dict[str, Any] = {"endpoint": emulator.url, "api_key": emulator.api_key, "qps": None}
        other = OpenSearchEmbedding(model_name="ops-text-embedding-001", **settings)
        lengths: set[int] = set()

        class Handler(BaseCallbackHandler):
            def __init__(self) -> None:
                super().__init__([], [])

            def on_event_start(self, *_: Any, **__: Any) -> str:
                lengths.update(map(len, other._get_text_embeddings(texts[:32])))
                return ""

            def on_event_end(self, *_: Any, **__: Any) -> None: ...
            def start_trace(self, *_: Any) -> None: ...
            def end_trace(self, *_: Any) -> None: ...

        embedding = OpenSearchEmbedding(embed_batch_size=32, callback_manager=CallbackManager([Handler()]), **settings)
        vectors = embedding.get_text_embedding_batch(texts)
        embedding.close()
        other.close()
    assert lengths == {1536}
    assert {len(embedding) for embedding in vectors} == {1024}
    assert vectors == [emulator.vector(text) for text in texts]
