"""What outlives a call: copies, pickles, forks, other processes, the interpreter's end, and Ctrl-C."""

import asyncio
import copy
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest
from interfaces import settings_for
from servers import KEY, Connection, RawServer, hang, honest, refuse, vector

from opensearch_embed import EmbeddingClient, InvalidRequest

TEXTS = [f"text number {number}" for number in range(200)]
VECTORS = [vector(text) for text in TEXTS]
PROMPT = 8.0
"""Seconds in which a process that stops "at once" has stopped, on a slow machine too; its waits would last 30."""


# --- copies ---


def test_a_pickled_client_works(call: Any) -> None:
    """A client that was used is pickled; the copy works, with its own connections and an empty account."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, max_concurrency=3)) as client:
        call(client.embed, TEXTS)
        with pickle.loads(pickle.dumps(client)) as twin:
            assert call(twin.embed, TEXTS) == VECTORS
            assert twin == client
            assert (client.usage.texts, twin.usage.texts) == (200, 200)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
def test_a_copied_client_works(copier: Any, call: Any) -> None:
    """A copy shares the settings and no connection: closing one leaves the other open."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        call(client.embed, TEXTS)
        twin = copier(client)
        client.close()
        assert call(twin.embed, TEXTS) == VECTORS
        twin.close()


def test_a_client_is_pickled_in_the_middle_of_a_job() -> None:
    """Pickling and copying do not wait for, or disturb, what is under way."""

    def pickle_and_answer(connection: Connection, request: Any) -> None:
        copies.append(pickle.loads(pickle.dumps(client)))
        copies.append(copy.deepcopy(client))
        honest(connection, request)

    copies: list[EmbeddingClient] = []
    with RawServer(default=pickle_and_answer) as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert client.embed(TEXTS) == VECTORS
        assert copies == [client] * 14


def test_an_error_travels_between_processes() -> None:
    """An error that is raised in a worker arrives with all that it knows."""
    with RawServer(honest, refuse(400, "InvalidParameter")) as server:
        client = EmbeddingClient(**settings_for(server.url, max_concurrency=1))
        with (
            multiprocessing.get_context("spawn").Pool(1) as pool,
            pytest.raises(InvalidRequest, match="InvalidParameter") as caught,
        ):
            pool.apply(client.embed, [TEXTS])
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")
    assert caught.value.completed == {index: VECTORS[index] for index in range(32)}
    assert caught.value.pending == list(range(32, 200))


# --- processes ---


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_used_client_works_in_worker_processes(method: str) -> None:
    """A client that was used, sync and async, works in workers of each start method, and here afterwards."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert client.embed(TEXTS) == VECTORS
        assert asyncio.run(client.aembed(TEXTS)) == VECTORS
        with multiprocessing.get_context(method).Pool(2) as pool:
            jobs = [pool.apply_async(client.embed, [TEXTS]) for _ in range(4)]
            assert [job.get(30) for job in jobs] == [VECTORS] * 4
            pool.close()
            pool.join()
        assert client.embed(TEXTS) == VECTORS


FORK = """
import asyncio, os, sys, threading, warnings
warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
client.embed(texts[:40])
asyncio.run(client.aembed(texts[:40]))
job = threading.Thread(target=client.embed, args=[many])
{start}
child = os.fork()
if child == 0:
    assert client.embed(texts) == client.embed(texts)
    assert asyncio.run(client.aembed(texts)) == client.embed(texts)
    client.close()
    {leave}
assert client.embed(texts) == client.embed(texts)
_, status = os.waitpid(child, 0)
{join}
print(os.waitstatus_to_exitcode(status), client.usage.texts >= 480)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.parametrize(
    ("busy", "leave"),
    [
        pytest.param(False, "sys.exit(0)", id="idle"),
        pytest.param(True, "os._exit(0)", id="busy"),
    ],
)
def test_a_client_works_in_a_forked_child(busy: bool, leave: str) -> None:
    """After `os.fork`, of an idle process or in mid-job, parent and child both go on with the client."""
    start, join = ("job.start()", "job.join()") if busy else ("", "")
    with RawServer() as server:
        process = run(server.url, FORK.format(start=start, join=join, leave=leave))
    assert (process.stdout, process.stderr, process.returncode) == ("0 True\n", "", 0)


# --- the interpreter's end ---

PREFACE = """
import logging, sys
# In its debug mode asyncio reports steps of over 0.1 seconds: that is about the load of this machine.
logging.getLogger("asyncio").addFilter(lambda record: " took " not in record.getMessage())
from opensearch_embed import EmbeddingClient
url, key = sys.argv[1:]
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None, max_concurrency=4)
texts = [f"text number {number}" for number in range(200)]
many = [f"text number {number}" for number in range(2000)]
"""


def command(url: str, code: str) -> list[str]:
    """Return the command for a script with a client, in an interpreter that tells every warning."""
    return [sys.executable, "-W", "error", "-X", "dev", "-c", PREFACE + textwrap.dedent(code), url, KEY]


def run(url: str, code: str) -> "subprocess.CompletedProcess[str]":
    """Run a script with a client to its end."""
    return subprocess.run(command(url, code), capture_output=True, text=True, timeout=60, check=False)


ENDINGS = {
    "sync": "client.embed(texts)",
    "sync local": """
        def main():
            mine = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key)
            mine.embed(texts)
        main()
    """,
    "async": """
        import asyncio
        asyncio.run(client.aembed(texts))
    """,
    "async again and again": """
        import asyncio
        for _ in range(3):
            asyncio.run(client.aembed(texts))
    """,
    "with a rate limit": """
        client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=500)
        client.embed(texts)
    """,
    "after an error": """
        import asyncio
        for run in (client.embed, lambda texts: asyncio.run(client.aembed(texts))):
            try:
                run([*texts, "poison"])
            except ValueError as error:
                raise SystemExit("wrong error") from error
            except Exception:
                pass
    """,
    "in a reference cycle": """
        cycle = [client]
        cycle.append(cycle)
        client.embed(texts)
        del client, cycle
    """,
    "in a thread that goes on": """
        import threading
        def go_on():
            assert len(client.embed(many)) == 2000
            print("went on", flush=True)
        threading.Thread(target=go_on).start()
    """,
}


def refuse_poison(connection: Connection, request: Any) -> None:
    """Answer honestly, but not to poison."""
    (refuse(400, "InvalidParameter") if "poison" in request.json["input"] else honest)(connection, request)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_ends_quietly_with_an_open_client(ending: str) -> None:
    """A process that never closes its client ends without hanging and without a word, under `-W error -X dev`."""
    with RawServer(default=refuse_poison) as server:
        process = run(server.url, ENDINGS[ending])
    assert (process.stderr, process.returncode) == ("", 0)
    assert process.stdout == ("went on\n" if "goes on" in ending else "")


def test_the_event_loop_is_not_held_up_by_an_import() -> None:
    """aiohttp, which takes half a second to import, is imported on another thread than the event loop's."""
    code = """
        import asyncio, threading
        class Watch:
            def find_spec(self, name, *_):
                if name == "aiohttp":
                    print(threading.current_thread() is threading.main_thread())
        sys.meta_path.insert(0, Watch())
        asyncio.run(client.aembed(texts))
    """
    with RawServer() as server:
        process = run(server.url, code)
    assert (process.stdout, process.stderr) == ("False\n", "")


# --- Ctrl-C ---

INTERRUPTED = """
import json, time
try:
    client.embed(many)
except KeyboardInterrupt as error:
    print(json.dumps([list(error.completed.items()), error.pending, error.__notes__]))
"""


def interrupt(server: RawServer, code: str, url: str = "", *, connections: int = 0, requests: int = 0) -> Any:
    """Run a script until it has made so many requests, press Ctrl-C, and return what it printed."""
    with server:
        with subprocess.Popen(
            command(url or server.url, code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while server.connections < connections or len(server.requests) < requests:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            try:
                output, errors = process.communicate(timeout=PROMPT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert time.monotonic() - start < PROMPT
        return output, errors


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be sent Ctrl-C alone")
@pytest.mark.parametrize(
    "fault", [hang, refuse(429, "Throttling", Retry_After="30")], ids=["hanging", "waiting to retry"]
)
def test_ctrl_c_stops_a_sync_job(fault: Any) -> None:
    """Ctrl-C ends a long job and its process at once; the interrupt carries what was done, and a note says so."""
    output, errors = interrupt(RawServer(*[honest] * 8, default=fault), INTERRUPTED, requests=12)
    completed, pending, notes = json.loads(output)
    assert all(found == vector(f"text number {index}") for index, found in completed)
    assert len(completed) == 256
    assert sorted([index for index, _ in completed] + pending) == list(range(2000))
    assert "256 of 2000 texts" in notes[0]
    # A job that slows down says so: a warning, once.
    assert [line[:16] for line in errors.splitlines()] in ([], ["A request failed"])


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be sent Ctrl-C alone")
def test_ctrl_c_stops_a_job_that_is_connecting() -> None:
    """Ctrl-C ends a job whose connections are being made, here in a TLS handshake that nobody answers."""
    server = RawServer(on_connect=Connection.wait)
    url = server.url.replace("http:", "https:")
    output, errors = interrupt(server, INTERRUPTED, url, connections=4)
    assert json.loads(output)[0] == []
    assert errors == ""


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be sent Ctrl-C alone")
def test_ctrl_c_stops_an_async_job() -> None:
    """Ctrl-C ends an async job and its process at once, and leaves nothing open."""
    code = """
        import asyncio
        try:
            asyncio.run(client.aembed(many))
        except KeyboardInterrupt:
            print("stopped")
    """
    output, errors = interrupt(RawServer(*[honest] * 8, default=hang), code, requests=12)
    assert (output, errors) == ("stopped\n", "")
