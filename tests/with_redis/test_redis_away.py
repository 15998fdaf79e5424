"""Redis that was never there, goes away, hangs, and comes back."""

import asyncio
import logging
import pickle
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import pytest
from interfaces import settings_for
from redis_servers import RedisServer
from servers import HOST, RawServer, honest, vector
from test_redis import TEXTS, VECTORS, Processes

from opensearch_embed import ConfigurationError, EmbeddingClient

PASSWORD = "p%40ss-w0rd"
SECRETS = (PASSWORD, "p@ss-w0rd")


# --- the first call ---


def refused(call: Callable[..., Any], url: str) -> str:
    """Return what the first call says; nothing has been sent, and no password shows."""
    with RawServer() as server:
        client = EmbeddingClient(**settings_for(server.url, qps=100, limiter=url))
        with pytest.raises(ConfigurationError) as caught:
            call(client.embed, TEXTS)
        assert server.requests == []
        assert sorted([*caught.value.completed, *caught.value.pending]) == list(range(40))
        with pytest.raises(ConfigurationError):
            call(client.embed, TEXTS[:1], "query")
        client.close()
    error: BaseException | None = caught.value
    while error is not None:
        assert not any(secret in f"{error!r}" for secret in SECRETS)
        error = error.__cause__ or error.__context__
    return str(caught.value)


def test_nobody_is_there(call: Callable[..., Any]) -> None:
    """The first call says where nobody answers."""
    server = RedisServer()
    said = refused(call, f"redis://:{PASSWORD}@{server.place}/0")
    assert f"redis://{server.place}/0 cannot be reached" in said


def test_a_name_that_nobody_has(call: Callable[..., Any]) -> None:
    """So does one whose host is unknown."""
    assert "redis://nobody.invalid:6379/0 cannot be reached" in refused(call, "redis://nobody.invalid:6379/0")


@pytest.mark.parametrize("login", ["", f":{PASSWORD}@", f"embedder:{PASSWORD}@"], ids=["none", "password", "user"])
def test_a_refused_password(login: str, call: Callable[..., Any]) -> None:
    """The first call says who refuses."""
    with RedisServer("--requirepass", "another") as server:
        said = refused(call, f"redis://{login}{server.place}/0")
    assert f"redis://{server.place}/0 refuses the user or the password" in said


def test_a_user_without_rights(redis: RedisServer, call: Callable[..., Any]) -> None:
    """One that may not run scripts is refused, too."""
    with redis.client() as store:
        store.execute_command("ACL", "SETUSER", "embedder", "on", ">p@ss-w0rd", "~*", "+get")
    said = refused(call, f"redis://embedder:{PASSWORD}@{redis.place}/0")
    assert "refuses the user or the password" in said
    assert "permissions" in said


def test_a_database_that_is_not_there(redis: RedisServer, call: Callable[..., Any]) -> None:
    """What else Redis says is handed on."""
    assert "DB index is out of range" in refused(call, f"redis://{redis.place}/99")


def test_something_else_listens_there(call: Callable[..., Any]) -> None:
    """A web server is no Redis."""
    with RawServer() as other:
        assert f"Redis at redis://{HOST}:{other.port}/0" in refused(call, f"redis://{HOST}:{other.port}/0")


def test_one_that_hangs_from_the_start(redis: RedisServer) -> None:
    """It is waited for, for some seconds."""
    redis.hang()
    begun = time.monotonic()
    assert "cannot be reached" in refused(lambda method, *args: method(*args), redis.url)
    assert time.monotonic() - begun < 8
    redis.go_on()


def test_it_works_as_soon_as_redis_is_there(call: Callable[..., Any]) -> None:
    """A client whose first call failed is as good as new."""
    redis = RedisServer()
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, qps=100, limiter=redis.url)) as client:
        with pytest.raises(ConfigurationError):
            call(client.embed, TEXTS)
        with redis:
            until = time.monotonic() + 5
            while True:
                try:
                    assert call(client.embed, TEXTS) == VECTORS
                    break
                except ConfigurationError:
                    assert time.monotonic() < until
                    time.sleep(0.05)


def test_unpickling_does_not_ask(redis: RedisServer) -> None:
    """A worker that unpickles a client while Redis is away does not fail at that."""
    client = EmbeddingClient(**settings_for("https://service.test", qps=50, limiter=redis.url))
    redis.kill()
    assert pickle.loads(pickle.dumps(client)) == client


# --- in mid-job ---


class Times:
    """What a server does to a request: notes when it came, and answers."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self._changed = threading.Condition()

    def __call__(self, connection: Any, request: Any) -> None:
        """Note it, and answer."""
        with self._changed:
            self.at.append(time.monotonic())
            self._changed.notify_all()
        honest(connection, request)

    def wait_for(self, count: int) -> None:
        """Wait until so many have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.at) >= count, 30)

    def pace(self, begin: float, end: float) -> float:
        """Return how many a second came between two moments."""
        at = sorted(self.at)
        return (bisect_left(at, end) - bisect_left(at, begin)) / (end - begin)


def in_a_loop(embed: Callable[..., Any], texts: list[str]) -> Any:
    """Embed in an event loop."""
    return asyncio.run(embed.__self__.aembed(texts))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("leave", "come_back", "run"),
    [
        pytest.param(RedisServer.kill, RedisServer.start, in_a_loop, id="down, async"),
        pytest.param(RedisServer.hang, RedisServer.go_on, lambda embed, texts: embed(texts), id="hanging, sync"),
    ],
)
def test_a_job_goes_on_with_its_part_of_the_rate(
    leave: Any, come_back: Any, run: Any, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One of two processes goes on at half of the rate, says so once, and shares again after the return."""
    times, qps = Times(), 40
    caplog.set_level(logging.INFO, logger="opensearch_embed")
    with RawServer(default=times) as server:
        client = EmbeddingClient(**settings_for(server.url, qps=qps, limiter=redis.url, batch_size=1))
        texts = [f"text {number}" for number in range(260)]
        found: list[Any] = []
        job = threading.Thread(target=lambda: found.append(run(client.embed, texts)))
        # The other process has the same quota: one that was there just now, and asks no more.
        job.start()
        times.wait_for(5)
        other = Processes(server, redis, qps)
        other.add("other", 20)
        other.go()
        other.end()
        before = len(times.at)
        leave(redis)
        left = time.monotonic()
        times.wait_for(before + 40)
        gone = time.monotonic()
        come_back(redis)
        back = time.monotonic()
        job.join(60)
        ended = time.monotonic()
        assert found == [[vector(text) for text in texts]]
        client.close()
    # A hanging one is noticed after half a second.
    assert 0.5 * qps / 2 <= times.pace(left + 1.0, gone) <= 1.2 * qps / 2
    # While others may not know yet that it is back, it keeps to its part; then it has all that nobody else wants.
    assert times.pace(back, back + 1.0) <= 0.8 * qps
    assert times.pace(back + 4.5, ended) >= 0.65 * qps
    said = [record for record in caplog.records if "Redis" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING, logging.INFO]
    assert f"{redis.url} does not answer" in said[0].getMessage()
    assert "20 requests a second, as one of 2 that share 40" in said[0].getMessage()
    assert "is back" in said[1].getMessage()


async def test_the_event_loop_does_not_wait_for_redis(redis: RedisServer) -> None:
    """While Redis hangs, other tasks run as ever."""
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - begun)

    with RawServer() as server:
        async with EmbeddingClient(**settings_for(server.url, qps=50, limiter=redis.url, batch_size=1)) as client:
            assert await client.aembed(TEXTS[:5]) == VECTORS[:5]
            watching = asyncio.create_task(watch())
            redis.hang()
            assert await client.aembed(TEXTS) == VECTORS
            watching.cancel()
            redis.go_on()
    assert max(gaps) < 0.4


def test_a_client_that_is_made_while_redis_is_away(redis: RedisServer) -> None:
    """Where the process has known the quota, another client of it goes on as well."""
    with RawServer() as server:
        settings = settings_for(server.url, qps=100, limiter=redis.url)
        assert EmbeddingClient(**settings).embed(TEXTS) == VECTORS
        redis.kill()
        assert EmbeddingClient(**settings).embed(TEXTS) == VECTORS
