"""Event loops: several, nested ones, closed by others; calls that are cancelled; loops that nobody closes properly."""

import asyncio
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from interfaces import settings_for
from servers import KEY, RawServer, vector
from test_alive_threads import BATCHES, LONG, TEXTS, VECTORS, Gate, times_sent
from test_lifecycle import PREFACE, run

from opensearch_embed import EmbeddingClient

# --- closed by another task ---


async def take_stream(client: EmbeddingClient) -> list[list[float]]:
    """Embed through a stream."""
    return [found async for _, found in client.aiter_embed(TEXTS)]


async def take_array(client: EmbeddingClient) -> list[list[float]]:
    """Embed into an array."""
    return [list(row) for row in await client.aembed_array(TEXTS)]


async def take_lists(client: EmbeddingClient) -> list[list[float]]:
    """Embed into lists."""
    return await client.aembed(TEXTS)


@pytest.mark.parametrize("take", [take_lists, take_array, take_stream])
async def test_a_task_closes_the_client_of_another(take: Any) -> None:
    """`aclose` returns while the server holds every answer; the call then ends whole, and nothing is sent twice."""
    gate = Gate()
    with RawServer(default=gate) as server:
        client = EmbeddingClient(**settings_for(server.url))
        task = asyncio.create_task(take(client))
        await asyncio.to_thread(server.wait_for_requests, BATCHES)
        await asyncio.wait_for(client.aclose(), LONG)
        assert not task.done()
        gate.opened.set()
        assert await asyncio.wait_for(task, LONG) == VECTORS
        assert await client.aembed(TEXTS[:3]) == VECTORS[:3]
        await client.aclose()
    assert len(server.requests) == BATCHES + 1


@pytest.mark.parametrize("passes", range(8))
async def test_a_task_closes_the_client_while_a_call_begins(passes: int) -> None:
    """However far a call has come, connections, sessions and all, it returns whole, again and again."""
    with RawServer() as server:
        client = EmbeddingClient(**settings_for(server.url))
        for _ in range(5):
            tasks = [asyncio.create_task(client.aembed(TEXTS)) for _ in range(3)]
            for _ in range(passes * passes):
                await asyncio.sleep(0)
            await asyncio.wait_for(client.aclose(), LONG)
            assert await asyncio.wait_for(asyncio.gather(*tasks), LONG) == [VECTORS] * 3
        await client.aclose()


# --- cancelled ---


@pytest.mark.parametrize("count", [1, 40], ids=["one request", "several requests"])
async def test_every_cancel_is_heard_while_turns_are_scarce(count: int) -> None:
    """Beside a job that takes the turns, 200 calls are cancelled in two ways at varying points: all of them hear it."""
    with RawServer() as server:
        client = EmbeddingClient(**settings_for(server.url, qps=100.0))
        texts = [f"long {number}" for number in range(32 * 150)]
        job = asyncio.create_task(client.aembed(texts))
        heard = 0
        for number in range(200):
            mine = [f"call {number} {at}" for at in range(count)]
            role = ("document", "query")[number % 2]
            if number % 4 < 2:
                task = asyncio.create_task(client.aembed(mine, role))  # type: ignore[arg-type]
                for _ in range(number % 13):
                    await asyncio.sleep(0)
                if number % 5 == 0:
                    await asyncio.sleep(number % 11 / 1000)
                if task.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    heard += 1
            else:
                try:
                    async with asyncio.timeout(number % 17 / 1000):
                        await client.aembed(mine, role)  # type: ignore[arg-type]
                except TimeoutError:
                    heard += 1
        assert heard > 100
        assert await asyncio.wait_for(job, 2 * LONG) == [vector(text) for text in texts]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await asyncio.wait_for(client.aembed(TEXTS), LONG) == VECTORS
        await client.aclose()
    assert set(times_sent(server, "long").values()) == {1}


async def test_cancelled_calls_give_their_turns_back() -> None:
    """300 calls wait for turns that would last a minute, and are cancelled: who comes then waits for none of them."""
    with RawServer() as server:
        client = EmbeddingClient(**settings_for(server.url, qps=5.0))
        tasks = [
            asyncio.create_task(client.aembed([f"call {number} {at}" for at in range(33)])) for number in range(300)
        ]
        await asyncio.to_thread(server.wait_for_requests, 2)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(one, asyncio.CancelledError) for one in found) >= 299
        before = len(server.requests)
        assert await asyncio.wait_for(client.aembed(["tea"]), LONG) == [vector("tea")]
        assert len(server.requests) - before <= 30
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await client.aclose()


# --- nested, and several ---

NESTED = """
import asyncio, nest_asyncio, threading, warnings
warnings.simplefilter("ignore")
nest_asyncio.apply()
async def cell(deep=2):
    loop = asyncio.get_running_loop()
    under_way = [asyncio.create_task(client.aembed(texts)) for _ in range(2)]
    found = [len(loop.run_until_complete(client.aembed(texts[:n]))) for n in (1, 40, 200)]
    found.append(len(asyncio.run(client.aembed(texts[:33]))))
    found.append(len(client.embed(texts)))
    found.append(len([one async for one in client.aiter_embed(texts)]))
    found += [len(one) for one in loop.run_until_complete(asyncio.gather(*under_way))]
    if deep:
        found.append(loop.run_until_complete(cell(deep - 1)) == found)
    return found
expected = [1, 40, 200, 33, 200, 200, 200, 200]
def check(found):
    assert found[:8] == expected, found
    print("right", flush=True)
{body}
"""
BODIES = {
    "one loop, twice": """
loop = asyncio.new_event_loop()
check(loop.run_until_complete(cell()))
check(loop.run_until_complete(cell()))
""",
    "a second loop": """
check(asyncio.new_event_loop().run_until_complete(cell()))
check(asyncio.new_event_loop().run_until_complete(cell()))
""",
    "then threads": """
check(asyncio.new_event_loop().run_until_complete(cell()))
def in_thread():
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    found.append(loop.run_until_complete(cell()))
found = []
threads = [threading.Thread(target=in_thread) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == found[:1] * 3
check(found[0])
""",
}


@pytest.mark.parametrize("settings", ["qps=None", "qps=500.0", "qps=None, max_concurrency=2"])
@pytest.mark.parametrize("body", BODIES)
def test_nested_event_loops_are_answered(body: str, settings: str) -> None:
    """With `nest_asyncio`, calls inside calls are answered, in one loop, in a second one, and in threads."""
    preface = PREFACE.replace("qps=None, max_concurrency=4", settings)
    with RawServer() as server:
        process = subprocess.run(
            [sys.executable, "-c", preface + NESTED.format(body=BODIES[body]), server.url, KEY],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (process.stdout, process.returncode) == ("right\nright\n", 0), process.stderr


# --- loops and clients that nobody closes ---

COUNTING = """
import asyncio, gc, os, threading
def rerun(one, stream=False):
    loop = asyncio.new_event_loop()
    async def page():
        if stream:
            return [found async for _, found in one.aiter_embed(texts)]
        return await one.aembed(texts)
    assert len(loop.run_until_complete(page())) == 200
    loop.close()
def count():
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd"))
def in_thread(*args):
    thread = threading.Thread(target=rerun, args=args)
    thread.start()
    thread.join()
"""
LITTER = {
    "reruns of one client": """
        def page(number):
            in_thread(client)
    """,
    "reruns with streams": """
        def page(number):
            in_thread(client, True)
    """,
    "reruns with the rate limit": """
        client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=2000)
        def page(number):
            in_thread(client)
    """,
    "dropped clients": """
        def page(number):
            one = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None)
            one.embed(texts)
            in_thread(one)
            asyncio.run(one.aembed(texts))
    """,
    "dropped clients in a loop that goes on": """
        goes_on = asyncio.new_event_loop()
        def page(number):
            one = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None)
            one.embed(texts)
            goes_on.run_until_complete(one.aembed(texts))
            del one
            gc.collect()
            goes_on.run_until_complete(asyncio.sleep(0))
    """,
    "dropped clients in cycles": """
        def page(number):
            one = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key=key, qps=None)
            one.myself = one
            one.embed(texts)
            in_thread(one)
    """,
}
COUNTED = """
for number in range(2):
    page(number)
before = count()
for number in range(10):
    page(number)
after = count()
print(after[0] - before[0], after[1] - before[1])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts descriptors as Linux shows them")
@pytest.mark.parametrize("litter", LITTER)
def test_what_nobody_closes_is_gone(litter: str) -> None:
    """Ten threads, loops or clients later there are no more threads and descriptors, and not a word on stderr."""
    with RawServer() as server:
        process = run(server.url, COUNTING + textwrap.dedent(LITTER[litter]) + COUNTED)
    assert (process.stderr, process.returncode) == ("", 0)
    threads, descriptors = map(int, process.stdout.split())
    # A thread and five descriptors each would be 10 and 50. The pool of idle workers and connections may breathe.
    assert threads <= 5
    assert descriptors <= 8


NESTED_THREADS = """
import asyncio, gc, nest_asyncio, threading, warnings
warnings.simplefilter("ignore", ResourceWarning)  # of loops that nest_asyncio leaves open
nest_asyncio.apply()
mine = [f"text {i}" for i in range(100)]

def work():
    for _ in range(2):
        asyncio.run(client.aembed(mine))

async def main():
    gc.collect()
    await client.aembed(mine)

for _ in range(2):
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    asyncio.run(main())
print("done")
"""


def test_collected_loops_of_nested_threads_say_nothing() -> None:
    """The garbage collector finds what such loops have left open, from within another loop or from none."""
    with RawServer() as server:
        process = run(server.url, NESTED_THREADS)
    assert (process.stdout, process.stderr) == ("done\n", "")
