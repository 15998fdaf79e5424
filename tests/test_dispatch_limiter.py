"""A limiter of the user's own: asked once for each request, sync and async, and refused where it cannot work."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from interfaces import settings_for
from pyrate_limiter import InMemoryBucket, Limiter, Rate
from servers import RawServer, refuse, vector

from opensearch_embed import ConfigurationError, EmbeddingClient

TEXTS = [f"text number {number}" for number in range(200)]


class Counting:
    """A limiter that says yes, but not always at once, and counts."""

    def __init__(self) -> None:
        self.granted = 0
        self.asked = 0

    def try_acquire(self, _name: str, *, timeout: float) -> bool:
        """Say yes every other time."""
        assert timeout >= 0
        self.asked += 1
        granted = self.asked % 2 == 0
        self.granted += granted
        return granted

    async def try_acquire_async(self, name: str, *, timeout: float) -> bool:  # noqa: ASYNC109 - its signature
        """Say the same."""
        await asyncio.sleep(0)
        return self.try_acquire(name, timeout=timeout)


def test_it_is_asked_once_for_each_request(call: Callable[..., Any]) -> None:
    """Retries included; what it refuses is asked again."""
    limiter = Counting()
    faults = [refuse(500, "InternalServerError", Retry_After="0")] * 3
    with RawServer(*faults) as server, EmbeddingClient(**settings_for(server.url, limiter=limiter)) as client:
        assert call(client.embed, TEXTS) == [vector(text) for text in TEXTS]
    assert limiter.granted == len(server.requests) == 7 + 3


def test_threads_and_loops_share_it() -> None:
    """A bucket of pyrate-limiter has a token less for each request, whoever sends it."""
    bucket = InMemoryBucket([Rate(100, 3_600_000)])
    with (
        RawServer() as server,
        EmbeddingClient(**settings_for(server.url, limiter=Limiter(bucket))) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        jobs = [threads.submit(client.embed, TEXTS) for _ in range(2)]
        jobs += [threads.submit(lambda: asyncio.run(client.aembed(TEXTS))) for _ in range(2)]
        assert [job.result(30) for job in jobs] == [[vector(text) for text in TEXTS]] * 4
    assert bucket.count() == len(server.requests) == 28


def test_an_error_of_the_limiter_is_raised(call: Callable[..., Any]) -> None:
    """As it is, with what was done; and the client works on."""

    class Broken(Counting):
        def try_acquire(self, name: str, *, timeout: float) -> bool:
            if self.granted == 2:
                self.granted += 1
                raise ZeroDivisionError
            return super().try_acquire(name, timeout=timeout)

    with RawServer() as server, EmbeddingClient(**settings_for(server.url, limiter=Broken())) as client:
        with pytest.raises(ZeroDivisionError) as caught:
            call(client.embed, TEXTS)
        assert sorted([*caught.value.completed, *caught.value.pending]) == list(range(200))  # type: ignore[attr-defined]
        assert call(client.embed, TEXTS[:2]) == [vector(text) for text in TEXTS[:2]]


def test_an_async_limiter_cannot_pace_threads() -> None:
    """An answer that must be awaited looks like a yes: it is refused, with the way out, and leaves no warning."""

    class Asynchronous(Counting):
        def try_acquire(self, *_: Any, **__: Any) -> Any:
            async def yes() -> bool:
                return True

            return yes()

    with RawServer() as server, EmbeddingClient(**settings_for(server.url, limiter=Asynchronous())) as client:
        with pytest.raises(ConfigurationError) as caught:
            client.embed(TEXTS)
        assert server.requests == []
    for words in ("asynchronous", "aembed", "sync bucket"):
        assert words in str(caught.value)
