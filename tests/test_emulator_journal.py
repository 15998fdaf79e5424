"""What the emulator remembers: requests without keys, totals, and how many requests were under way."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import requests

from opensearch_embed.emulator import Emulator

PATH = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"
HEADERS = {"Authorization": "Bearer OS-local", "Content-Type": "application/json"}


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator with default settings."""
    with Emulator() as running:
        yield running


def send(server: Emulator, texts: list[str] | str = "tea", **options: Any) -> requests.Response:
    """Send one request, a good one unless said otherwise."""
    sent: dict[str, Any] = {"json": {"input": texts}, "headers": HEADERS}
    return requests.post(server.url + PATH, timeout=5, **(sent | options))


def test_requests_are_remembered_without_keys(server: Emulator) -> None:
    """A record has path, headers in any case, and parsed body; neither the right key nor a wrong one is in it."""
    send(server, headers=HEADERS | {"x-copy": "key=OS-local"})
    send(server, json=None, data=b"{", headers=HEADERS | {"Authorization": "Bearer OS-real", "x-copy": "OS-real"})
    good, bad = server.requests
    assert (good.method, good.path, good.body) == ("POST", PATH, {"input": "tea"})
    assert good.headers["authorization"] == "Bearer ***"
    assert good.headers["X-Copy"] == "key=***"
    assert bad.body == b"{"
    assert good.received <= bad.received
    assert "OS-" not in repr(server.requests)


def test_only_the_newest_requests_are_kept() -> None:
    """`keep_requests` bounds the memory; the totals go on."""
    with Emulator(keep_requests=2) as server:
        for text in ("one", "two", "three"):
            send(server, text)
        assert [record.body["input"] for record in server.requests] == ["two", "three"]
        assert server.usage.requests == 3


def test_usage_counts_what_was_answered(server: Emulator) -> None:
    """Totals count all requests, but texts and tokens only of whole answers; `reset` starts anew."""
    tokens = sum(send(server, texts).json()["usage"]["token_count"] for texts in (["tea"], ["long text", "茶"]))
    send(server, "")
    server.fail_next(503)
    send(server)
    server.break_next("short")
    send(server)
    usage = server.usage
    assert (usage.requests, usage.texts, usage.tokens) == (5, 3, tokens)
    assert usage.outcomes == {200: 2, 400: 1, 503: 1, "short": 1}
    server.fail_next(503)
    server.reset()
    assert (server.requests, server.usage.requests) == ([], 0)
    assert send(server).status_code == 200


async def test_many_requests_are_answered_at_once() -> None:
    """Requests do not wait for each other's latency, and `max_in_flight` tells how many were under way."""
    with Emulator(latency_ms=200) as server:
        async with aiohttp.ClientSession(headers=HEADERS) as session:

            async def send() -> int:
                async with session.post(server.url + PATH, data=b'{"input": "tea"}') as response:
                    return response.status

            assert await asyncio.gather(*(send() for _ in range(8))) == [200] * 8
    assert server.max_in_flight == 8


def test_waiting_for_requests_that_do_not_come_ends(server: Emulator) -> None:
    """`wait_for_requests` says how many came when it gives up."""
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        server.wait_for_requests(1, timeout=0.01)
