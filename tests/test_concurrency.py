"""Many threads, many event loops, cancellation: one client serves them all, and keeps its bounds."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from interfaces import settings_for
from servers import HOST, Connection, RawRequest, RawServer, hang, honest, refuse, vector

from opensearch_embed import EmbeddingClient, InvalidRequest, OpenSearchEmbedError
from opensearch_embed.emulator import Emulator


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a connection behind: that is told as a warning, which is an error here."""
    yield
    gc.collect()


def texts_of(job: int, count: int = 70) -> list[str]:
    """Return texts that no other job has."""
    return [f"job {job}, text number {number}" for number in range(count)]


def vectors_of(job: int, role: str = "document", count: int = 70) -> list[list[float]]:
    """Return the right vectors of a job."""
    return [vector(text, role) for text in texts_of(job, count)]


def test_sixteen_threads_share_one_client() -> None:
    """Each of 16 threads gets its own vectors, in its role, over a flaky server; usage adds up."""
    roles = ["document", "query"]
    faults = [refuse(500, "InternalServerError", Retry_After="0")] * 10
    with RawServer(*faults) as server, EmbeddingClient(**settings_for(server.url)) as client:
        with ThreadPoolExecutor(16) as threads:
            found = list(threads.map(lambda job: client.embed(texts_of(job), roles[job % 2]), range(48)))
        assert found == [vectors_of(job, roles[job % 2]) for job in range(48)]
        assert (client.usage.texts, client.usage.requests, client.usage.retries) == (48 * 70, 48 * 3 + 10, 10)
        assert len(server.requests) == client.usage.requests


def test_one_thread_s_error_is_its_own() -> None:
    """A job that fails does not disturb those of other threads."""

    def refuse_some(connection: Connection, request: RawRequest) -> None:
        bad = any(text.startswith("job 3,") for text in request.json["input"])
        (refuse(400, "InvalidParameter") if bad else honest)(connection, request)

    def run(job: int) -> Any:
        try:
            return client.embed(texts_of(job))
        except InvalidRequest as error:
            return sorted([*error.completed, *error.pending])

    with (
        RawServer(default=refuse_some) as server,
        EmbeddingClient(**settings_for(server.url)) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        found = list(threads.map(run, range(8)))
    assert found.pop(3) == list(range(70))
    assert found == [vectors_of(job) for job in range(8) if job != 3]


def test_a_long_job_does_not_starve_a_short_one() -> None:
    """A query from another thread gets its turn while a long job is under way."""

    def slow(connection: Connection, request: RawRequest) -> None:
        connection.server.stopping.wait(0.01)
        honest(connection, request)

    with (
        RawServer(default=slow) as server,
        EmbeddingClient(**settings_for(server.url, max_concurrency=2)) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        job = threads.submit(client.embed, texts_of(0, 32 * 100))
        server.wait_for_requests(5)
        assert client.embed(["tea"], "query") == [vector("tea", "query")]
        assert not job.done()
        assert job.result() == vectors_of(0, count=32 * 100)


@pytest.mark.parametrize("bound", [1, 3])
def test_threads_share_max_concurrency(bound: int) -> None:
    """Over all threads of a client no more requests are under way than `max_concurrency`."""
    with Emulator(latency_ms=50) as emulator:
        settings = {"endpoint": emulator.url, "api_key": emulator.api_key, "qps": None, "max_concurrency": bound}
        with EmbeddingClient(**settings) as client, ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda job: client.embed(texts_of(job)), range(4)))
        assert emulator.max_in_flight == bound


@pytest.mark.parametrize("bound", [1, 3])
def test_calls_in_one_loop_share_max_concurrency(bound: int) -> None:
    """Over all calls in one event loop no more requests are under way than `max_concurrency`."""

    async def embed_all() -> None:
        await asyncio.gather(*(client.aembed(texts_of(job)) for job in range(4)))

    with Emulator(latency_ms=50) as emulator:
        settings = {"endpoint": emulator.url, "api_key": emulator.api_key, "qps": None, "max_concurrency": bound}
        with EmbeddingClient(**settings) as client:
            asyncio.run(embed_all())
        assert emulator.max_in_flight == bound


@pytest.mark.parametrize("qps", [None, 500], ids=["unlimited", "limited"])
def test_loops_in_several_threads_share_one_client(qps: float | None) -> None:
    """Event loops in different threads use one client at once, with a rate limit that they share, too."""

    async def embed_some(job: int) -> list[Any]:
        return await asyncio.gather(*(client.aembed(texts_of(10 * job + call)) for call in range(3)))

    with (
        RawServer() as server,
        EmbeddingClient(**settings_for(server.url, qps=qps)) as client,
        ThreadPoolExecutor(6) as threads,
    ):
        found = list(threads.map(lambda job: asyncio.run(embed_some(job)), range(6)))
    assert found == [[vectors_of(10 * job + call) for call in range(3)] for job in range(6)]


def test_threads_and_loops_share_a_rate_limit() -> None:
    """Sync and async calls of two clients keep one rate together, and all of them end."""

    def sync(job: int) -> Any:
        return clients[job % 2].embed(texts_of(job))

    def through_a_loop(job: int) -> Any:
        return asyncio.run(clients[job % 2].aembed(texts_of(job)))

    with RawServer() as server:
        clients = [EmbeddingClient(**settings_for(server.url, qps=60)) for _ in range(2)]
        start = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            jobs = [threads.submit((sync, through_a_loop)[job // 2 % 2], job) for job in range(16)]
            assert [job.result(30) for job in jobs] == [vectors_of(number) for number in range(16)]
        # 48 requests at 60 a second, and a burst of a few.
        assert time.monotonic() - start > 0.6
        for client in clients:
            client.close()


def test_one_loop_after_the_other_uses_one_client() -> None:
    """`asyncio.run` again and again works on one client, and leaves neither loop nor connection behind."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        for job in range(5):
            loop = asyncio.new_event_loop()
            gone = weakref.ref(loop)
            with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner:  # type: ignore[misc]
                assert runner.run(client.aembed(texts_of(job))) == vectors_of(job)
            del loop, runner
            gc.collect()
            assert gone() is None


def test_a_loop_that_was_closed_carelessly_does_not_matter() -> None:
    """A loop that ended without its generators being closed is forgotten, and the client works on."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(client.aembed(["tea"])) == [vector("tea")]
        loop.run_until_complete(client.aclose())
        assert loop.run_until_complete(client.aembed(["tea"])) == [vector("tea")]
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert asyncio.run(client.aembed(["tea"])) == [vector("tea")]


async def test_a_sync_call_inside_a_running_loop_works() -> None:
    """`embed` works where a loop runs already, as in Jupyter, and so does `aembed` next to it."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert client.embed(texts_of(1)) == vectors_of(1)
        assert await client.aembed(texts_of(2)) == vectors_of(2)
        found = await asyncio.gather(
            asyncio.to_thread(client.embed, texts_of(3)),
            client.aembed(texts_of(4)),
            client.aembed(texts_of(5), "query"),
        )
        await client.aclose()
    assert found == [vectors_of(3), vectors_of(4), vectors_of(5, "query")]


# --- cancellation ---


def others() -> set["asyncio.Task[Any]"]:
    """Return the tasks of this loop but the caller's."""
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def cancel(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for it."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_call_sends_nothing_more() -> None:
    """After a cancellation in mid-flight no request follows, no task is left, and the client works on."""
    released = threading.Event()

    def hold(connection: Connection, request: RawRequest) -> None:
        if not released.is_set():
            hang(connection, request)
        honest(connection, request)

    with RawServer(*[honest] * 4, default=hold) as server:
        async with EmbeddingClient(**settings_for(server.url, max_concurrency=4)) as client:
            task = asyncio.create_task(client.aembed(texts_of(0, 32 * 50)))
            await asyncio.to_thread(server.wait_for_requests, 8)
            await cancel(task)
            assert others() == set()
            released.set()
            assert await client.aembed(texts_of(1)) == vectors_of(1)
            assert len(server.requests) == 8 + 3


@pytest.mark.parametrize("count", [1, 64], ids=["one batch", "two batches"])
async def test_a_call_is_cancelled_while_it_waits_to_retry(count: int) -> None:
    """A call that waits for its next attempt is cancelled at once, and does not attempt it."""
    busy = refuse(429, "Throttling", Retry_After="30")
    requests = -(-count // 32)
    with RawServer(*[busy] * requests) as server:
        async with EmbeddingClient(**settings_for(server.url)) as client:
            task = asyncio.create_task(client.aembed(texts_of(0, count)))
            await asyncio.to_thread(server.wait_for_requests, requests)
            await asyncio.sleep(0.05)  # the answers arrive; were one late, the call would be cancelled just the same
            await cancel(task)
            assert others() == set()
            assert await client.aembed(["tea"]) == [vector("tea")]
            assert len(server.requests) == requests + 1


async def test_a_call_is_cancelled_while_it_waits_for_its_turn() -> None:
    """A call that the rate limit holds back is cancelled at once."""
    with RawServer() as server:
        async with EmbeddingClient(**settings_for(server.url, qps=0.1)) as client:
            await client.aembed(["tea"])
            task = asyncio.create_task(client.aembed(texts_of(0, 32 * 4)))
            await asyncio.sleep(0.05)
            await cancel(task)
            assert others() == set()
            assert len(server.requests) == 1


async def test_a_call_is_cancelled_by_a_timeout() -> None:
    """`asyncio.timeout` around a call ends it, and slots it held are free again."""
    with RawServer(hang, hang) as server:
        async with EmbeddingClient(**settings_for(server.url, max_concurrency=2)) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.aembed(texts_of(0, 32 * 5))
            assert await client.aembed(texts_of(1)) == vectors_of(1)
            assert len(server.requests) == 2 + 3


def test_a_cancelled_call_over_tls_leaves_nothing_open(tmp_path: Path) -> None:
    """A call that is cancelled while its encrypted connection is in use ends with its loop, socket and all."""

    async def cancel_one() -> None:
        task = asyncio.create_task(client.aembed(["tea"]))
        await asyncio.to_thread(server.wait_for_requests, 1)
        await cancel(task)

    authority = Authority(tmp_path)
    with (
        RawServer(hang, tls=authority.tls(HOST)) as server,
        EmbeddingClient(**settings_for(server.url, ca_bundle=authority.bundle)) as client,
    ):
        asyncio.run(cancel_one())
        gc.collect()


async def test_one_of_many_calls_is_cancelled() -> None:
    """Cancelling one call leaves the others of the loop alone."""

    def hold_one(connection: Connection, request: RawRequest) -> None:
        bad = any(text.startswith("job 3,") for text in request.json["input"])
        (hang if bad else honest)(connection, request)

    with RawServer(default=hold_one) as server:
        async with EmbeddingClient(**settings_for(server.url)) as client:
            tasks = [asyncio.create_task(client.aembed(texts_of(job))) for job in range(6)]
            await asyncio.to_thread(server.wait_for_requests, 18)
            await cancel(tasks.pop(3))
            assert await asyncio.gather(*tasks) == [vectors_of(job) for job in range(6) if job != 3]


# --- closing ---


def test_a_closed_client_opens_again(call: Callable[..., Any]) -> None:
    """After `close` a call opens new connections; closing twice is no mistake."""
    with RawServer() as server:
        client = EmbeddingClient(**settings_for(server.url))
        assert call(client.embed, ["tea"]) == [vector("tea")]
        client.close()
        client.close()
        assert call(client.embed, ["tea"]) == [vector("tea")]
        client.close()


def test_closing_under_a_running_job_does_not_break_it() -> None:
    """A job that is under way in another thread ends well though the client is closed."""

    def slow(connection: Connection, request: RawRequest) -> None:
        connection.server.stopping.wait(0.01)
        honest(connection, request)

    with RawServer(default=slow) as server, ThreadPoolExecutor(1) as threads:
        client = EmbeddingClient(**settings_for(server.url, max_concurrency=4))
        job = threads.submit(client.embed, texts_of(0, 32 * 40))
        server.wait_for_requests(8)
        client.close()
        assert job.result(30) == vectors_of(0, count=32 * 40)
        client.close()


async def test_closing_in_a_loop_leaves_no_bare_error() -> None:
    """A call that is under way while its client is closed ends well, or with one of our errors."""

    def slow(connection: Connection, request: RawRequest) -> None:
        connection.server.stopping.wait(0.01)
        honest(connection, request)

    with RawServer(default=slow) as server:
        client = EmbeddingClient(**settings_for(server.url, max_concurrency=4))
        task = asyncio.create_task(client.aembed(texts_of(0, 32 * 40)))
        await asyncio.to_thread(server.wait_for_requests, 8)
        await client.aclose()
        (found,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(found, BaseException):
            assert isinstance(found, OpenSearchEmbedError)
            assert sorted([*found.completed, *found.pending]) == list(range(32 * 40))
        else:
            assert found == vectors_of(0, count=32 * 40)
        await client.aclose()
