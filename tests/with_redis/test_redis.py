"""One quota over processes, in a real Redis: what they use together, how fairly, queries, forks, pickles, passwords."""

import asyncio
import multiprocessing
import statistics
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from interfaces import INTERFACES, settings_for
from redis_servers import RedisServer
from servers import HOST, KEY, RawServer, honest, vector

from opensearch_embed import EmbeddingClient

TEXTS = [f"text number {number}" for number in range(40)]
VECTORS = [vector(text) for text in TEXTS]


class Arrivals:
    """What a server does to a request: notes when it came and whose it was, and answers."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.of: list[str] = []

    def __call__(self, connection: Any, request: Any) -> None:
        """Note it, and answer."""
        self.at.append(time.monotonic())
        self.of.append(request.json["input"][0].split()[0])
        honest(connection, request)

    def fewest(self, seconds: float, begin: float, end: float) -> int:
        """Return how many came in the worst stretch of so many seconds between two moments."""
        at = sorted(self.at)
        starts = [begin, *(moment for moment in at if begin <= moment <= end - seconds)]
        return min(bisect_left(at, start + seconds) - bisect_left(at, start) for start in starts)

    def most(self, seconds: float) -> int:
        """Return how many came in the fullest stretch."""
        at = sorted(self.at)
        return max(bisect_left(at, start + seconds) - bisect_left(at, start) for start in at)


JOB = """
import sys, time
url, limiter, qps, name, count, begins, clock = sys.argv[1:]
if float(clock):  # before anybody has imported them
    right, steady = time.time, time.monotonic
    time.time, time.monotonic = (lambda: right() + float(clock)), (lambda: steady() + float(clock))
from opensearch_embed import EmbeddingClient
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key="{KEY}", limiter=limiter, qps=float(qps),
                         batch_size=1)
client.settings, client._calls
print("ready", flush=True)
sys.stdin.readline()
time.sleep(float(begins))
client.embed([f"{name} {number}" for number in range(int(count))])
"""


class Processes:
    """Processes that share a quota, each with a job of so many requests."""

    def __init__(self, server: RawServer, redis: RedisServer, qps: float) -> None:
        self._arguments = server.url, redis.url, str(qps)
        self._all: list[subprocess.Popen[str]] = []

    def add(self, name: str, count: int, *, begins: float = 0.0, clock: float = 0.0) -> None:
        """Add one, `begins` seconds after the others, its clocks wrong by `clock` seconds."""
        arguments = [*self._arguments, name, str(count), str(begins), str(clock)]
        code = JOB.replace("{KEY}", KEY)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._all.append(subprocess.Popen([sys.executable, "-c", code, *arguments], text=True, **pipes))  # type: ignore[call-overload]

    def go(self) -> None:
        """Let them begin together."""
        for process in self._all:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in self._all:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def end(self) -> None:
        """Wait for all of them."""
        for process in self._all:
            process.communicate(timeout=60)
            assert process.returncode == 0

    def kill(self) -> None:
        """End them."""
        for process in self._all:
            process.kill()
            process.communicate()


def test_processes_share_one_quota(redis: RedisServer) -> None:
    """Two share evenly, one with a clock that is a minute ahead; where one leaves or joins, the pace stays."""
    arrivals, qps = Arrivals(), 50
    with RawServer(default=arrivals) as server:
        processes = Processes(server, redis, qps)
        processes.add("long", 160)
        processes.add("wrong", 160, clock=60.0)
        processes.add("leaves", 20)
        processes.add("joins", 40, begins=3.0, clock=60.0)
        processes.go()
        processes.end()
    assert len(arrivals.at) == 380
    begin, end = min(arrivals.at), max(arrivals.at)
    # How close it comes is measured by `python -m benchmarks --only redis`: here the machine is busy with other tests.
    assert 0.75 * qps <= 379 / (end - begin) <= qps
    assert arrivals.fewest(2.0, begin, end) >= 0.5 * 2 * qps
    assert arrivals.most(1.0) <= qps + 6
    common = [name for name, at in zip(arrivals.of, arrivals.at, strict=True) if at < begin + 5.0]
    assert common.count("wrong") / common.count("long") == pytest.approx(1, abs=0.25)


def test_a_query_waits_an_interval_at_most(redis: RedisServer) -> None:
    """Beside jobs of three other processes that fill the quota, and a job of its own process."""
    qps, waits = 20, []
    with RawServer() as server:
        processes = Processes(server, redis, qps)
        for name in ("a", "b", "c"):
            processes.add(name, 10_000)
        processes.go()
        settings = settings_for(server.url, qps=qps, limiter=redis.url, batch_size=1)
        with EmbeddingClient(**settings) as client:
            client.embed(["first"], "query")
            job = threading.Thread(target=client.embed, args=[[f"mine {n}" for n in range(25)]])
            job.start()
            for number in range(16):
                begun = time.monotonic()
                assert client.embed([f"question {number}"], "query") == [vector(f"question {number}", "query")]
                waits.append(time.monotonic() - begun)
                time.sleep(0.2 + 0.013 * number)  # a fifth of the rate at most, and not in step with it
            job.join(30)
            assert not job.is_alive()
        processes.kill()
    # Four jobs hold a turn each, so that in their order a query would wait for four intervals, 0.2 seconds.
    # Most wait for nothing; a busy machine adds to that.
    assert statistics.median(waits) <= 2.5 / qps
    assert sorted(waits)[-2] <= 6 / qps


def test_it_is_asked_once_for_each_request(redis: RedisServer, call: Callable[..., Any]) -> None:
    """Not again and again by those that wait; once more for a turn that a loaded machine let pass."""
    with RawServer() as server:
        settings = settings_for(server.url, qps=50, limiter=redis.url, batch_size=1)
        with EmbeddingClient(**settings) as client:
            assert call(client.embed, TEXTS) == VECTORS
        assert len(server.requests) <= redis.calls("evalsha") <= 1.25 * len(server.requests) + 2


@pytest.mark.parametrize("interface", INTERFACES)
def test_every_interface_takes_it(interface: str, redis: RedisServer) -> None:
    """The core and both adapters."""
    with RawServer() as server:
        assert INTERFACES[interface](**settings_for(server.url, qps=500, limiter=redis.url))(TEXTS) == VECTORS
    assert redis.calls("evalsha") >= 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_share_with_their_parent(method: str, redis: RedisServer) -> None:
    """A used client works in worker processes, which connect anew and count as processes of their own."""
    with RawServer() as server:
        with EmbeddingClient(**settings_for(server.url, qps=500, limiter=redis.url)) as client:
            assert client.embed(TEXTS) == VECTORS
            with multiprocessing.get_context(method).Pool(2) as pool:
                jobs = [pool.apply_async(client.embed, [TEXTS]) for _ in range(6)]
                assert client.embed(TEXTS) == VECTORS
                assert [job.get(30) for job in jobs] == [VECTORS] * 6
                pool.close()
                pool.join()
            assert client.embed(TEXTS) == VECTORS
        with redis.client() as store:
            [processes] = store.keys("opensearch-embed:*:processes")
            assert 2 <= store.zcard(processes) <= 3


FORK = """
import os, sys, threading, warnings
warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
from opensearch_embed import EmbeddingClient
url, limiter = sys.argv[1:]
client = EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key="{KEY}", qps=200, limiter=limiter,
                         batch_size=1)
texts = [f"text {number}" for number in range(200)]
vectors = []
job = threading.Thread(target=lambda: vectors.append(client.embed(texts)))
client.embed(texts[:5])
job.start()
while client.usage.requests < 50:
    pass
child = os.fork()
if child == 0:
    os._exit(0 if len(client.embed(texts[:60])) == 60 else 1)
job.join()
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), len(vectors[0]))
"""


def test_a_fork_in_mid_job(redis: RedisServer) -> None:
    """Parent and child go on, each with a connection of its own, without a warning."""
    with RawServer() as server:
        command = [sys.executable, "-W", "error", "-X", "dev", "-c", FORK.replace("{KEY}", KEY), server.url, redis.url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("0 200\n", "")


def test_where_no_thread_can_be_started(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller asks Redis itself, and does all the work."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("opensearch-embed"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with RawServer() as server, EmbeddingClient(**settings_for(server.url, qps=500, limiter=redis.url)) as client:
        client.close()  # threads that are idle from earlier tests
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert client.embed(TEXTS) == VECTORS
        assert asyncio.run(client.aembed(TEXTS[:3])) == VECTORS[:3]
        monkeypatch.undo()


ENDINGS = """
import gc, os, sys
from opensearch_embed import EmbeddingClient
url, limiter = sys.argv[1:]
def embed():
    EmbeddingClient("four-numbers", dimension=4, endpoint=url, api_key="{KEY}", qps=200, limiter=limiter).embed(["tea"])
embed()
before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
for _ in range(5):
    embed()
gc.collect()
after = len(os.listdir("/proc/self/fd")) if before else 0
print(after <= before + 1)
"""


def test_a_client_that_is_gone_leaves_nothing(redis: RedisServer) -> None:
    """Its connection to Redis goes with it, without a warning."""
    with RawServer() as server:
        code = ENDINGS.replace("{KEY}", KEY)
        command = [sys.executable, "-W", "error", "-X", "dev", "-c", code, server.url, redis.url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("True\n", "")


# --- who is let in ---


def embeds(url: str, call: Callable[..., Any]) -> bool:
    """Tell whether a client that names this Redis embeds."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, qps=500, limiter=url)) as client:
        vectors: list[list[float]] = call(client.embed, TEXTS)
        return vectors == VECTORS


def test_a_password_in_the_url(call: Callable[..., Any]) -> None:
    """Characters that a URL reserves are escaped."""
    with RedisServer("--requirepass", "p@ss/w:rd") as server:
        assert embeds(f"redis://:p%40ss%2Fw%3Ard@{server.place}/0", call)


def test_a_user_with_no_more_rights_than_the_docs_say(redis: RedisServer, call: Callable[..., Any]) -> None:
    """The rules in docs/rate-limits.md are enough."""
    page = Path(__file__).parents[2].joinpath("docs", "rate-limits.md").read_text(encoding="utf-8")
    [rules] = [line.partition("> ACL SETUSER ")[2] for line in page.splitlines() if "ACL SETUSER" in line]
    with redis.client() as store:
        store.execute_command("ACL", "SETUSER", *rules.split())
    assert embeds(f"redis://embedder:s3cret@{redis.place}/0", call)


def test_tls(tmp_path: Path, call: Callable[..., Any]) -> None:
    """`rediss://` trusts whom its URL says."""
    authority = Authority(tmp_path)
    certificate, key = authority.files(tmp_path, HOST)
    options = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"]
    with RedisServer(*options, "--tls-ca-cert-file", authority.bundle, tls=True) as server:
        assert embeds(f"rediss://{server.place}/0?ssl_ca_certs={authority.bundle}", call)


def test_a_database_of_its_own(redis: RedisServer, call: Callable[..., Any]) -> None:
    """The number at the URL's end is heeded."""
    assert embeds(redis.url.removesuffix("0") + "7", call)
    with redis.client() as store:
        assert "db7" in store.info("keyspace")
