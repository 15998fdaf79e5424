"""A corpus of any length: every vector in its place, no text read before its time, nothing left running."""

import asyncio
import gc
import itertools
import math
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import pytest
from interfaces import settings_for
from servers import DIMENSION, Action, Connection, RawRequest, RawServer, hang, honest, refuse, vector
from test_lifecycle import interrupt

from opensearch_embed import (
    AuthenticationError,
    ConfigurationError,
    EmbeddingClient,
    InputError,
    InvalidRequest,
    OpenSearchEmbedError,
)
from opensearch_embed.emulator import Emulator

CHUNK = 64
"""Texts that are read at once by a client with `max_concurrency=2`: two full requests."""
PROMPT = 3.0
"""Seconds in which something has ended "at once", on a slow machine too; what it must not wait for takes 30."""


def texts_of(count: int) -> list[str]:
    """Return so many texts, all different."""
    return [f"text {number}" for number in range(count)]


def vectors_of(texts: Iterable[str], role: str = "document") -> list[list[float]]:
    """Return the right vectors."""
    return [vector(text, role) for text in texts]


def pairs_of(texts: Iterable[str]) -> list[tuple[int, list[float]]]:
    """Return what iteration yields."""
    return list(enumerate(vectors_of(texts)))


def client_of(server: RawServer, **settings: Any) -> EmbeddingClient:
    """Return a client that reads `CHUNK` texts at once, unless told otherwise."""
    return EmbeddingClient(**settings_for(server.url, **({"max_concurrency": 2} | settings)))


def after(count: int, action: Action) -> Action:
    """Answer requests about the first `count` texts honestly, and treat the others so."""

    def act(connection: Connection, request: RawRequest) -> None:
        number = int(request.json["input"][0].rpartition(" ")[2])
        (honest if number < count else action)(connection, request)

    return act


def refuse_poison(connection: Connection, request: RawRequest) -> None:
    """Answer honestly, but not to poison."""
    bad = any("poison" in text for text in request.json["input"])
    (refuse(400, "InvalidParameter") if bad else honest)(connection, request)


# --- one way to iterate, sync or async ---


class LoopThread:
    """An event loop that runs in a thread of its own, while the test does something else."""

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stop.wait()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns that runs there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


class Awaited:
    """An async iterator, iterated in plain steps; between them its loop goes on."""

    def __init__(self, thread: LoopThread, source: AsyncIterator[Any]) -> None:
        self._thread = thread
        self._source = source

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self._thread.run(self._step(lambda: anext(self._source)))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Leave early."""
        self._thread.run(self._step(self._source.aclose))  # type: ignore[attr-defined]

    @staticmethod
    async def _step(step: Callable[[], Awaitable[Any]]) -> Any:
        return await step()


class Way:
    """How a client is used: its sync methods, or their twins in a loop that goes on all the time."""

    def __init__(self, thread: LoopThread | None) -> None:
        self._thread = thread

    def iterate(self, client: EmbeddingClient, *args: Any, **options: Any) -> Any:
        """Return `iter_embed`, or `aiter_embed` as a plain iterator with a `close`."""
        if self._thread is None:
            return client.iter_embed(*args, **options)
        return Awaited(self._thread, client.aiter_embed(*args, **options))

    def embed(self, client: EmbeddingClient, texts: list[str]) -> Any:
        """Embed at once, on the same threads or in the same loop as the streams."""
        return client.embed(texts) if self._thread is None else self._thread.run(client.aembed(texts))


@pytest.fixture(params=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """Iterate with `iter_embed` or `aiter_embed` alike."""
    if request.param == "sync":
        yield Way(None)
    else:
        with LoopThread() as thread:
            yield Way(thread)


@pytest.fixture(autouse=True, scope="module")
def nothing_left_behind() -> Iterator[None]:
    """Fail if tests leave a connection or a generator behind: that is told as a warning, which is an error here."""
    yield
    gc.collect()


# --- what comes out ---


@pytest.mark.parametrize("count", [0, 1, 32, CHUNK, CHUNK + 1, 500])
def test_pairs_come_in_order(count: int, way: Way) -> None:
    """Each text's vector comes with its index, in the order of the texts, whatever number there are."""
    with RawServer() as server, client_of(server) as client:
        assert list(way.iterate(client, texts_of(count))) == pairs_of(texts_of(count))
        assert len(server.requests) == math.ceil(count / 32)
        assert client.usage.texts == count


@pytest.mark.parametrize("batch", [1, 7, 32, CHUNK, 100, 1000])
def test_arrays_come_in_order(batch: int, way: Way) -> None:
    """With `batch` come float32 arrays of so many rows, the last one shorter."""
    with RawServer() as server, client_of(server) as client:
        arrays = list(way.iterate(client, texts_of(205), batch=batch))
    assert [len(rows) for rows in arrays] == [min(batch, 205 - at) for at in range(0, 205, batch)]
    assert {rows.dtype for rows in arrays} == {np.dtype(np.float32)}
    assert np.concatenate(arrays).tolist() == vectors_of(texts_of(205))


@pytest.mark.parametrize("batch", [8, 33])
def test_the_size_of_arrays_is_not_that_of_requests(batch: int, way: Way) -> None:
    """Requests are full, since the quota counts them, whatever number of rows the consumer wants at a time."""
    with RawServer() as server, client_of(server) as client:
        list(way.iterate(client, texts_of(8 * 33), batch=batch))
        assert len(server.requests) <= math.ceil(8 * 33 / 32) + 1


def test_replies_that_overtake_each_other_are_sorted(way: Way) -> None:
    """Order holds when the earliest requests are answered last."""
    released = threading.Event()

    def early_ones_late(connection: Connection, request: RawRequest) -> None:
        if request.json["input"][0] == "text 0":
            released.wait(10)
        elif request.json["input"][0] == "text 96":
            released.set()
        honest(connection, request)

    with RawServer(default=early_ones_late) as server, client_of(server) as client:
        assert list(way.iterate(client, texts_of(300))) == pairs_of(texts_of(300))


@pytest.mark.parametrize("batch", [None, 50])
def test_no_texts_need_no_request(batch: int | None, way: Way) -> None:
    """An empty corpus, a list or a generator, yields nothing and sends nothing."""
    with RawServer() as server, client_of(server) as client:
        assert list(way.iterate(client, [], batch=batch)) == []
        assert list(way.iterate(client, (text for text in ()), batch=batch)) == []
        assert server.requests == []


def test_the_role_is_sent(way: Way) -> None:
    """`input_type` reaches the service with every request."""
    with RawServer() as server, client_of(server) as client:
        found = list(way.iterate(client, texts_of(100), "query"))
    assert [numbers for _, numbers in found] == vectors_of(texts_of(100), "query")


@pytest.mark.parametrize(
    "make", [tuple, iter, lambda texts: dict.fromkeys(texts).keys(), lambda texts: (text for text in texts)]
)
def test_any_iterable_is_a_corpus(make: Callable[[list[str]], Any], way: Way) -> None:
    """Sequences, iterators, dictionaries and generators of texts are read alike."""
    with RawServer() as server, client_of(server) as client:
        assert list(way.iterate(client, make(texts_of(150)))) == pairs_of(texts_of(150))


async def test_an_async_iterable_is_a_corpus() -> None:
    """`aiter_embed` reads an async generator, one that waits between texts too."""

    async def read() -> AsyncIterator[str]:
        for text in texts_of(150):
            await asyncio.sleep(0)
            yield text

    with RawServer() as server:
        async with client_of(server) as client:
            assert [pair async for pair in client.aiter_embed(read())] == pairs_of(texts_of(150))
            arrays = [rows async for rows in client.aiter_embed(read(), batch=40)]
    assert np.concatenate(arrays).tolist() == vectors_of(texts_of(150))


def test_an_endless_corpus_can_be_read(way: Way) -> None:
    """What has no end is embedded as far as the consumer goes."""
    with RawServer() as server, client_of(server) as client:
        stream = way.iterate(client, (f"text {number}" for number in itertools.count()))
        assert list(itertools.islice(stream, 200)) == pairs_of(texts_of(200))
        stream.close()


def test_repeated_texts_get_vectors_of_their_own(way: Way) -> None:
    """A text that occurs again within a chunk is sent once, and changing one vector changes no other."""
    with RawServer() as server, client_of(server) as client:
        found = [numbers for _, numbers in way.iterate(client, ["same"] * 40)]
        assert found == vectors_of(["same"]) * 40
        assert len(set(map(id, found))) == 40
        assert [request.json["input"] for request in server.requests] == [["same"]]


def test_an_empty_text_may_be_zero(way: Way) -> None:
    """With `empty="zero"` an empty text gets zeros in its place, without being sent."""
    texts = texts_of(150)
    texts[3] = texts[100] = ""
    expected = [vector(text) if text else [0.0] * DIMENSION for text in texts]
    with RawServer() as server, client_of(server, empty="zero") as client:
        assert list(way.iterate(client, texts)) == list(enumerate(expected))
        assert np.concatenate(list(way.iterate(client, texts, batch=30))).tolist() == expected
        assert client.usage.texts == 2 * 148


def test_passing_faults_are_mended(way: Way) -> None:
    """Requests that fail for a moment are sent again, and order holds."""
    faults = [refuse(500, "InternalServerError", Retry_After="0")] * 5
    with RawServer(*faults) as server, client_of(server) as client:
        assert list(way.iterate(client, texts_of(300))) == pairs_of(texts_of(300))
        assert client.usage.retries == 5


def test_two_streams_take_turns(way: Way) -> None:
    """Two streams of one client that are read in step do not disturb each other."""
    with RawServer() as server, client_of(server) as client:
        together = zip(
            way.iterate(client, texts_of(200)), way.iterate(client, texts_of(200), "query"), strict=True
        )  # fmt: skip
        for number, (document, query) in enumerate(together):
            assert document == (number, vector(f"text {number}"))
            assert query == (number, vector(f"text {number}", "query"))


def test_threads_read_streams_of_one_client(way: Way) -> None:
    """Streams in several threads each get what is theirs."""

    def read(job: int) -> bool:
        texts = [f"job {job}, text {number}" for number in range(200)]
        return list(way.iterate(client, texts)) == pairs_of(texts)

    with RawServer() as server, client_of(server) as client, ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read, range(8)))


def test_a_cache_serves_a_stream(way: Way, tmp_path: Any) -> None:
    """What an earlier stream has written to a cache is not sent again by a later one."""
    with RawServer() as server, client_of(server, cache=tmp_path / "cache.sqlite") as client:
        list(way.iterate(client, texts_of(100)))
        assert list(way.iterate(client, texts_of(150))) == pairs_of(texts_of(150))
        sent = [text for request in server.requests for text in request.json["input"]]
        assert sorted(sent) == sorted(texts_of(150))
        assert client.usage.cached == 100


# --- pace ---


def test_every_connection_is_busy_all_the_time(way: Way) -> None:
    """From the first request to the last, as many are under way as may be: none is answered before all are there."""
    together = threading.Barrier(4, timeout=10)

    def answer_in_fours(connection: Connection, request: RawRequest) -> None:
        together.wait()
        honest(connection, request)

    with RawServer(default=answer_in_fours) as server, client_of(server, max_concurrency=4) as client:
        assert list(way.iterate(client, texts_of(32 * 24))) == pairs_of(texts_of(32 * 24))


@pytest.mark.parametrize("batch", [None, 32, 100, 1000])
def test_arrays_of_any_size_keep_connections_busy(batch: int | None, way: Way) -> None:
    """Whatever the size of the arrays, `max_concurrency` requests are under way at once, and no more."""
    with Emulator(latency_ms=80) as emulator:
        settings = {"endpoint": emulator.url, "api_key": emulator.api_key, "qps": None, "max_concurrency": 6}
        with EmbeddingClient(**settings) as client:
            assert len(list(way.iterate(client, texts_of(600), batch=batch))) == math.ceil(600 / (batch or 1))
        assert emulator.max_in_flight == 6


def test_nothing_happens_before_the_first_vector_is_asked_for(way: Way) -> None:
    """Making a stream reads no text and sends no request."""
    source = iter(texts_of(10))
    with RawServer() as server, client_of(server) as client:
        stream = way.iterate(client, source)
        way.embed(client, ["other"])
        assert len(server.requests) == 1
        assert next(source) == "text 0"
        stream.close()


@pytest.mark.parametrize("batch", [None, 10, CHUNK])
def test_a_slow_consumer_holds_the_stream_back(batch: int | None, way: Way) -> None:
    """While the consumer works on what it has, work goes on ahead of it, but not far, and stands still then."""
    read = itertools.count()
    source = (f"text {next(read)}" for _ in range(100 * CHUNK))
    with RawServer() as server, client_of(server) as client:
        stream = way.iterate(client, source, batch=batch)
        next(stream)
        server.wait_for_requests(3)  # unasked for
        # Threads and loops do first what was asked for first: now all is sent that would be.
        for _ in range(3):
            way.embed(client, ["other"])
        sent = sum(len(request.json["input"]) for request in server.requests) - 3
        assert next(read) <= 3 * CHUNK
        assert CHUNK < sent <= 3 * CHUNK
        for _ in itertools.islice(stream, CHUNK):
            pass
        stream.close()


def test_taken_arrays_are_let_go() -> None:
    """What the consumer has taken and dropped takes no memory."""
    taken: list[weakref.ref[Any]] = []
    with RawServer() as server, client_of(server) as client:
        for rows in client.iter_embed(texts_of(1000), batch=50):
            taken.append(weakref.ref(rows if rows.base is None else rows.base))
            assert sum(array() is not None for array in taken) <= 4
    assert len(taken) == 20


# --- leaving early ---


@pytest.mark.parametrize("batch", [None, 20])
def test_a_stream_can_be_left(batch: int | None, way: Way) -> None:
    """After an early end no further text is read, hardly a request is sent, and the client works."""
    source = iter(texts_of(10_000))
    with RawServer() as server, client_of(server) as client:
        stream = way.iterate(client, source, batch=batch)
        next(stream)
        stream.close()
        number = int(next(source).removeprefix("text "))
        assert number <= 3 * CHUNK
        for _ in range(3):
            assert way.embed(client, ["other"]) == vectors_of(["other"])
        assert next(source) == f"text {number + 1}"  # nobody else reads
        assert list(way.iterate(client, texts_of(100))) == pairs_of(texts_of(100))
        assert sum(len(request.json["input"]) for request in server.requests) <= 3 * CHUNK + 3 + 100


def test_a_stream_that_was_never_read_can_be_left(way: Way) -> None:
    """Closing a stream that has not begun does nothing."""
    with RawServer() as server, client_of(server) as client:
        way.iterate(client, texts_of(100)).close()
        assert server.requests == []


def test_leaving_does_not_wait_for_a_hanging_request(way: Way) -> None:
    """An early end comes at once, though requests are under way; if they fail, they are not tried again."""
    released = threading.Event()

    def slow(connection: Connection, request: RawRequest) -> None:
        released.wait(20)
        refuse(500, "InternalServerError", Retry_After="0")(connection, request)

    with RawServer(default=after(CHUNK, slow)) as server, client_of(server) as client:
        stream = way.iterate(client, texts_of(1000))
        next(stream)
        server.wait_for_requests(4)
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < PROMPT
        released.set()
        assert way.embed(client, ["text 0"]) == vectors_of(["text 0"])
        assert len(server.requests) == 5


async def test_an_async_stream_that_is_closed_leaves_no_task() -> None:
    """When `aclose` returns, every task of the stream has ended, and the corpus's own generator is closed."""
    closed = []

    async def read() -> AsyncIterator[str]:
        try:
            for text in texts_of(1000):
                yield text
        finally:
            closed.append(True)

    with RawServer(default=after(CHUNK, hang)) as server:
        async with client_of(server) as client:
            for options in ({}, {"batch": 16}):
                stream = client.aiter_embed(read(), **options)
                await anext(stream)
                await asyncio.to_thread(server.wait_for_requests, 3)
                await stream.aclose()
                assert asyncio.all_tasks() == {asyncio.current_task()}
                assert closed.pop()
                server.requests.clear()


async def test_an_async_stream_that_is_cancelled_ends_at_once() -> None:
    """A consumer with a time limit is not held up by requests that hang, and nothing is left behind."""
    taken = []

    async def consume() -> None:
        async for index, _ in client.aiter_embed(texts_of(1000)):
            taken.append(index)

    with RawServer(default=after(CHUNK, hang)) as server:
        async with client_of(server) as client:
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(consume(), 0.5)
            assert time.monotonic() - start < PROMPT
            assert taken == list(range(CHUNK))
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert await client.aembed(["text 0"]) == vectors_of(["text 0"])


INTERRUPTED = {
    "waiting": """
        try:
            for index, _ in client.iter_embed(many):
                pass
        except KeyboardInterrupt as error:
            if sorted([*error.completed, *error.pending]) == list(range(index + 1, 3 * 128)):
                print("stopped")
    """,
    "reading": """
        import time
        def read():
            yield from many[:256]
            time.sleep(60)
        try:
            for _ in client.iter_embed(read()):
                pass
        except KeyboardInterrupt:
            print("stopped")
    """,
    "consuming": """
        import time
        try:
            for index, _ in client.iter_embed(many):
                if index == 127:
                    time.sleep(60)
        except KeyboardInterrupt:
            print("stopped")
    """,
}


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be sent Ctrl-C alone")
@pytest.mark.parametrize(("moment", "requests"), [("waiting", 11), ("reading", 8), ("consuming", 8)])
def test_ctrl_c_stops_a_stream(moment: str, requests: int) -> None:
    """Ctrl-C ends a stream and its process at once, whoever is working, though requests hang."""
    # The client there has four connections, so a chunk is 128 texts: the last request of the second one hangs.
    server = RawServer(default=after(224, hang))
    assert interrupt(server, INTERRUPTED[moment], requests=requests) == ("stopped\n", "")


# --- what is refused at once ---


@pytest.mark.parametrize("texts", ["tea", b"tea", 5, None])
def test_what_is_no_corpus_is_refused(texts: Any, way: Way) -> None:
    """A bare string, or what cannot be iterated, is an error when the stream is made."""
    with RawServer() as server, client_of(server) as client:
        with pytest.raises(InputError):
            way.iterate(client, texts)
        assert server.requests == []


def test_an_async_corpus_needs_the_async_method() -> None:
    """`iter_embed` refuses an async iterable, and names the method that takes it."""

    async def read() -> AsyncIterator[str]:
        yield "text 0"

    with RawServer() as server, client_of(server) as client, pytest.raises(InputError, match="aiter_embed"):
        client.iter_embed(read())  # type: ignore[call-overload]


@pytest.mark.parametrize("batch", [0, -1, 2.5, True, "8"])
def test_a_bad_batch_is_refused(batch: Any, way: Way) -> None:
    """`batch` is a whole number from 1; anything else is an error when the stream is made."""
    with RawServer() as server, client_of(server) as client:
        with pytest.raises(ConfigurationError, match="batch"):
            way.iterate(client, texts_of(3), batch=batch)
        assert server.requests == []


def test_a_bad_role_is_refused(way: Way) -> None:
    """An unknown `input_type` is an error when the stream is made."""
    with RawServer() as server, client_of(server) as client, pytest.raises(InputError, match="input_type"):
        way.iterate(client, texts_of(3), "passage")


# --- errors on the way ---


def read_until_error(stream: Iterator[Any], kind: type[BaseException]) -> tuple[list[Any], Any]:
    """Return what a stream yields before its error, and the error."""
    taken: list[Any] = []
    with pytest.raises(kind) as caught:
        taken.extend(stream)  # which keeps what came before an error
    return taken, caught.value


def check_account(error: OpenSearchEmbedError, texts: list[str], taken: int, read: int) -> None:
    """Check that an error accounts for all texts that were read and not yielded, with right vectors."""
    assert sorted([*error.completed, *error.pending]) == list(range(taken, read))
    assert {index: list(numbers) for index, numbers in error.completed.items()} == {
        index: vector(texts[index]) for index in error.completed
    }


@pytest.mark.parametrize("batch", [None, 10, CHUNK, 100, 1000])
@pytest.mark.parametrize(
    ("action", "kind"),
    [(refuse(400, "InvalidParameter"), InvalidRequest), (refuse(401, "Unauthorized"), AuthenticationError)],
    ids=["400", "401"],
)
def test_an_error_counts_in_the_corpus(
    action: Action, kind: type[OpenSearchEmbedError], batch: int | None, way: Way
) -> None:
    """What came before an error is yielded, or on it: it accounts for every text that was read and not yielded."""
    texts, read = texts_of(1000), itertools.count()
    source = (texts[next(read)] for _ in texts)
    with RawServer(default=after(2 * CHUNK + 32, action)) as server, client_of(server) as client:
        items, error = read_until_error(way.iterate(client, source, batch=batch), kind)
        taken = len(items) if batch is None else sum(map(len, items))
        assert taken <= 2 * CHUNK
        check_account(error, texts, taken, next(read))
        assert set(range(taken, 2 * CHUNK + 32)) <= set(error.completed)
        assert way.embed(client, ["text 0"]) == vectors_of(["text 0"])


def test_a_refusal_names_its_texts_by_their_place_in_the_corpus(way: Way) -> None:
    """`indices`, and the message, of a refused request count in the corpus."""
    texts = texts_of(300)
    texts[CHUNK + 40] = "poison"
    with RawServer(default=refuse_poison) as server, client_of(server) as client:
        taken, error = read_until_error(way.iterate(client, texts), InvalidRequest)
    assert taken == pairs_of(texts_of(CHUNK))
    assert error.indices == list(range(CHUNK + 32, CHUNK + 64))
    assert f"texts[{CHUNK + 32}] to texts[{CHUNK + 63}]" in str(error)


@pytest.mark.parametrize("bad", ["", 5, "\ud800"], ids=["empty", "not a text", "surrogate"])
def test_a_bad_text_is_named_by_its_place_in_the_corpus(bad: Any, way: Way) -> None:
    """A text that cannot be sent is found when it is read; `index`, `completed` and `pending` count in the corpus."""
    texts: list[Any] = texts_of(1000)
    texts[300] = bad
    with RawServer() as server, client_of(server) as client:
        taken, error = read_until_error(way.iterate(client, texts), InputError)
        assert error.index == 300
        assert "texts[300]" in str(error)
        assert taken == pairs_of(texts[: len(taken)])
        check_account(error, texts, len(taken), 5 * CHUNK)
        assert set(range(256, 320)) <= set(error.pending)


def test_an_error_of_the_corpus_is_raised_as_it_is(way: Way) -> None:
    """When the texts' own generator fails, its error is raised, and the client works on."""

    def read() -> Iterator[str]:
        yield from texts_of(300)
        raise LookupError("no more")

    with RawServer() as server, client_of(server) as client:
        taken, _ = read_until_error(way.iterate(client, read()), LookupError)
        assert taken == pairs_of(texts_of(len(taken)))
        assert way.embed(client, ["text 0"]) == vectors_of(["text 0"])


def test_an_error_of_the_corpus_loses_no_vectors(way: Way) -> None:
    """Vectors that were received when the texts' own generator fails are yielded, or on its error."""
    texts = texts_of(3 * CHUNK)

    def read() -> Iterator[str]:
        yield from texts
        raise LookupError("no more")

    with RawServer() as server, client_of(server) as client:
        stream = way.iterate(client, read())
        first = list(itertools.islice(stream, CHUNK + 1))
        while client.usage.texts < len(texts):  # received, though not asked for yet
            time.sleep(0.005)
        taken, error = read_until_error(stream, LookupError)
    yielded = [*first, *taken]
    assert yielded == pairs_of(texts[: len(yielded)])
    rest = vars(error).get("completed", {})
    assert rest == {index: vector(texts[index]) for index in range(len(yielded), len(texts))}


class FailingCache:
    """Keeps nothing, and fails when it is to keep what it is told to fail at."""

    def __init__(self, failing: str, calls: int) -> None:
        self._failing = failing
        self._calls = calls

    def get_many(self, _keys: Any) -> dict[str, Any]:
        """Have nothing."""
        self._count("get")
        return {}

    def put_many(self, _vectors: Any) -> None:
        """Keep nothing."""
        self._count("put")

    def _count(self, kind: str) -> None:
        if kind == self._failing:
            self._calls -= 1
            if not self._calls:
                raise OSError("the cache is broken")


@pytest.mark.parametrize(("failing", "calls", "at_least"), [("put", 6, 6 * 32), ("get", 4, 2 * CHUNK)])
def test_an_error_of_the_cache_loses_no_vectors(failing: str, calls: int, at_least: int, way: Way) -> None:
    """When a cache fails, its error accounts for all texts that were read and not yielded."""
    texts, read = texts_of(1000), itertools.count()
    source = (texts[next(read)] for _ in texts)
    with RawServer() as server, client_of(server, cache=FailingCache(failing, calls)) as client:
        taken, error = read_until_error(way.iterate(client, source), OSError)
        assert taken == pairs_of(texts[: len(taken)])
        check_account(error, texts, len(taken), next(read))
        # What was received before the cache failed, and what it failed to keep.
        assert len(taken) + len(error.completed) >= at_least


# --- refused texts ---


def poisoned(*places: int, count: int = 300) -> list[str]:
    """Return texts of which those at these places are refused."""
    texts = texts_of(count)
    for place in places:
        texts[place] = f"poison {place}"
    return texts


def test_skip_yields_the_error_in_place(way: Way) -> None:
    """With `on_error="skip"` a refused text has its error where its vector would be; all others have theirs."""
    texts, bad = poisoned(0, 31, 100, 299), [0, 31, 100, 299]
    with RawServer(default=refuse_poison) as server, client_of(server, on_error="skip") as client:
        found = list(way.iterate(client, texts))
        assert client.usage.refused == tuple(bad)
    assert [index for index, _ in found] == list(range(300))
    assert [index for index, item in found if isinstance(item, InvalidRequest)] == bad
    assert [item.code for _, item in found if isinstance(item, InvalidRequest)] == ["InvalidParameter"] * 4
    assert [item for index, item in found if index not in bad] == [
        vector(text) for index, text in enumerate(texts) if index not in bad
    ]


def test_skip_leaves_rows_of_nan(way: Way) -> None:
    """With `on_error="skip"` and `batch` a refused text has a row of NaN; all others have theirs."""
    texts, bad = poisoned(0, 31, 100, 299), [0, 31, 100, 299]
    with RawServer(default=refuse_poison) as server, client_of(server, on_error="skip") as client:
        rows = np.concatenate(list(way.iterate(client, texts, batch=70)))
        assert client.usage.refused == tuple(bad)
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == bad
    good = [index for index in range(300) if index not in bad]
    assert rows[good].tolist() == [vector(texts[index]) for index in good]


def test_isolate_ends_at_the_chunk_with_a_refused_text(way: Way) -> None:
    """With `on_error="isolate"` chunks before are yielded; the error names the refused texts by their places."""
    texts, read = poisoned(CHUNK + 3, CHUNK + 50), itertools.count()
    source = (texts[next(read)] for _ in texts)
    with RawServer(default=refuse_poison) as server, client_of(server, on_error="isolate") as client:
        taken, error = read_until_error(way.iterate(client, source), InvalidRequest)
        assert taken == pairs_of(texts[:CHUNK])
        assert error.indices == [CHUNK + 3, CHUNK + 50]
        assert f"texts[{CHUNK + 3}], texts[{CHUNK + 50}]" in str(error)
        assert client.usage.refused == (CHUNK + 3, CHUNK + 50)
        check_account(error, texts, CHUNK, next(read))
        assert set(range(CHUNK, 2 * CHUNK)) - set(error.completed) == {CHUNK + 3, CHUNK + 50}


# --- progress ---


def test_progress_shows_how_far_it_is(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar counts texts; of a list it knows how many there are."""
    with RawServer(default=refuse_poison) as server, client_of(server, on_error="skip", empty="zero") as client:
        list(way.iterate(client, [*poisoned(7, count=98), "", "text 3"], progress=True))
        assert "100/100" in capsys.readouterr().err
        list(way.iterate(client, iter(texts_of(100)), progress=True))
        shown = capsys.readouterr().err
        assert "100text" in shown.replace(" ", "")
        assert "100/" not in shown
        list(way.iterate(client, texts_of(10)))
        assert capsys.readouterr().err == ""
