"""Whose turn it is, seen from outside: queries, documents, jobs beside jobs, shared requests, outages."""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from interfaces import settings_for
from servers import Connection, RawRequest, RawServer, honest, refuse, vector
from test_alive_threads import LONG, Gate, refuse_poison

from opensearch_embed import EmbeddingClient, InvalidRequest
from opensearch_embed.emulator import Emulator

LATENCY_SECONDS = 0.1
ROUNDS = 3
"""Times that latencies are measured, at most: this machine has other things to do, and one calm round will do."""


def after_the_latency(connection: Connection, request: RawRequest) -> None:
    """Answer as late as the service does."""
    connection.server.stopping.wait(LATENCY_SECONDS)
    honest(connection, request)


def batches(prefix: str, count: int) -> list[str]:
    """Return the texts of so many full requests."""
    return [f"{prefix} {number}" for number in range(32 * count)]


def requests_of(server: RawServer, prefix: str) -> int:
    """Count the requests that begin with such a text."""
    return sum(request.json["input"][0].startswith(prefix) for request in list(server.requests))


# --- queries first ---


@contextmanager
def busy(client: EmbeddingClient, server: RawServer) -> Iterator[None]:
    """Keep the quota busy with a job, in a thread."""
    left = threading.Event()

    def texts() -> Iterator[str]:
        number = 0
        while not left.is_set():
            number += 1
            yield f"text {number}"

    def consume() -> None:
        for _ in client.iter_embed(texts()):
            if left.is_set():
                break

    before = len(server.requests)
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(consume)
        try:
            server.wait_for_requests(before + 25)
            yield
        finally:
            left.set()
        job.result(2 * LONG)


def latencies(client: EmbeddingClient, way: str, count: int, seconds: float) -> list[float]:
    """Ask so many questions, one every so many seconds, and return how long each took."""

    def ask(number: int) -> float:
        begun = time.perf_counter()
        question = f"question {number} {begun}"
        assert client.embed([question], "query") == [vector(question, "query")]
        return time.perf_counter() - begun

    async def aask(number: int) -> float:
        begun = time.perf_counter()
        question = f"question {number} {begun}"
        assert await client.aembed([question], "query") == [vector(question, "query")]
        return time.perf_counter() - begun

    async def ask_all() -> list[float]:
        found = []
        for number in range(count):
            found.append(await aask(number))
            await asyncio.sleep(max(0.0, seconds - found[-1]))
        return found

    if way == "async":
        return asyncio.run(ask_all())
    found = []
    for number in range(count):
        found.append(ask(number))
        time.sleep(max(0.0, seconds - found[-1]))  # questions come now and then: that is what is measured
    return found


@pytest.mark.parametrize("way", ["sync", "other client", "async"])
def test_a_query_beside_a_job_takes_little_longer_than_alone(way: str) -> None:
    """While a job fills the quota, a question takes some ten milliseconds longer than without it, not a second."""
    with RawServer(default=after_the_latency) as server:
        settings = settings_for(server.url, qps=50.0)
        with EmbeddingClient(**settings) as bulk, EmbeddingClient(**settings) as other:
            asking = other if way == "other client" else bulk
            measured = []
            for _ in range(ROUNDS):
                alone = latencies(asking, way, 8, 0.0)[2:]
                with busy(bulk, server):
                    beside = latencies(asking, way, 20, 0.2)
                median = statistics.median(beside) - statistics.median(alone)
                worst = max(beside) - statistics.median(alone)
                measured.append((round(median, 3), round(worst, 3)))
                if median <= 0.04 and worst <= 0.12:
                    return
    pytest.fail(f"longer than alone by, at the median and at most, in seconds: {measured}")


# --- documents, and jobs beside jobs ---


def test_documents_keep_turns_under_a_flood_of_queries(call: Callable[..., Any]) -> None:
    """Beside 400 full requests of queries, 20 of documents end after some 80 turns, not after all."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, qps=200.0)) as client:
        queries, documents = batches("query", 400), batches("text", 20)
        with ThreadPoolExecutor(1) as thread:
            flood = thread.submit(call, client.embed, queries, "query")
            server.wait_for_requests(5)
            before = requests_of(server, "query")
            assert call(client.embed, documents) == [vector(text) for text in documents]
            meanwhile = requests_of(server, "query") - before
            assert not flood.done()
            # Three queries a document are 60.
            assert meanwhile <= 120
            assert flood.result(LONG) == [vector(text, "query") for text in queries]


@pytest.mark.parametrize("other", [False, True], ids=["same client", "other client"])
def test_a_short_job_does_not_wait_for_a_long_one(other: bool, call: Callable[..., Any]) -> None:
    """A job of 20 requests, begun after one of 400, is over when the long one has most of its requests to make yet."""
    with RawServer() as server:
        settings = settings_for(server.url, qps=200.0)
        with EmbeddingClient(**settings) as one, EmbeddingClient(**settings) as two, ThreadPoolExecutor(1) as thread:
            long, short = batches("long", 400), batches("short", 20)
            running = thread.submit(call, one.embed_array, long)
            server.wait_for_requests(5)
            assert call((two if other else one).embed, short) == [vector(text) for text in short]
            assert requests_of(server, "long") < 100
            assert not running.done()
            assert len(running.result(LONG)) == len(long)
    assert requests_of(server, "short") == 20


# --- shared requests ---

FAR_FEWER = 80
"""Requests for 320 questions: 10 to 15 where the threads get to run, more where the machine keeps them waiting."""


def all_at_once(client: EmbeddingClient, way: str, asked: list[str]) -> list[Any]:
    """Ask each question in a call of its own, all at once, from one loop or from 64 threads; return what each got."""

    async def gather() -> list[Any]:
        return await asyncio.gather(*(client.aembed([text], "query") for text in asked), return_exceptions=True)

    def ask(text: str) -> Any:
        try:
            return client.embed([text], "query")
        except Exception as error:  # noqa: BLE001 - looked at by the test
            return error

    if way == "async":
        return asyncio.run(gather())
    with ThreadPoolExecutor(64) as threads:
        return list(threads.map(ask, asked))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_many_small_calls_share_requests(way: str) -> None:
    """320 questions at 20 requests a second: some 10 or 15 requests, every vector right, every list its own."""
    asked = [f"question {number % 300}" for number in range(320)]
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, qps=20.0)) as client:
        found = all_at_once(client, way, asked)
    assert found == [[vector(text, "query")] for text in asked]
    assert len({id(lists) for lists in found}) == 320
    assert len({id(lists[0]) for lists in found}) == 320
    assert len(server.requests) < FAR_FEWER


@pytest.mark.parametrize("way", ["sync", "async"])
def test_many_small_calls_share_requests_of_the_emulator(way: str) -> None:
    """The emulator, which checks every request as the service does, is content with shared ones, and so are callers."""
    asked = [f"question {number}" for number in range(320)]
    with Emulator(vectors="lexical", qps=None) as emulator:
        settings: dict[str, Any] = {"endpoint": emulator.url, "api_key": emulator.api_key}
        with EmbeddingClient(**settings, qps=20.0) as client:
            found = all_at_once(client, way, asked)
        shared = len(emulator.requests)
        with EmbeddingClient(**settings, qps=None) as apart:
            right = apart.embed(asked, "query")
    assert [vectors for [vectors] in found] == right
    assert shared < FAR_FEWER


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_text_that_is_refused_is_its_own_callers_trouble(way: str) -> None:
    """Of 100 callers that share requests one has a text that is refused; all others get their vectors."""
    asked = [f"question {number}" for number in range(100)]
    asked[41] = "poison"
    with RawServer(default=refuse_poison) as server, EmbeddingClient(**settings_for(server.url, qps=50.0)) as client:
        found = all_at_once(client, way, asked)
    refused = found[41]
    assert isinstance(refused, InvalidRequest)
    assert (refused.indices, refused.completed, refused.pending) == ([0], {}, [0])
    assert found[:41] + found[42:] == [[vector(text, "query")] for text in asked if text != "poison"]


@pytest.mark.parametrize("at", [0, 3, 40, 99])
@pytest.mark.parametrize("when", ["waiting", "under way"])
async def test_a_caller_that_leaves_a_shared_request_disturbs_nobody(at: int, when: str) -> None:
    """One caller is cancelled, the one that sends for all or one that rides along, before or after it is sent."""
    asked = [f"question {number}" for number in range(100)]
    gate = Gate()
    with RawServer(default=gate) as server:
        client = EmbeddingClient(**settings_for(server.url, qps=20.0))
        tasks = [asyncio.create_task(client.aembed([text], "query")) for text in asked]
        if when == "waiting":
            await asyncio.sleep(0)
        else:
            await asyncio.to_thread(server.wait_for_requests, 4)
        tasks[at].cancel()
        gate.opened.set()
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), LONG)
        assert isinstance(found[at], asyncio.CancelledError)
        assert found[:at] + found[at + 1 :] == [[vector(text, "query")] for text in asked if text != asked[at]]
        await client.aclose()
    assert len(server.requests) <= 25


@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_same_text_is_sent_hardly_more_than_once(way: str) -> None:
    """64 callers ask the same while it is under way: one request, or a few if some come late."""

    def much_later(connection: Connection, request: RawRequest) -> None:
        server.stopping.wait(0.7)
        honest(connection, request)

    with RawServer(default=much_later) as server, EmbeddingClient(**settings_for(server.url, qps=50.0)) as client:
        found = all_at_once(client, way, ["tea"] * 64)
        assert found == [[vector("tea", "query")]] * 64
        assert len({id(lists[0]) for lists in found}) == 64
        assert 1 <= len(server.requests) <= 8


# --- outages ---


def test_an_outage_is_left_in_peace_and_survived(call: Callable[..., Any]) -> None:
    """Three seconds of 503 in mid-job: some requests to notice it, then two a second; after it all is well at once."""
    down = threading.Event()
    arrived: list[float] = []

    def act(connection: Connection, request: RawRequest) -> None:
        if len(server.requests) == 20 and not timer.is_alive() and not down.is_set():
            down.set()
            timer.start()
        if down.is_set():
            arrived.append(time.monotonic())
            refuse(503)(connection, request)
        else:
            honest(connection, request)

    timer = threading.Timer(3.0, down.clear)
    texts = batches("text", 60)
    with (
        RawServer(default=act) as server,
        EmbeddingClient(**settings_for(server.url, qps=100.0, max_attempts=4)) as client,
    ):
        assert call(client.embed, texts) == [vector(text) for text in texts]
        ended = time.monotonic()
        timer.join()
    first_second = sum(at < arrived[0] + 1 for at in arrived)
    later = len(arrived) - first_second
    assert 1 <= first_second <= 25
    assert later <= 6
    # It was down for three seconds, and there are some forty requests left: half a second.
    assert ended - arrived[0] < 3 + 5
