"""Signals that raise at any line of a call, and event loops that nobody ends: the next call is right, and comes."""

import subprocess
import sys
from pathlib import Path

import pytest
from servers import Connection, RawRequest, RawServer, honest
from test_lifecycle import command

INTERRUPTED = """
import random, signal, time
sys.path.insert(0, {tests!r})
from servers import vector
chance = random.Random({seed})
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None, max_concurrency={most},
                         batch_size={batch})
client.embed(["warm"])

def raise_it(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, raise_it)
end = time.monotonic() + 5
count = 0
while time.monotonic() < end:
    count += 1
    asked = ["a", "b", "c"]
    chance.shuffle(asked)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + chance.random() * {within})
            client.embed(asked)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    chance.shuffle(asked)
    found = client.embed(asked)
    assert found == [vector(text) for text in asked], (count, asked)
print("held", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process there has no timer that interrupts")
@pytest.mark.parametrize(
    ("batch", "most", "within"), [(32, None, 0.0003), (2, 1, 0.002)], ids=["one request", "one at a time"]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_an_interrupt_at_any_line_leaves_nothing_behind(batch: int, most: int | None, within: float, seed: int) -> None:
    """The call after it gets its own vectors: no texts of the other are among its own, no lock and no turn is kept."""
    code = INTERRUPTED.format(seed=seed, batch=batch, most=most, within=within, tests=str(Path(__file__).parents[1]))
    with RawServer() as server:
        done = subprocess.run(command(server.url, code), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "held\n", done.stderr[-2000:]


ABANDONED = """
import asyncio, gc, logging, random, threading, time
logging.disable(logging.CRITICAL)  # asyncio says what it thinks of such loops
sys.unraisablehook = lambda _: None
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=1000, batch_size=2)
chance = random.Random({seed})
gc.set_threshold({threshold})
rounds = [0] * 4

def go_on(number):
    for _ in range(25):
        loop = asyncio.new_event_loop()
        task = loop.create_task(client.aembed([f"x{{number}} {{at}}" for at in range(5)]))
        loop.run_until_complete(asyncio.sleep(chance.random() * 0.01))
        if chance.random() < 0.5:
            loop.close()
        del loop, task
        client.embed([f"{{number}} {{at}}" for at in range(5)])
        rounds[number] += 1

threads = [threading.Thread(target=go_on, args=[number], daemon=True) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(40)
print(rounds, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("threshold", [700, 1])
@pytest.mark.parametrize("seed", [1, 4])
def test_loops_that_nobody_ends_hold_nobody_up(seed: int, threshold: int) -> None:
    """The garbage collector ends their calls in the middle of others', wherever it is, and turns go on."""
    code = "import os\n" + ABANDONED.format(seed=seed, threshold=threshold)
    with RawServer() as server:
        done = subprocess.run(command(server.url, code), capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout == "[25, 25, 25, 25]\n", done.stderr[-2000:]


WITHIN = """
import gc, random, signal, time
sys.path.insert(0, {tests!r})
from servers import vector
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None, retry_timeout=20)
client.embed(["warm"])
busy, asked = False, 0

def within(*_):
    global busy, asked
    if busy:
        return
    busy = True
    asked += 1
    texts = [f"within {{asked}} {{number}}" for number in range({within})]
    assert client.embed(texts) == [vector(text) for text in texts]
    busy = False

class Dropped:
    def __init__(self):
        self.itself = self

    def __del__(self):
        within()

if {by!r} == "finaliser":
    gc.set_threshold(150)
else:
    signal.signal(signal.SIGALRM, within)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.0021)
end = time.monotonic() + 3
count = 0
while time.monotonic() < end or not asked:
    count += 1
    Dropped()
    texts = [f"outer {{count}} {{number}}" for number in range(40 if count % 2 else 1)]
    assert client.embed(texts) == [vector(text) for text in texts]
    if count % 5 == 0:
        assert len(list(client.iter_embed(texts))) == len(texts)
signal.setitimer(signal.ITIMER_REAL, 0)
print("held", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process there has no timer that interrupts")
@pytest.mark.parametrize("by", ["finaliser", "signal"])
@pytest.mark.parametrize("within", [1, 70])
def test_what_embeds_in_the_middle_of_a_call_waits_for_nobody(by: str, within: int) -> None:
    """It comes between any two lines, whatever lock is held there, and neither it nor the call below hangs."""
    code = WITHIN.format(by=by, within=within, tests=str(Path(__file__).parents[1]))
    with RawServer() as server:
        done = subprocess.run(command(server.url, code), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "held\n", done.stderr[-2000:]


def test_a_handler_asks_for_the_text_that_its_thread_waits_for() -> None:
    """It is sent twice: the call below cannot receive it before the handler has ended."""
    code = """
import signal
signal.signal(signal.SIGALRM, lambda *_: print(client.embed(["tea"]) and "within", flush=True))
signal.setitimer(signal.ITIMER_REAL, 0.2)
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None, retry_timeout=20)
print(client.embed(["tea"]) and "outer", flush=True)
"""

    def slow(connection: Connection, request: RawRequest) -> None:
        assert not connection.server.stopping.wait(0.8)
        honest(connection, request)

    with RawServer(slow) as server:
        done = subprocess.run(command(server.url, code), capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout, len(server.requests)) == ("within\nouter\n", 2), done.stderr[-2000:]
