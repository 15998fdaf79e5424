"""Ends: of the main thread while a daemon embeds, and by Ctrl-C while the first batches are handed out."""

import json
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from servers import Connection, RawRequest, RawServer, honest
from test_lifecycle import PROMPT, command

from opensearch_embed import EmbeddingClient

STILL_BEGUN = 100
"""Requests that a starved machine may begin before it hears of the end. Each job has a thousand and more."""


def slowly(connection: Connection, request: RawRequest) -> None:
    """Answer after a tenth of a second."""
    connection.server.stopping.wait(0.1)
    honest(connection, request)


class UntilTheEnd:
    """Answers after a tenth of a second, and nothing any more once the end has come: what was begun stays under way."""

    def __init__(self) -> None:
        self.come = threading.Event()

    def __call__(self, connection: Connection, request: RawRequest) -> None:
        """Answer, if that is still wanted."""
        connection.server.stopping.wait(0.1)
        if self.come.is_set():
            connection.server.stopping.wait()
        honest(connection, request)


# --- the end of main ---

DAEMON = """
import asyncio, threading
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, {settings})
def consume():
    for _ in client.iter_embed(many * 50):
        pass
async def aconsume():
    async for _ in client.aiter_embed(many * 50):
        pass
async def two():
    await asyncio.gather(client.aembed(many * 20), client.aembed_array(many * 20))
ways = {{
    "embed": lambda: client.embed(many * 50),
    "embed_array": lambda: client.embed_array(many * 50),
    "iter_embed": consume,
    "aembed": lambda: asyncio.run(client.aembed(many * 50)),
    "aiter_embed": lambda: asyncio.run(aconsume()),
    "gather": lambda: asyncio.run(two()),
}}
threading.Thread(target=ways["{way}"], daemon=True).start()
input()
print("the end of main", flush=True)
"""


@pytest.mark.parametrize("settings", ["qps=None, max_concurrency=4", "qps=40.0"])
@pytest.mark.parametrize("way", ["embed", "embed_array", "iter_embed", "aembed", "aiter_embed", "gather"])
def test_a_daemon_thread_does_not_hold_up_the_end(way: str, settings: str) -> None:
    """When main ends, the process does too, in silence; what its daemon thread has not sent is not sent."""
    with RawServer(default=slowly) as server:
        with subprocess.Popen(
            command(server.url, DAEMON.format(way=way, settings=settings)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            server.wait_for_requests(8)
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == "the end of main\n"
            at_the_end = len(server.requests)
            try:
                output, errors = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert len(server.requests) - at_the_end <= STILL_BEGUN
        assert (output, errors, process.returncode) == ("", "", 0)


# --- Ctrl-C ---

HANDED_OUT = """
import asyncio, json
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, {settings})
texts = [f"text number {{number}}" for number in range(32_000)]
ways = {{
    "embed": lambda: client.embed(texts),
    "embed_array": lambda: client.embed_array(texts),
    "iter_embed": lambda: list(client.iter_embed(texts)),
    "aembed": lambda: asyncio.run(client.aembed(texts)),
}}
try:
    ways["{way}"]()
except KeyboardInterrupt as error:
    told = hasattr(error, "completed")
    print(json.dumps([sorted(error.completed), sorted(error.pending)] if told else None))
"""


def interrupted(way: str, settings: str, after: int) -> tuple[Any, str, int, int]:
    """Press Ctrl-C after so many requests; return what was printed and complained of, all requests, and those after."""
    end = UntilTheEnd()
    with RawServer(default=end) as server:
        with subprocess.Popen(
            command(server.url, HANDED_OUT.format(way=way, settings=settings)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            server.wait_for_requests(after)
            end.come.set()
            before = len(server.requests)
            pressed = time.monotonic()
            process.send_signal(signal.SIGINT)
            try:
                output, errors = process.communicate(timeout=PROMPT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            assert time.monotonic() - pressed < PROMPT
        return json.loads(output), errors, len(server.requests), len(server.requests) - before


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be sent Ctrl-C alone")
@pytest.mark.parametrize("settings", ["qps=None", "qps=100.0", "qps=None, max_concurrency=4"])
@pytest.mark.parametrize("after", [1, 3, 20])
def test_ctrl_c_while_the_first_batches_are_handed_out(after: int, settings: str) -> None:
    """Of a thousand requests few are made, the process ends, and the interrupt tells what is done and what is not."""
    (completed, pending), errors, requests, still_begun = interrupted("embed", settings, after)
    assert still_begun <= STILL_BEGUN
    assert sorted(completed + pending) == list(range(32_000))
    assert len(completed) <= 32 * requests
    assert errors == ""


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot be sent Ctrl-C alone")
@pytest.mark.parametrize("way", ["embed_array", "iter_embed", "aembed"])
def test_ctrl_c_ends_whatever_embeds(way: str) -> None:
    """Arrays, streams and event loops hear it just so."""
    told, errors, _, still_begun = interrupted(way, "qps=None", 1)
    assert still_begun <= STILL_BEGUN
    assert errors == ""
    if way == "embed_array":
        assert sorted(told[0] + told[1]) == list(range(32_000))


def test_a_client_that_is_dropped_in_a_call_ends_with_it() -> None:
    """A client that only its own call refers to ends that call whole."""
    with RawServer(default=slowly) as server:
        found = EmbeddingClient("four-numbers", dimension=4, endpoint=server.url, api_key="key", qps=None).embed(
            [f"text {number}" for number in range(100)]
        )
    assert len(found) == 100
