"""Forks: within the first call of a process, at each of its steps, and in mid-job. Parent and child both go on."""

import os

import pytest
from servers import RawServer
from test_alive_threads import times_sent
from test_lifecycle import run

INHERITED = """
import asyncio, os, signal
loop = asyncio.new_event_loop()
mine = [f"text {i}" for i in range(70)]
before = loop.run_until_complete(client.aembed(mine))
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    same = loop.run_until_complete(client.aembed(mine)) == before
    os._exit(0 if same else 1)
print(os.waitpid(pid, 0)[1], loop.run_until_complete(client.aembed(mine)) == before)
"""


def test_a_child_goes_on_in_its_parents_event_loop() -> None:
    """As under nest_asyncio, whose `asyncio.run` takes the loop that is there: threads of that loop are gone."""
    with RawServer() as server:
        process = run(server.url, INHERITED)
    assert process.stdout.split() == ["0", "True"], process.stderr


FIRST = """
import os, signal, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)

def at_step(step, act):
    # Let the thread that embeds wait, at a step of its first call, until `act` is done in the main thread: or for a
    # moment, since a fork may rightly wait for what must not be cut in two, such as an import.
    reached, acted = threading.Event(), threading.Event()
    def hook(event, args):
        if threading.current_thread() is job and not reached.is_set():
            if event == step or event == "import" and step == "import " + str(args[0]):
                reached.set()
                acted.wait(0.5)
    if isinstance(step, str):
        sys.addaudithook(hook)
    job.start()
    if isinstance(step, str):
        reached.wait(5)
    else:
        time.sleep(step)
    result = act()
    acted.set()
    return result

def use():
    import asyncio
    assert client.embed(texts[:70]) == client.embed(texts[:70])
    assert asyncio.run(client.aembed(texts[:70])) == client.embed(texts[:70])

def child():
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            use()
            os._exit(0)
        finally:
            os._exit(1)
    return pid

def embed():
    if {sync}:
        found.append(len(client.embed(mine)))
    else:
        import asyncio
        found.append(len(asyncio.run(client.aembed(mine))))

steps = ["import requests", "import urllib3", "import aiohttp", "import orjson", "import ssl",
         "socket.__new__", "socket.connect", 0.0, 0.002, 0.02, 0.1, 0.3]
fresh = []
for number, step in enumerate(steps):
    pid = os.fork()  # a process without a call so far
    if pid == 0:
        signal.alarm(100)
        status = 9
        try:
            found = []
            mine = [f"step {{number}} {{at}}" for at in range(320)]
            job = threading.Thread(target=embed)
            _, ended = os.waitpid(at_step(step, child), 0)
            job.join()
            use()
            status = 0 if ended == 0 and found == [320] else 1 if found == [320] else 2
            if status:
                print("step", step, "child", ended, "parent", found, file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    fresh.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in fresh])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_fork_at_each_step_of_the_first_call(way: str) -> None:
    """The child embeds and ends, and the parent's first call ends whole, wherever it was when the fork came."""
    with RawServer() as server:
        process = run(server.url, FIRST.format(sync=way == "sync"))
    assert (process.stdout, process.stderr) == (f"{[0] * 12}\n", "")
    steps = times_sent(server, "step")
    assert (len(steps), set(steps.values())) == (12 * 320, {1})


MIDDLE = """
import asyncio, os, signal, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps={qps})
client.embed(texts[:40])
asyncio.run(client.aembed(texts[:40]))
found = []
ahead = threading.Event()
def read(name):
    for number in range(3200):
        if number == 1500:
            ahead.set()
        yield f"{{name}} {{number}}"
async def stream(name):
    return [one async for one in client.aiter_embed(read(name))]
def embed(name):
    if {sync}:
        found.append(len(list(client.iter_embed(read(name)))))
    else:
        found.append(len(asyncio.run(stream(name))))
jobs = [threading.Thread(target=embed, args=[f"job {{number}}"]) for number in range(3)]
for job in jobs:
    job.start()
ahead.wait(20)
children = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            assert client.embed(texts[:70]) == client.embed(texts[:70])
            assert asyncio.run(client.aembed(texts[:70])) == client.embed(texts[:70])
            client.close()
            os._exit(0)
        finally:
            os._exit(1)
    children.append(pid)
ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
for job in jobs:
    job.join()
print(ended, found, client.usage.retries)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
@pytest.mark.parametrize("qps", ["None", "400.0"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_forks_in_the_middle_of_jobs(way: str, qps: str) -> None:
    """Five children of a process whose three threads embed work and close; the jobs end whole, nothing sent twice."""
    with RawServer() as server:
        process = run(server.url, MIDDLE.format(sync=way == "sync", qps=qps))
    assert (process.stdout, process.stderr) == (f"{[0] * 5} {[3200] * 3} 0\n", "")
    jobs = times_sent(server, "job")
    assert (len(jobs), set(jobs.values())) == (9600, {1})
