"""Threads: none to be had; callbacks that raise what ends tasks; what one call does beside other calls."""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from interfaces import settings_for
from servers import Connection, RawRequest, RawServer, honest, refuse, vector
from test_lifecycle import run

from opensearch_embed import EmbeddingClient, InvalidRequest

TEXTS = [f"text number {number}" for number in range(300)]
VECTORS = [vector(text) for text in TEXTS]
BATCHES = 10
"""Requests that 300 texts need."""
LONG = 20.0
"""Seconds in which anything comes to its end that does so at all."""


class Gate:
    """Holds the answers to some requests back until it is opened; answers all others honestly."""

    def __init__(self, prefix: str = "") -> None:
        self.opened = threading.Event()
        self._prefix = prefix

    def __call__(self, connection: Connection, request: RawRequest) -> None:
        """Answer when the gate is open."""
        if request.json["input"][0].startswith(self._prefix):
            assert self.opened.wait(2 * LONG)
        honest(connection, request)


def times_sent(server: RawServer, prefix: str = "") -> Counter[str]:
    """How often each text was sent."""
    return Counter(text for request in server.requests for text in request.json["input"] if text.startswith(prefix))


def refuse_poison(connection: Connection, request: RawRequest) -> None:
    """Answer honestly, but not to poison."""
    (refuse(400, "InvalidParameter") if "poison" in request.json["input"] else honest)(connection, request)


# --- no more threads ---

NO_THREADS = """
import asyncio, hashlib, json, struct, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)
import numpy as np
def right(text, role="document"):
    digest = hashlib.blake2b(f"{{role}}:{{text}}".encode(), digest_size=8).digest()
    return [number / 65536 - 0.5 for number in struct.unpack("<4H", digest)]
starts = 0
def short_of_threads(start):
    def start_or_raise(*args, **kwargs):
        global starts
        starts += 1
        if starts % {every} == 0:
            raise RuntimeError("can't start new thread")
        return start(*args, **kwargs)
    return start_or_raise
for name in ("_start_new_thread", "_start_joinable_thread"):
    if hasattr(threading, name):
        setattr(threading, name, short_of_threads(getattr(threading, name)))
class Nothing:
    def get_many(self, keys): return {{}}
    def put_many(self, vectors): pass
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None, {settings})
texts = [f"text number {{number}}" for number in range(300)]
vectors = [right(text) for text in texts]
def in_loop(make):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(make())
    finally:
        loop.close()
async def stream():
    return [found async for found in client.aiter_embed(texts)]
ways = {{
    "embed": lambda: client.embed(texts),
    "embed_array": lambda: client.embed_array(texts),
    "iter_embed": lambda: [found for _, found in client.iter_embed(texts)],
    "aembed": lambda: in_loop(lambda: client.aembed(texts)),
    "aembed_array": lambda: in_loop(lambda: client.aembed_array(texts)),
    "aiter_embed": lambda: [found for _, found in in_loop(stream)],
}}
found = ways["{way}"]()
assert np.array_equal(np.array(found), np.array(vectors))
assert in_loop(lambda: client.aembed(["tea"], "query")) == client.embed(["tea"], "query") == [right("tea", "query")]
print("whole", starts > 0)
"""


@pytest.mark.parametrize("settings", ["", "cache=Nothing()"], ids=["plain", "with a cache"])
@pytest.mark.parametrize("every", [1, 2], ids=["none", "every second"])
@pytest.mark.parametrize("way", ["embed", "embed_array", "iter_embed", "aembed", "aembed_array", "aiter_embed"])
def test_a_process_that_is_short_of_threads_works(way: str, every: int, settings: str) -> None:
    """Where the system gives no thread, or only some, every vector is right, and each text is paid for once."""
    with RawServer() as server:
        process = run(server.url, NO_THREADS.format(every=every, way=way, settings=settings))
    assert process.stdout.startswith("whole"), process.stderr
    assert set(times_sent(server, "text").values()) == {1}
    assert len(times_sent(server, "text")) == 300


# --- callbacks that raise what ends tasks ---


class CancellingCache:
    """A cache whose one method raises `CancelledError` at its n-th call."""

    def __init__(self, name: str, at: int) -> None:
        self._name = name
        self._left = at
        self._lock = threading.Lock()

    def _count(self, name: str) -> None:
        with self._lock:
            self._left -= name == self._name
            if name == self._name and self._left == 0:
                raise asyncio.CancelledError

    def get_many(self, _keys: Any) -> dict[Any, Any]:
        """Find nothing."""
        self._count("get_many")
        return {}

    def put_many(self, _vectors: Any) -> None:
        """Keep nothing."""
        self._count("put_many")


class CancellingLimiter:
    """A limiter that raises `CancelledError` when it is asked for the n-th time, and else says yes."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._lock = threading.Lock()

    def _permit(self) -> bool:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                raise asyncio.CancelledError
        return True

    def try_acquire(self, *_: Any, **__: Any) -> bool:
        """Ask from a thread."""
        return self._permit()

    async def try_acquire_async(self, *_: Any, **__: Any) -> bool:
        """Ask from an event loop."""
        return self._permit()


def speaks_of_the_cancel(error: BaseException) -> bool:
    """Whether an error is what a callback raised, or says so."""
    return isinstance(error, asyncio.CancelledError) or "Cancelled" in repr(error) + repr(error.__cause__)


@pytest.mark.parametrize("method", ["embed", "embed_array"])
@pytest.mark.parametrize(("count", "at"), [(1, 1), (20, 1), (300, 1), (300, 4)])
@pytest.mark.parametrize("who", ["get_many", "put_many", "limiter"])
def test_a_callback_that_raises_cancelled_error_makes_no_holes(
    who: str, count: int, at: int, method: str, call: Callable[..., Any]
) -> None:
    """The call raises, or returns whole: never a row that nobody filled; and the client works on."""
    others = {"limiter": CancellingLimiter(at)} if who == "limiter" else {"cache": CancellingCache(who, at)}
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, **others)) as client:
        try:
            found = call(getattr(client, method), TEXTS[:count])
        except BaseException as error:  # noqa: BLE001 - whichever comes
            raised = speaks_of_the_cancel(error)
            assert raised
        else:
            assert np.array_equal(np.array(found, dtype=float), np.array(VECTORS[:count]))
        assert call(client.embed, TEXTS) == VECTORS


@pytest.mark.parametrize("who", ["get_many", "put_many", "limiter"])
def test_a_callback_that_raises_cancelled_error_makes_no_holes_in_a_stream(who: str) -> None:
    """What a stream yields before it raises is right, and what it does not yield it does not pretend to have."""
    others = {"limiter": CancellingLimiter(3)} if who == "limiter" else {"cache": CancellingCache(who, 2)}
    found: list[tuple[int, Any]] = []
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, **others)) as client:
        try:
            found.extend(client.iter_embed(TEXTS * 20))
        except BaseException as error:  # noqa: BLE001 - whichever comes
            raised = speaks_of_the_cancel(error)
            assert raised
        else:
            assert len(found) == 6000
        assert found == [(index, VECTORS[index % 300]) for index in range(len(found))]
        assert client.embed(TEXTS) == VECTORS


# --- closing ---


@pytest.mark.parametrize("method", ["embed", "embed_array", "iter_embed"])
def test_closing_does_not_wait_for_a_thread_that_embeds(method: str, call: Callable[..., Any]) -> None:
    """`close` and `aclose` return while the server holds all answers; the job then ends whole, nothing sent twice."""

    def job() -> list[list[float]]:
        if method == "iter_embed":
            return [found for _, found in client.iter_embed(TEXTS)]
        return [list(found) for found in getattr(client, method)(TEXTS)]

    gate = Gate()
    with RawServer(default=gate) as server, ThreadPoolExecutor(2) as threads:
        client = EmbeddingClient(**settings_for(server.url))
        running = threads.submit(job)
        server.wait_for_requests(BATCHES)
        # Were it to wait for the job, it would do so until the gate's patience, which is longer, is over.
        threads.submit(call, client.close).result(LONG)
        assert not running.done()
        gate.opened.set()
        assert running.result(LONG) == VECTORS
        assert call(client.embed, TEXTS[:3]) == VECTORS[:3]
        client.close()
    assert set(times_sent(server).values()) <= {1, 2}
    assert len(server.requests) == BATCHES + 1


async def test_aclose_does_not_stop_the_loop_while_a_thread_embeds() -> None:
    """Other tasks run between the beginning and the end of `aclose`, and it ends before the thread's answers come."""
    gate = Gate()
    with RawServer(default=gate) as server, ThreadPoolExecutor(1) as threads:
        client = EmbeddingClient(**settings_for(server.url))
        running = threads.submit(client.embed, TEXTS)
        await asyncio.to_thread(server.wait_for_requests, BATCHES)
        await asyncio.wait_for(client.aclose(), LONG)
        assert not running.done()
        gate.opened.set()
        assert await asyncio.wrap_future(running) == VECTORS
    assert set(times_sent(server).values()) == {1}


# --- what ends, ends alone ---


def leave_sync(client: EmbeddingClient, how: str) -> None:
    """Take one vector of a long stream, and leave it."""
    stream: Any = client.iter_embed(f"other {number}" for number in range(100_000))
    assert next(stream) == (0, vector("other 0"))
    if how == "close":
        stream.close()
    elif how == "cycle":
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del cycle
    del stream
    gc.collect()


async def leave_async(client: EmbeddingClient, how: str) -> None:
    """Take one vector of a long stream, and leave it."""
    stream: Any = client.aiter_embed(f"other {number}" for number in range(100_000))
    assert await anext(stream) == (0, vector("other 0"))
    if how == "close":
        await stream.aclose()
    elif how == "cycle":
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del cycle
    del stream
    gc.collect()


@pytest.mark.parametrize("qps", [None, 200.0])
@pytest.mark.parametrize("how", ["close", "collect", "cycle"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_consumer_that_leaves_early_costs_the_others_nothing(way: str, how: str, qps: float | None) -> None:
    """While another thread's job is held at the server, a stream is left: each text of the job arrives once."""
    gate = Gate("text")
    with (
        RawServer(default=gate) as server,
        EmbeddingClient(**settings_for(server.url, qps=qps)) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        running = threads.submit(client.embed, TEXTS)
        server.wait_for_requests(BATCHES)
        if way == "sync":
            leave_sync(client, how)
        else:
            asyncio.run(leave_async(client, how))
        gate.opened.set()
        assert running.result(LONG) == VECTORS
        assert client.usage.retries == 0
    job = times_sent(server, "text")
    assert (len(job), set(job.values())) == (300, {1})
    assert sum(request.json["input"][0].startswith("text") for request in server.requests) == BATCHES
    # What the left stream had begun is not finished: 100,000 texts would be 3,125 requests.
    assert len(server.requests) < 500


def test_an_error_in_one_call_leaves_the_others_alone(call: Callable[..., Any]) -> None:
    """A 400 ends its own call; the calls of three other threads, held at the server meanwhile, send nothing again."""
    gate = Gate("text")

    def act(connection: Connection, request: RawRequest) -> None:
        (refuse(400, "InvalidParameter") if "poison" in request.json["input"] else gate)(connection, request)

    texts = [[f"text {thread} {number}" for number in range(96)] for thread in range(3)]
    with (
        RawServer(default=act) as server,
        EmbeddingClient(**settings_for(server.url)) as client,
        ThreadPoolExecutor(3) as threads,
    ):
        running = [threads.submit(client.embed, mine) for mine in texts]
        server.wait_for_requests(9)
        with pytest.raises(InvalidRequest):
            call(client.embed, [*(f"other {number}" for number in range(100)), "poison"])
        assert not any(job.done() for job in running)
        gate.opened.set()
        assert [job.result(LONG) for job in running] == [[vector(text) for text in mine] for mine in texts]
        assert client.usage.retries == 0
    assert set(times_sent(server, "text").values()) == {1}


# --- the garbage collector, at the wrong moment ---


class Littering:
    """A cache, and a counter of tokens, that leave streams in cycles and collect them, in whatever thread they run."""

    def __init__(self) -> None:
        self.client: EmbeddingClient | None = None
        self.calls = 0

    def litter(self) -> None:
        """Leave a stream that is under way in a cycle, and let the collector find it at once."""
        self.calls += 1
        assert self.client is not None
        if self.calls % 3 == 1 and self.calls < 40:
            cycle: list[Any] = [self.client.iter_embed(f"other {number}" for number in range(5000))]
            next(cycle[0])
            cycle.append(cycle)
            del cycle
        gc.collect()

    def get_many(self, _keys: Any) -> dict[Any, Any]:
        """Find nothing, after some littering."""
        self.litter()
        return {}

    def put_many(self, _vectors: Any) -> None:
        """Keep nothing, after some littering."""
        self.litter()

    def __call__(self, text: str) -> int:
        """Count tokens, and now and then litter."""
        if text.endswith("00"):
            self.litter()
        return len(text)


@pytest.mark.parametrize("where", ["cache", "length_function"])
def test_streams_that_are_collected_in_a_callback_harm_nobody(where: str, call: Callable[..., Any]) -> None:
    """Abandoned streams of a client end in another call's callback, on whatever thread that runs: no deadlock."""
    littering = Littering()
    with (
        RawServer() as server,
        EmbeddingClient(**settings_for(server.url, qps=2000.0)) as left,
        EmbeddingClient(**settings_for(server.url, qps=2000.0, **{where: littering})) as client,
        ThreadPoolExecutor(3) as threads,
    ):
        littering.client = left
        running = [threads.submit(call, client.embed, TEXTS) for _ in range(3)]
        assert [job.result(3 * LONG) for job in running] == [VECTORS] * 3
        assert call(left.embed, TEXTS) == VECTORS


def test_a_stream_of_the_same_client_is_collected_by_another_thread() -> None:
    """Streams that one thread leaves in cycles are collected by others, also in the middle of their calls."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            gc.collect()

    with (
        RawServer() as server,
        EmbeddingClient(**settings_for(server.url, qps=1000.0)) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        collecting = threads.submit(collect)
        try:
            for number in range(6):
                cycle: list[Any] = [client.iter_embed(f"other {number} {at}" for at in range(3000))]
                next(cycle[0])
                cycle.append(cycle)
                del cycle
                assert threads.submit(client.embed, TEXTS[:64]).result(LONG) == VECTORS[:64]
        finally:
            stop.set()
        collecting.result(LONG)
        assert client.embed(TEXTS) == VECTORS


async def test_an_async_stream_is_collected_by_another_thread() -> None:
    """An abandoned `aiter_embed` that a thread's collector finds ends, and its loop's calls go on."""

    def left() -> Iterator[str]:
        for number in range(100_000):
            yield f"other {number}"

    with RawServer() as server:
        client = EmbeddingClient(**settings_for(server.url, qps=1000.0))
        for _ in range(5):
            cycle: list[Any] = [client.aiter_embed(left())]
            await anext(cycle[0])
            cycle.append(cycle)
            del cycle
            await asyncio.to_thread(gc.collect)
            assert await asyncio.wait_for(client.aembed(TEXTS[:64]), LONG) == VECTORS[:64]
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=LONG)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await asyncio.wait_for(client.aembed(TEXTS), LONG) == VECTORS
        await client.aclose()
    assert len(server.requests) < 1500
