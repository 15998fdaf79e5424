"""Alive wherever it is run: short of threads, under forks, closed meanwhile, abandoned, interrupted, at the end."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from interfaces import settings_for
from servers import KEY, Connection, RawRequest, RawServer, honest, refuse, vector
from test_lifecycle import command, run

from opensearch_embed import EmbeddingClient, InvalidRequest
from opensearch_embed.emulator import Emulator

TEXTS = [f"text number {number}" for number in range(300)]
VECTORS = [vector(text) for text in TEXTS]


def sent(server: RawServer) -> Counter[str]:
    """How often each text was sent."""
    return Counter(text for request in server.requests for text in request.json["input"])


class Gate:
    """Holds answers back until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, connection: Connection, request: RawRequest) -> None:
        """Answer when the gate is open."""
        assert self.opened.wait(20)
        honest(connection, request)


# --- short of threads ---


@pytest.mark.parametrize("every", [1, 2], ids=["no thread", "every second thread"])
@pytest.mark.parametrize("method", ["embed", "embed_array"])
def test_threads_that_cannot_be_started_cost_speed_alone(
    method: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be had, the caller does the work: every vector is there, and paid for once."""
    asked = iter(range(10_000))
    start = threading.Thread.start

    def start_some(thread: threading.Thread) -> None:
        if thread.name.startswith("opensearch-embed") and next(asked) % every == 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        client.close()  # threads that are idle from earlier tests
        monkeypatch.setattr(threading.Thread, "start", start_some)
        found = getattr(client, method)(TEXTS)
        assert np.array_equal(found, np.array(VECTORS))
        assert [vector for _, vector in client.iter_embed(TEXTS)] == VECTORS
        monkeypatch.undo()
    assert set(sent(server).values()) == {2}


# --- holes ---


class Cancelling(dict[str, Any]):
    """A cache whose `put_many` or `get_many` raises what ends tasks."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def get_many(self, _keys: Any) -> Any:
        """Find nothing."""
        if self._name == "get_many":
            raise asyncio.CancelledError
        return {}

    def put_many(self, _vectors: Any) -> None:
        """Keep nothing."""
        if self._name == "put_many":
            raise asyncio.CancelledError


@pytest.mark.parametrize("name", ["get_many", "put_many"])
@pytest.mark.parametrize("count", [1, 300])
def test_a_cache_that_cancels_makes_no_holes(name: str, count: int, call: Callable[..., Any]) -> None:
    """The call raises; it does not return with a text that has no vector."""
    with (
        RawServer() as server,
        EmbeddingClient(**settings_for(server.url, cache=Cancelling(name))) as client,
        pytest.raises(asyncio.CancelledError),
    ):
        call(client.embed, TEXTS[:count])


# --- closing ---


def test_closing_waits_for_nobody(call: Callable[..., Any]) -> None:
    """`close` and `aclose` return while every request of a job is held back; the job then ends whole."""
    gate = Gate()
    with RawServer(default=gate) as server, ThreadPoolExecutor(1) as threads:
        client = EmbeddingClient(**settings_for(server.url))
        job = threads.submit(client.embed, TEXTS)
        server.wait_for_requests(10)
        call(client.close)
        assert not job.done()
        gate.opened.set()
        assert job.result(20) == VECTORS
        client.close()
    assert set(sent(server).values()) == {1}


async def test_another_task_closes_the_client() -> None:
    """The call that is under way ends whole, and nothing is sent twice."""
    gate = Gate()
    with RawServer(default=gate) as server:
        client = EmbeddingClient(**settings_for(server.url))
        task = asyncio.create_task(client.aembed(TEXTS))
        await asyncio.to_thread(server.wait_for_requests, 10)
        await client.aclose()
        assert not task.done()
        gate.opened.set()
        assert await task == VECTORS
        await client.aclose()
    assert set(sent(server).values()) == {1}


# --- what ends, ends alone ---


@pytest.mark.parametrize("leave", ["close", "collect", "cycle"])
def test_a_stream_that_is_left_disturbs_nobody(leave: str) -> None:
    """Another thread's job goes on, and none of its texts is sent again, while a stream is left in three ways."""
    gate = Gate()

    def hold_the_job(connection: Connection, request: RawRequest) -> None:
        (gate if request.json["input"][0].startswith("text") else honest)(connection, request)

    with (
        RawServer(default=hold_the_job) as server,
        EmbeddingClient(**settings_for(server.url)) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        job = threads.submit(client.embed, TEXTS)
        server.wait_for_requests(10)
        stream = client.iter_embed(f"other {number}" for number in range(100_000))
        next(stream)
        if leave == "close":
            stream.close()  # type: ignore[attr-defined]
        elif leave == "cycle":
            cycle: list[Any] = [stream]
            cycle.append(cycle)
            del cycle
        del stream
        gc.collect()
        gate.opened.set()
        assert job.result(20) == VECTORS
        assert client.embed(["tea"]) == [vector("tea")]
    mine = {text: times for text, times in sent(server).items() if text.startswith("text")}
    assert set(mine.values()) == {1}


def test_a_stream_is_collected_anywhere(call: Callable[..., Any]) -> None:
    """The garbage collector finds abandoned streams in the middle of a call of the same client, in its callbacks."""
    with RawServer() as server:

        class Collecting(dict[str, Any]):
            def get_many(self, _keys: Any) -> Any:
                cycle: list[Any] = [client.iter_embed(TEXTS)]
                next(cycle[0])
                cycle.append(cycle)
                del cycle
                gc.collect()
                return {}

            def put_many(self, _vectors: Any) -> None:
                gc.collect()

        plain = EmbeddingClient(**settings_for(server.url))
        client = plain
        with plain, EmbeddingClient(**settings_for(server.url, cache=Collecting())) as collecting:
            assert call(collecting.embed, TEXTS) == VECTORS


async def test_every_cancel_is_heard() -> None:
    """Two hundred calls are cancelled at all stages of waiting for a turn; none swallows it, and turns go on."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, qps=200)) as client:
        for number in range(200):
            task = asyncio.create_task(client.aembed(TEXTS[: 1 + number]))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            if number % 3 == 0:
                await asyncio.sleep(0.001)
            if task.done():
                continue
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await client.aembed(TEXTS) == VECTORS
        await client.aclose()


# --- shared requests ---


async def test_what_goes_wrong_with_one_text_is_its_calls_alone() -> None:
    """Of many small calls one has a text that is refused, and one is cancelled; all others get their vectors."""

    def refuse_poison(connection: Connection, request: RawRequest) -> None:
        (refuse(400, "InvalidParameter") if "poison" in request.json["input"] else honest)(connection, request)

    texts = [*TEXTS[:60], "poison", *TEXTS[60:200]]
    with RawServer(default=refuse_poison) as server, EmbeddingClient(**settings_for(server.url, qps=50)) as client:
        tasks = [asyncio.create_task(client.aembed([text], "query")) for text in texts]
        await asyncio.sleep(0)
        tasks[100].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await client.aclose()
    assert isinstance(found[60], InvalidRequest)
    assert (found[60].indices, found[60].pending) == ([0], [0])
    assert isinstance(found[100], asyncio.CancelledError)
    right = [[vector(text, "query")] for text in texts]
    assert [one for at, one in enumerate(found) if at not in (60, 100)] == [
        one for at, one in enumerate(right) if at not in (60, 100)
    ]
    assert len(server.requests) < 60


def test_threads_share_requests() -> None:
    """320 questions from 64 threads, 20 requests a second: fewer than 40 requests, each list its caller's own."""
    with (
        RawServer() as server,
        EmbeddingClient(**settings_for(server.url, qps=20)) as client,
        ThreadPoolExecutor(64) as threads,
    ):
        found = list(threads.map(lambda number: client.embed([f"q {number % 80}"], "query"), range(320)))
    assert found == [[vector(f"q {number % 80}", "query")] for number in range(320)]
    assert len({id(vectors[0]) for vectors in found}) == 320
    assert len(server.requests) < 40


async def test_the_same_text_is_sent_once() -> None:
    """64 calls for one text while it is under way are one request."""
    gate = Gate()
    with RawServer(default=gate) as server, EmbeddingClient(**settings_for(server.url)) as client:
        tasks = [asyncio.create_task(client.aembed(["tea"], "query")) for _ in range(64)]
        await asyncio.to_thread(server.wait_for_requests, 1)
        gate.opened.set()
        assert await asyncio.gather(*tasks) == [[vector("tea", "query")]] * 64
        await client.aclose()
    assert len(server.requests) == 1


# --- turns ---


def test_a_query_does_not_wait_for_a_job(call: Callable[..., Any]) -> None:
    """While a job of another client fills the quota, questions wait for a few turns, not for the job."""
    with Emulator(vectors="lexical", qps=None) as emulator:
        settings: dict[str, Any] = {"endpoint": emulator.url, "api_key": emulator.api_key, "qps": 20}
        with EmbeddingClient(**settings) as bulk, EmbeddingClient(**settings) as asking, ThreadPoolExecutor(1) as one:
            job = one.submit(bulk.embed_array, [f"text {number}" for number in range(32 * 80)])
            waits = []
            while len(waits) < 5:
                begun = time.monotonic()
                call(asking.embed, [f"question {len(waits)}"], "query")
                waits.append(time.monotonic() - begun)
            assert not job.done()
            # In turn with the job's 80 requests each would take seconds.
            assert sorted(waits)[2] < 0.5
            assert len(job.result(30)) == 32 * 80


def test_a_job_survives_an_outage(call: Callable[..., Any]) -> None:
    """Three seconds of 503 in mid-job: few requests meanwhile, and a whole result, though each has two attempts."""
    began: list[float] = []

    def down_for_a_while(connection: Connection, request: RawRequest) -> None:
        if len(server.requests) > 20:
            began.append(time.monotonic())
        down = began and began[-1] - began[0] < 3
        (refuse(503) if down else honest)(connection, request)

    texts = [f"text {number}" for number in range(32 * 60)]
    settings = {"qps": 50, "max_attempts": 3, "retry_timeout": 30}
    with (
        RawServer(default=down_for_a_while) as server,
        EmbeddingClient(**settings_for(server.url, **settings)) as client,
    ):
        assert call(client.embed, texts) == [vector(text) for text in texts]
    assert sum(at - began[0] < 3 for at in began) < 45


# --- processes ---

FORK = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
results = []
for _ in range(8):
    client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=1000)
    job = threading.Thread(target=lambda: results.append(len(client.embed(many))))
    job.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if client.embed(texts) == client.embed(texts) else 1)
    _, status = os.waitpid(child, 0)
    job.join()
    results.append(os.waitstatus_to_exitcode(status))
print(results)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_fork_within_the_first_call() -> None:
    """Parent and child go on, wherever the first call is just then."""
    with RawServer() as server:
        process = run(server.url, FORK)
    assert (process.stdout, process.returncode) == (f"{[2000, 0] * 8}\n", 0), process.stderr


CHILD_ENDS = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
results = []
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None, max_concurrency=16)
job = threading.Thread(target=lambda: results.append(len(client.embed(texts))))
job.start()
stream = client.iter_embed([f"other {number}" for number in range(2000)])
next(stream)
print("ready", flush=True)
input()
child = os.fork()
if child == 0:
    del stream
    sys.exit(0)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), flush=True)
input()
job.join()
print(results, client.usage.retries, len(list(stream)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_child_that_ends_leaves_the_parents_requests_alone() -> None:
    """What a forked child inherits, jobs and streams under way, is not its own to end."""
    gate = Gate()

    def hold_the_job(connection: Connection, request: RawRequest) -> None:
        (gate if request.json["input"][0].startswith("text") else honest)(connection, request)

    with (
        RawServer(default=hold_the_job) as server,
        subprocess.Popen(
            command(server.url, CHILD_ENDS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "0\n"
        gate.opened.set()
        output, errors = process.communicate("\n", timeout=20)
    assert (output, errors) == ("[200] 0 1999\n", "")


def test_the_interpreter_does_not_wait_for_a_daemon_thread() -> None:
    """A job of a daemon thread ends with the main thread: nothing more is sent."""
    code = """
        import threading
        threading.Thread(target=client.embed, args=[many * 50], daemon=True).start()
        input()
    """
    gate = Gate()
    with (
        RawServer(*[honest] * 4, default=gate) as server,
        subprocess.Popen(
            command(server.url, code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        server.wait_for_requests(8)
        output, errors = process.communicate("\n", timeout=10)
        gate.opened.set()
        assert (output, errors, process.returncode) == ("", "", 0)
        assert len(server.requests) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be sent Ctrl-C alone")
def test_ctrl_c_while_batches_are_handed_out() -> None:
    """Of a thousand requests few are sent."""
    code = """
        import json
        client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=100)
        try:
            client.embed([f"text {number}" for number in range(32_000)])
        except KeyboardInterrupt as error:
            print(json.dumps([len(error.completed), len(error.pending)]))
    """
    with RawServer() as server:
        with subprocess.Popen(
            command(server.url, code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            server.wait_for_requests(5)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=10)
        assert len(server.requests) < 500
    completed, pending = json.loads(output)
    assert completed + pending == 32_000
    assert errors == ""


NESTED = """
import asyncio, nest_asyncio, threading, warnings
warnings.simplefilter("ignore")
nest_asyncio.apply()
async def outer():
    loop = asyncio.get_running_loop()
    found = [loop.run_until_complete(client.aembed(texts[:n])) for n in (1, 40, 200)]
    found.append(client.embed(texts))
    found.append(await client.aembed(texts))
    return [len(one) for one in found]
print(asyncio.run(outer()), asyncio.new_event_loop().run_until_complete(outer()))
thread = threading.Thread(target=lambda: print(asyncio.run(outer())))
thread.start()
thread.join()
"""


def test_nested_loops() -> None:
    """`nest_asyncio`, as most notebooks have it: loops inside loops, one after another, and in a thread."""
    with RawServer() as server:
        process = subprocess.run(
            [sys.executable, "-c", command(server.url, "")[-3] + NESTED, server.url, KEY],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert process.stdout == f"{[1, 40, 200, 200, 200]} {[1, 40, 200, 200, 200]}\n{[1, 40, 200, 200, 200]}\n", (
        process.stderr
    )


RERUNS = """
import asyncio, gc, os, threading
def rerun(client):
    loop = asyncio.new_event_loop()
    assert len(loop.run_until_complete(client.aembed(texts))) == 200
    loop.close()
def count():
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))
def again(make):
    for _ in range(10):
        one = make()
        thread = threading.Thread(target=rerun, args=[one])
        thread.start()
        thread.join()
        one.embed(texts)
        del one
again(lambda: client)
before = count()
again(lambda: client)
again(lambda: EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None))
after = count()
print(after[0] <= before[0] + 4, after[1] <= before[1] + 8, before, after)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts descriptors as Linux shows them")
def test_reruns_leave_nothing_behind() -> None:
    """A thread, a loop and a client each time, none of them closed well, as with Streamlit: nothing piles up."""
    with RawServer() as server:
        process = run(server.url, RERUNS)
    assert process.stdout.startswith("True True"), process.stdout + process.stderr
    assert process.stderr == ""
