"""No text is paid for twice: not by another call, process or crashed job; and a cache that fails loses nothing."""

import asyncio
import copy
import functools
import os
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interfaces import INTERFACES, settings_for
from servers import (
    DIMENSION,
    KEY,
    Connection,
    RawRequest,
    RawServer,
    altered,
    hang,
    honest,
    refuse,
    vector,
)

from opensearch_embed import ConfigurationError, EmbeddingClient, InvalidRequest, OpenSearchEmbedError
from opensearch_embed.emulator import Emulator

TEXTS = [f"text number {number}" for number in range(100)]
VECTORS = [vector(text) for text in TEXTS]


class Shelf:
    """A cache of the user's own: a dictionary, and a note of what it was asked for and by which threads."""

    def __init__(self) -> None:
        self.kept: dict[str, Sequence[float]] = {}
        self.asked: list[list[str]] = []
        self.threads: set[threading.Thread] = set()

    def get_many(self, keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return what is there."""
        self.asked.append(list(keys))
        self.threads.add(threading.current_thread())
        return {key: self.kept[key] for key in keys if key in self.kept}

    def put_many(self, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors."""
        self.threads.add(threading.current_thread())
        self.kept.update(vectors)

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept, "asked": [], "threads": set()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a cache file may be."""
    return tmp_path / "embeddings.sqlite"


@pytest.fixture(params=["path", "text", "object"])
def cache(request: pytest.FixtureRequest, path: Path) -> Any:
    """What `cache=` takes: a path, its text, an object."""
    return {"path": path, "text": str(path), "object": Shelf()}[request.param]


@pytest.fixture
def server() -> Iterator[RawServer]:
    """An honest server."""
    with RawServer() as running:
        yield running


@pytest.fixture
def make(server: RawServer) -> Iterator[Callable[..., EmbeddingClient]]:
    """Make clients of the server."""
    clients: list[EmbeddingClient] = []

    def make_one(**settings: Any) -> EmbeddingClient:
        clients.append(EmbeddingClient(**settings_for(server.url, **settings)))
        return clients[-1]

    yield make_one
    for client in clients:
        client.close()


def texts_sent(server: RawServer) -> list[str]:
    """Return all texts that came in, in their order."""
    return [text for request in server.requests for text in request.json["input"]]


# --- what is there is not sent ---


@pytest.mark.parametrize("interface", INTERFACES)
def test_what_was_embedded_is_not_sent_again(
    interface: str, cache: Any, server: RawServer, call: Callable[..., Any]
) -> None:
    """A second call, and another client, get the same vectors without a request."""
    for _ in range(2):
        embed = INTERFACES[interface](**settings_for(server.url, cache=cache))
        assert call(embed, TEXTS) == VECTORS
        assert call(embed, TEXTS) == VECTORS
    assert len(server.requests) == 4
    usage = embed.__self__.usage  # type: ignore[attr-defined]
    assert (usage.requests, usage.texts, usage.cached) == (0, 0, 200)


@pytest.mark.parametrize("interface", ["langchain", "llama_index"])
def test_queries_of_adapters_are_kept(interface: str, cache: Any, server: RawServer, call: Callable[..., Any]) -> None:
    """A query is kept as a query: the same words as a document are another entry."""
    owner: Any = INTERFACES[interface](**settings_for(server.url, cache=cache)).__self__  # type: ignore[attr-defined]
    ask = owner.embed_query if interface == "langchain" else owner.get_query_embedding
    tell = owner.embed_documents if interface == "langchain" else owner.get_text_embedding_batch
    for _ in range(2):
        assert call(ask, "tea") == vector("tea", "query")
        assert call(tell, ["tea"]) == [vector("tea")]
    assert len(server.requests) == 2


def test_only_what_is_missing_is_sent(
    cache: Any, make: Callable[..., EmbeddingClient], server: RawServer, call: Callable[..., Any]
) -> None:
    """Of a call that is half known the other half is sent, in full requests; each vector is in its place."""
    client = make(cache=cache)
    call(client.embed, TEXTS[1::2])
    server.requests.clear()
    assert call(client.embed, TEXTS) == VECTORS
    assert sorted(texts_sent(server)) == sorted(TEXTS[::2])
    assert len(server.requests) == 2
    assert (client.usage.texts, client.usage.cached) == (100, 50)


def test_all_ways_to_embed_share_what_is_kept(
    cache: Any, make: Callable[..., EmbeddingClient], server: RawServer
) -> None:
    """Lists, arrays and streams, sync and async, take what any other has written."""
    client = make(cache=cache)

    async def stream(size: int) -> list[Any]:
        return [item async for item in client.aiter_embed(TEXTS[:size])]

    assert client.embed(TEXTS[:20]) == VECTORS[:20]
    assert client.embed_array(TEXTS[:40]).tolist() == VECTORS[:40]
    assert list(client.iter_embed(TEXTS[:60])) == list(enumerate(VECTORS[:60]))
    assert asyncio.run(client.aembed(TEXTS[:80])) == VECTORS[:80]
    assert asyncio.run(stream(90)) == list(enumerate(VECTORS[:90]))
    assert asyncio.run(client.aembed_array(TEXTS)).tolist() == VECTORS
    assert texts_sent(server) == TEXTS


def test_threads_share_what_is_kept(cache: Any, make: Callable[..., EmbeddingClient], server: RawServer) -> None:
    """Threads that use one client at once get their vectors, and find them afterwards."""
    client = make(cache=cache)
    with ThreadPoolExecutor(8) as threads:
        assert all(found == VECTORS for found in threads.map(client.embed, [TEXTS] * 8))
    server.requests.clear()
    assert client.embed(TEXTS) == VECTORS
    assert server.requests == []


def test_a_cache_does_not_hold_up_the_event_loop(make: Callable[..., EmbeddingClient]) -> None:
    """Async calls use the cache on other threads than the loop's."""
    shelf = Shelf()
    client = make(cache=shelf)
    for _ in range(2):
        assert asyncio.run(client.aembed(TEXTS)) == VECTORS
    assert shelf.threads
    assert threading.main_thread() not in shelf.threads


def test_progress_counts_what_is_kept(
    cache: Any, make: Callable[..., EmbeddingClient], capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar comes to its end, whatever part was kept."""
    client = make(cache=cache)
    client.embed(TEXTS[:50])
    for _ in range(2):
        client.embed(TEXTS, progress=True)
        assert "100/100" in capsys.readouterr().err


def test_the_same_file_under_two_names_is_one_cache(
    path: Path, make: Callable[..., EmbeddingClient], server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is the file that it named when the client was made."""
    monkeypatch.chdir(path.parent)
    client = make(cache=path.name)
    (path.parent / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    client.embed(["tea"])
    make(cache=path).embed(["tea"])
    assert len(server.requests) == 1


# --- repeated texts ---


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("cached", [False, True], ids=["without a cache", "with a cache"])
def test_identical_texts_of_one_call_are_sent_once(
    cached: bool, interface: str, path: Path, server: RawServer, call: Callable[..., Any]
) -> None:
    """Each distinct text is sent once, and every copy gets a list of its own."""
    embed = INTERFACES[interface](**settings_for(server.url, **({"cache": path} if cached else {})))
    texts = ["tea", "milk", "tea", *["sugar"] * 40, "tea"]
    for _ in range(2):
        vectors = call(embed, texts)
        assert vectors == [vector(text) for text in texts]
        assert len({id(numbers) for numbers in vectors}) == len(texts)
        vectors[0][0] = 99.0
        assert vectors[2] == vectors[-1] == vector("tea")
    assert [request.json["input"] for request in server.requests] == [["tea", "milk", "sugar"]] * (1 if cached else 2)


def test_texts_that_look_alike_are_not_identical(
    make: Callable[..., EmbeddingClient], server: RawServer, call: Callable[..., Any], cache: Any
) -> None:
    """White space, case and the way an accent is written make another text: nothing is normalised."""
    texts = ["tea", "tea ", " tea", "Tea", "caf\u00e9", "cafe\u0301", "1", "１"]
    client = make(cache=cache)
    for _ in range(2):
        assert call(client.embed, texts) == [vector(text) for text in texts]
    assert texts_sent(server) == texts


def test_changing_a_vector_changes_no_other(
    make: Callable[..., EmbeddingClient], call: Callable[..., Any], cache: Any
) -> None:
    """What the caller does with a vector reaches neither the cache nor a later call."""
    client = make(cache=cache)
    for _ in range(3):
        [numbers] = call(client.embed, ["tea"])
        assert numbers == vector("tea")
        numbers[0] = 99.0


def test_an_empty_text_is_not_kept(make: Callable[..., EmbeddingClient], call: Callable[..., Any]) -> None:
    """Zeros for empty texts are made, not asked for and not kept."""
    shelf = Shelf()
    client = make(cache=shelf, empty="zero")
    for _ in range(2):
        assert call(client.embed, ["", "tea", ""]) == [[0.0] * DIMENSION, vector("tea"), [0.0] * DIMENSION]
    assert len(shelf.kept) == 1
    assert [len(keys) for keys in shelf.asked] == [1, 1]
    assert client.usage.cached == 1


# --- keys ---


def test_roles_stay_apart(
    cache: Any, make: Callable[..., EmbeddingClient], server: RawServer, call: Callable[..., Any]
) -> None:
    """A document and a query of the same words are kept apart."""
    client = make(cache=cache)
    for role in ("document", "query") * 2:
        assert call(client.embed, ["tea"], role) == [vector("tea", role)]
    assert len(server.requests) == 2


def test_models_stay_apart(cache: Any, make_client: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """Models, of the same dimension too, are kept apart."""
    models = ["ops-text-embedding-002", "ops-qwen3-embedding-0.6b", "ops-text-embedding-001"]
    for model in models * 2:
        assert make_client(model=model, cache=cache).embed(["tea"]) == [emulator.vector("tea", model=model)]
    assert len(emulator.requests) == 3


def test_endpoints_and_workspaces_stay_apart(cache: Any, server: RawServer) -> None:
    """The same service id on another endpoint, or in another workspace, may be another model."""
    with RawServer() as other:
        for url, workspace in [(server.url, "a"), (server.url, "b"), (other.url, "a")] * 2:
            with EmbeddingClient(**settings_for(url, workspace=workspace, cache=cache)) as client:
                assert client.embed(["tea"]) == [vector("tea")]
        assert (len(server.requests), len(other.requests)) == (2, 1)


def test_the_key_does_not_matter(cache: Any, make: Callable[..., EmbeddingClient], server: RawServer) -> None:
    """A new API key finds what the old one paid for; so do other settings that change no vector."""
    make(cache=cache).embed(TEXTS)
    client = make(cache=cache, api_key="OS-another-key", max_concurrency=1, timeout=5, on_error="skip", empty="zero")
    assert client.embed(TEXTS) == VECTORS
    assert len(server.requests) == 4


# --- exactness ---

TENTHS = [0.1, -0.3, 1e-30, 123456.789]


def tenths(embeddings: list[dict[str, Any]]) -> None:
    """Let every vector be numbers that float32 does not hold."""
    for item in embeddings:
        item["embedding"] = TENTHS


@pytest.mark.parametrize("first", ["embed", "embed_array"])
def test_kept_numbers_are_those_that_came(first: str, cache: Any, call: Callable[..., Any]) -> None:
    """To the last bit: lists hold what the service sent, arrays its float32, whichever was asked for first."""
    with RawServer(altered(tenths)) as server, EmbeddingClient(**settings_for(server.url, cache=cache)) as client:
        call(getattr(client, first), ["tea"])
        for _ in range(2):
            assert call(client.embed, ["tea"]) == [TENTHS]
            rows = call(client.embed_array, ["tea"])
            assert rows.dtype == np.float32
            assert rows.tolist() == np.array([TENTHS], np.float32).tolist()
        assert len(server.requests) == 1


def test_whole_numbers_come_back_as_floats(cache: Any, call: Callable[..., Any]) -> None:
    """A vector of 0 and 1 without decimal points is one of floats, kept or not."""

    def whole(embeddings: list[dict[str, Any]]) -> None:
        embeddings[0]["embedding"] = [0, 1, -1, 2]

    with RawServer(altered(whole)) as server, EmbeddingClient(**settings_for(server.url, cache=cache)) as client:
        for _ in range(2):
            [numbers] = call(client.embed, ["tea"])
            assert numbers == [0.0, 1.0, -1.0, 2.0]
            assert {type(number) for number in numbers} == {float}


# --- caches of the user's own ---


class Forms(Shelf):
    """A cache that returns vectors in another form than it got them."""

    def __init__(self, form: Callable[[Sequence[float]], Any]) -> None:
        super().__init__()
        self._form = form

    def get_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        """Return what is there, in that form."""
        return {key: self._form(numbers) for key, numbers in super().get_many(keys).items()}


FORMS: dict[str, Callable[[Sequence[float]], Any]] = {
    "tuple": tuple,
    "float32": lambda numbers: np.array(numbers, np.float32),
    "float64": np.array,
    "memory": lambda numbers: memoryview(np.array(numbers)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_cache_may_return_any_sequence_of_numbers(
    form: Callable[..., Any], make: Callable[..., EmbeddingClient], server: RawServer, call: Callable[..., Any]
) -> None:
    """Tuples and numpy arrays are vectors too; what the client returns are lists of float all the same."""
    client = make(cache=Forms(form))
    for _ in range(2):
        vectors = call(client.embed, TEXTS)
        assert vectors == VECTORS
        assert {type(numbers) for numbers in vectors} == {list}
        assert {type(number) for numbers in vectors for number in numbers} == {float}
        assert call(client.embed_array, TEXTS).tolist() == VECTORS
    assert len(server.requests) == 4


@pytest.mark.parametrize("length", [0, DIMENSION - 1, DIMENSION + 1, 1024])
def test_vectors_of_a_wrong_length_are_asked_for_again(
    length: int, make: Callable[..., EmbeddingClient], server: RawServer, call: Callable[..., Any]
) -> None:
    """What cannot be this model's is ignored, and replaced."""
    shelf = Shelf()
    client = make(cache=shelf)
    client.embed(["tea", "milk"])
    for key in list(shelf.kept)[:1]:
        shelf.kept[key] = [0.5] * length
    assert call(client.embed, ["tea", "milk"]) == [vector("tea"), vector("milk")]
    assert client.usage.cached == 1
    assert call(client.embed, ["tea", "milk"]) == [vector("tea"), vector("milk")]
    assert [request.json["input"] for request in server.requests] == [["tea", "milk"], ["tea"]]


def test_a_cache_may_know_more_than_it_is_asked(make: Callable[..., EmbeddingClient], call: Callable[..., Any]) -> None:
    """Entries that nobody asked for are ignored."""

    class Talkative(Shelf):
        def get_many(self, keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
            return {**super().get_many(keys), "another key": [9.0] * DIMENSION}

    client = make(cache=Talkative())
    for _ in range(2):
        assert call(client.embed, TEXTS) == VECTORS


# --- a cache that fails ---


class Failing(Shelf):
    """A cache that fails the n-th time that it is asked for something."""

    def __init__(self, method: str, turn: int, error: Exception) -> None:
        super().__init__()
        self._left = {method: turn}
        self._error = error
        self._lock = threading.Lock()

    def get_many(self, keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return what is there, or fail."""
        self._count("get_many")
        return super().get_many(keys)

    def put_many(self, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors, or fail."""
        self._count("put_many")
        super().put_many(vectors)

    def _count(self, method: str) -> None:
        with self._lock:
            self._left[method] = self._left.get(method, 0) - 1
            if self._left[method] == 0:
                raise self._error


def check_account(error: Any, count: int = len(TEXTS)) -> None:
    """Check that an error accounts for all texts, with right vectors."""
    assert sorted([*error.completed, *error.pending]) == list(range(count))
    assert {index: list(numbers) for index, numbers in error.completed.items()} == {
        index: VECTORS[index] for index in error.completed
    }


@pytest.mark.parametrize("method", ["embed", "embed_array"])
@pytest.mark.parametrize(
    "error",
    [OSError("no space"), ConfigurationError("no space"), LookupError("no space")],
    ids=lambda it: type(it).__name__,
)
def test_a_cache_that_cannot_keep_loses_no_vectors(
    error: Exception, method: str, make: Callable[..., EmbeddingClient], server: RawServer, call: Callable[..., Any]
) -> None:
    """When `put_many` fails, nothing more is sent, and its error has every vector that came, those of its own too."""
    client = make(cache=Failing("put_many", 2, error), max_concurrency=1)
    with pytest.raises(type(error), match="no space") as caught:
        call(getattr(client, method), TEXTS)
    check_account(caught.value)
    assert sorted(caught.value.completed) == list(range(64))
    assert len(server.requests) == 2
    assert call(client.embed, TEXTS) == VECTORS
    # What could be kept was not sent again.
    assert texts_sent(server)[64:] == TEXTS[32:]


def test_a_cache_that_cannot_keep_does_not_lose_what_is_under_way(
    make: Callable[..., EmbeddingClient], call: Callable[..., Any]
) -> None:
    """The account is exact with many requests at once, too."""
    client = make(cache=Failing("put_many", 1, OSError("no space")), max_concurrency=4)
    with pytest.raises(OSError, match="no space") as caught:
        call(client.embed, TEXTS)
    check_account(caught.value)
    assert len(caught.value.completed) >= 4


@pytest.mark.parametrize("error", [OSError("no luck"), ConfigurationError("no luck")], ids=lambda it: type(it).__name__)
def test_a_cache_that_cannot_be_asked_stops_the_call(
    error: Exception, make: Callable[..., EmbeddingClient], server: RawServer, call: Callable[..., Any]
) -> None:
    """When `get_many` fails, its error is raised before anything is sent; every text is pending."""
    client = make(cache=Failing("get_many", 1, error))
    with pytest.raises(type(error), match="no luck") as caught:
        call(client.embed, TEXTS)
    check_account(caught.value)
    assert caught.value.completed == {}
    assert server.requests == []
    assert call(client.embed, TEXTS) == VECTORS


def test_a_file_that_is_damaged_in_mid_work_is_told(
    path: Path, make: Callable[..., EmbeddingClient], call: Callable[..., Any]
) -> None:
    """When another program overwrites the file, the error names it, and what to do; every text is accounted for."""
    client = make(cache=path)
    client.embed(TEXTS[:10])
    client.close()
    path.unlink()
    path.write_bytes(b"something else " * 1000)
    with pytest.raises(ConfigurationError, match=r"embeddings\.sqlite.*[Nn]ame another file") as caught:
        call(client.embed, TEXTS)
    check_account(caught.value)


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_unusable_path_is_told_at_once(interface: str, tmp_path: Path) -> None:
    """A file in no directory, and a file of another kind, are errors of the constructor."""
    other = tmp_path / "notes.txt"
    other.write_text("These are notes. " * 100)
    for path in (tmp_path / "nowhere" / "cache.sqlite", other, tmp_path):
        with pytest.raises(ConfigurationError, match="cache"):
            INTERFACES[interface](**settings_for("http://127.0.0.1:9", cache=path))
    assert other.read_text() == "These are notes. " * 100


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("bad", ["", 5, b"cache.sqlite", True, Path], ids=repr)
def test_what_is_no_cache_is_told_at_once(bad: Any, interface: str) -> None:
    """What is neither a path nor a cache is an error of the constructor."""
    with pytest.raises(ConfigurationError, match="cache"):
        INTERFACES[interface](**settings_for("http://127.0.0.1:9", cache=bad))


def test_what_the_service_embeds_is_kept_though_it_refuses_others(cache: Any, call: Callable[..., Any]) -> None:
    """With `on_error="isolate"` the good texts are kept: a second run asks about the refused one alone."""

    def refuse_poison(connection: Connection, request: RawRequest) -> None:
        (refuse(400, "InvalidParameter") if "poison" in request.json["input"] else honest)(connection, request)

    texts = [*TEXTS[:40], "poison", *TEXTS[41:]]
    with (
        RawServer(default=refuse_poison) as server,
        EmbeddingClient(**settings_for(server.url, cache=cache, on_error="isolate")) as client,
    ):
        for _ in range(2):
            with pytest.raises(InvalidRequest) as caught:
                call(client.embed, texts)
            assert caught.value.indices == caught.value.pending == [40]
            assert caught.value.completed == {index: VECTORS[index] for index in range(100) if index != 40}
            server.requests, before = [], server.requests
        assert [request.json["input"] for request in before] == [["poison"]]


def test_a_job_that_failed_goes_on(cache: Any, make: Callable[..., EmbeddingClient], call: Callable[..., Any]) -> None:
    """After an error, running the same texts again sends those alone that were not answered."""
    with RawServer(honest, honest, refuse(401, "Unauthorized")) as server:
        client = make(cache=cache, endpoint=server.url, max_concurrency=1)
        with pytest.raises(OpenSearchEmbedError) as caught:
            call(client.embed, TEXTS)
        pending = [TEXTS[index] for index in caught.value.pending]
        server.requests.clear()
        assert call(client.embed, TEXTS) == VECTORS
        assert texts_sent(server) == pending == TEXTS[64:]


# --- processes ---

JOB = """
import asyncio, sys
from opensearch_embed import EmbeddingClient
url, key, cache, way = sys.argv[1:]
texts = [f"text number {number}" for number in range(1000)]
client = EmbeddingClient(
    "four-numbers", dimension=4, endpoint=url, api_key=key, qps=None, max_concurrency=4, cache=cache
)

async def astream():
    return [vector async for _, vector in client.aiter_embed(texts)]

vectors = {
    "embed": lambda: client.embed(texts),
    "aembed": lambda: asyncio.run(client.aembed(texts)),
    "iter_embed": lambda: [vector for _, vector in client.iter_embed(texts)],
    "aiter_embed": lambda: asyncio.run(astream()),
}[way]()
print([vector[0] for vector in vectors] == FIRST, client.usage.cached)
"""
MANY = [f"text number {number}" for number in range(1000)]
SCRIPT = JOB.replace("FIRST", repr([vector(text)[0] for text in MANY]))


def start(server: RawServer, path: Path, way: str) -> "subprocess.Popen[str]":
    """Start a job of 1000 texts in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT), server.url, KEY, str(path), way]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("way", ["embed", "aembed", "iter_embed", "aiter_embed"])
def test_a_killed_job_goes_on(way: str, path: Path) -> None:
    """A job that is killed with SIGKILL and run again sends what was not answered, and nothing else."""
    dead = threading.Event()

    def hang_until_killed(connection: Connection, request: RawRequest) -> None:
        first = MANY.index(request.json["input"][0])
        (honest if first < 288 or dead.is_set() else hang)(connection, request)

    with RawServer(default=hang_until_killed) as server:
        process = start(server, path, way)
        server.wait_for_requests(13, 30)  # nine are answered, four hang
        wait_until_kept(path, 288)
        process.kill()
        process.communicate()
        assert process.returncode != 0
        dead.set()
        server.requests.clear()
        output, errors = start(server, path, way).communicate(timeout=60)
        assert (output, errors) == ("True 288\n", "")
        assert sorted(texts_sent(server)) == sorted(MANY[288:])


def wait_until_kept(path: Path, count: int) -> None:
    """Wait until so many vectors are in the file, as another process sees it."""
    deadline = time.monotonic() + 30
    with closing(sqlite3.connect(path)) as connection:
        while connection.execute("SELECT count(*) FROM vectors").fetchone() != (count,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_processes_write_one_cache_at_once(path: Path, server: RawServer) -> None:
    """Several processes with the same job, cache and moment all get their vectors; afterwards all is kept."""
    processes = [start(server, path, way) for way in ("embed", "aembed", "iter_embed")]
    results = [process.communicate(timeout=60) for process in processes]
    assert [output.split()[:1] for output, _ in results] == [["True"]] * 3
    assert [errors for _, errors in results] == [""] * 3
    sent = len(server.requests)
    with EmbeddingClient(**settings_for(server.url, cache=path)) as client:
        assert client.embed(MANY) == [vector(text) for text in MANY]
        assert client.usage.cached == 1000
    assert len(server.requests) == sent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_uses_the_cache(path: Path, make: Callable[..., EmbeddingClient], server: RawServer) -> None:
    """After a fork, parent and child both read and write the file."""
    client = make(cache=path)
    client.embed(TEXTS[:50])
    child = os.fork()
    if child == 0:
        os._exit(0 if client.embed(TEXTS) == VECTORS else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert client.embed(TEXTS) == VECTORS
    assert sorted(texts_sent(server)) == sorted(TEXTS)


# --- copies ---


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_a_client_has_its_cache(
    copier: Callable[[Any], Any], cache: Any, make: Callable[..., EmbeddingClient], server: RawServer
) -> None:
    """Copied or pickled, a client finds what it kept, and works on when the first one is closed."""
    client = make(cache=cache)
    client.embed(TEXTS)
    with copier(client) as twin:
        client.close()
        assert twin.embed(TEXTS) == VECTORS
        assert twin.usage.cached == 100
    assert len(server.requests) == 4


@pytest.mark.parametrize("interface", ["langchain", "llama_index"])
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_an_adapter_has_its_cache(
    copier: Callable[[Any], Any], interface: str, cache: Any, server: RawServer
) -> None:
    """The same holds for the adapters."""
    embed = INTERFACES[interface](**settings_for(server.url, cache=cache))
    assert embed(TEXTS) == VECTORS
    twin = copier(embed.__self__)  # type: ignore[attr-defined]
    assert getattr(twin, embed.__name__)(TEXTS) == VECTORS
    assert len(server.requests) == 4


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_pickle_whose_file_is_out_of_reach_can_be_read(interface: str, tmp_path: Path) -> None:
    """Unpickling never fails, since a pool of processes would wait for ever; the first use says what is wrong."""
    place = tmp_path / "place"
    place.mkdir()
    embed = INTERFACES[interface](**settings_for("http://127.0.0.1:9", cache=place / "cache.sqlite"))
    pickled, name = pickle.dumps(embed.__self__), embed.__name__  # type: ignore[attr-defined]
    embed.__self__.close()  # type: ignore[attr-defined]
    del embed
    for file in place.iterdir():
        file.unlink()
    place.rmdir()
    twin = pickle.loads(pickled)
    with pytest.raises(ConfigurationError, match="directory"):
        getattr(twin, name)(["tea"])


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
def test_a_copy_in_another_directory_has_the_same_file(
    copier: Callable[[Any], Any], interface: str, path: Path, server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path stays the file that it named first, also for a worker that starts elsewhere."""
    monkeypatch.chdir(path.parent)
    embed = INTERFACES[interface](**settings_for(server.url, cache=path.name))
    embed(["tea"])
    (path.parent / "elsewhere").mkdir()
    copy_there = functools.partial(copier, embed.__self__)  # type: ignore[attr-defined]
    monkeypatch.chdir("elsewhere")
    assert getattr(copy_there(), embed.__name__)(["tea"]) == [vector("tea")]
    assert len(server.requests) == 1
    assert list(Path.cwd().iterdir()) == []


def test_llama_index_writes_the_path_down(path: Path, server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`to_dict` and `to_json` keep the path, so that what is made of them finds what was kept."""
    from llama_index_opensearch_embed import OpenSearchEmbedding

    settings = settings_for(server.url)
    embedding = OpenSearchEmbedding(model_name=settings.pop("model"), cache=path, **settings)
    embedding.get_text_embedding_batch(TEXTS)
    monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
    for again in (
        OpenSearchEmbedding.from_dict(embedding.to_dict()),
        OpenSearchEmbedding.from_json(embedding.to_json()),
    ):
        assert again.cache == str(path)
        assert again.get_text_embedding_batch(TEXTS) == VECTORS
    assert len(server.requests) == 4


def test_langchain_writes_the_path_down(path: Path, server: RawServer) -> None:
    """`model_dump` keeps the path."""
    from langchain_opensearch_embed import OpenSearchEmbeddings

    embeddings = OpenSearchEmbeddings(**settings_for(server.url, cache=path))
    embeddings.embed_documents(TEXTS)
    again = OpenSearchEmbeddings(**(embeddings.model_dump() | {"api_key": KEY}))
    assert again.embed_documents(TEXTS) == VECTORS
    assert embeddings.model_dump(mode="json")["cache"] == str(path)
    assert len(server.requests) == 4


def test_an_object_is_not_written_down(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is an object is left out of what adapters write; what is made of that has none, and works."""
    from langchain_opensearch_embed import OpenSearchEmbeddings
    from llama_index_opensearch_embed import OpenSearchEmbedding

    monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
    settings = settings_for(server.url, cache=Shelf())
    assert OpenSearchEmbeddings(**settings).model_dump(mode="json")["cache"] is None
    embedding = OpenSearchEmbedding(model_name=settings.pop("model"), **settings)
    again = OpenSearchEmbedding.from_dict(embedding.to_dict())
    assert again.cache is None
    assert again.get_text_embedding("tea") == vector("tea")
    embedding.to_json()


# --- secrets ---


def test_the_file_holds_neither_key_nor_text(path: Path, server: RawServer, call: Callable[..., Any]) -> None:
    """Nobody who reads the file learns the key, a text, or where it was embedded."""
    texts = ["a confidential sentence", "机密的句子", *TEXTS]
    client = EmbeddingClient(**settings_for(server.url, cache=path, workspace="hush-hush"))
    call(client.embed, texts)
    call(client.embed, texts, "query")
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    client.close()
    files |= {f"{file.name}, closed": file.read_bytes() for file in path.parent.iterdir()}
    assert sum(map(len, files.values())) > 1000
    for secret in (KEY, *texts[:3], "confidential", "hush-hush", server.url, "127.0.0.1"):
        for encoding in ("utf-8", "utf-16-le"):
            assert not [name for name, data in files.items() if secret.encode(encoding) in data]


@pytest.mark.parametrize("close", [EmbeddingClient.close, lambda client: asyncio.run(client.aclose())])
def test_a_closed_client_leaves_one_file(
    close: Callable[..., Any], path: Path, make: Callable[..., EmbeddingClient], server: RawServer
) -> None:
    """When the last client is closed, all is in the one file that was named: it can be copied, moved, deleted."""
    client = make(cache=path)
    client.embed(TEXTS)
    close(client)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    moved = path.rename(path.with_name("moved.sqlite"))
    assert make(cache=moved).embed(TEXTS) == VECTORS
    assert client.embed(["tea"]) == [vector("tea")]
    assert len(server.requests) == 5
