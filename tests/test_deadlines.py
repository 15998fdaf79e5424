"""Every wait has an end: `timeout` for one request, however it is drawn out, and `retry_timeout` for one batch."""

import gc
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from interfaces import settings_for
from servers import (
    HOST,
    Action,
    Connection,
    Proxy,
    RawRequest,
    RawServer,
    answer,
    hang,
    honest,
    http,
    refuse,
    reset_after_request,
    trickle_all,
    trickle_body,
    vector,
)

from opensearch_embed import EmbeddingClient, RateLimited, ServiceUnavailable, TimedOut, TransportError

BOUNDED = 15.0
"""Far above what any of these takes on a slow machine, far below what it would take without the limit under test."""


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail a test that takes long, or leaves a connection behind, though it may have got the right error in the end."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < BOUNDED
    gc.collect()  # what is left behind is told as a warning, which is an error here


def trickle_interim(connection: Connection, _: RawRequest) -> None:
    """Send one "100 Continue" after the other, and never an answer."""
    connection.trickle(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.05)


def trickle_chunks(connection: Connection, request: RawRequest) -> None:
    """Send the body in chunks of one byte, slowly."""
    connection.send(http(200, b"", {"Transfer-Encoding": "chunked"}))
    for byte in answer(request):
        connection.send(b"1\r\n%c\r\n" % byte)
        if connection.server.stopping.wait(0.05):
            return


def trickle_refusal(connection: Connection, _: RawRequest) -> None:
    """Refuse quickly, and send the reason slowly."""
    connection.send(http(500, b"", {"Content-Length": "1000"}))
    connection.trickle(b" " * 1000, 0.05)


SLOW_ANSWERS: list[Action] = [hang, trickle_all, trickle_body, trickle_chunks, trickle_interim, trickle_refusal]


@pytest.mark.parametrize("action", SLOW_ANSWERS, ids=lambda action: action.__name__)
def test_a_request_ends_after_its_timeout(action: Action, call: Any) -> None:
    """A server that never answers, or a byte at a time, gets `timeout` seconds in all; the error names the limit."""
    texts = [f"text number {number}" for number in range(40)]
    with RawServer(honest, action) as server:
        settings = settings_for(server.url, timeout=0.5, max_attempts=1, max_concurrency=1)
        with EmbeddingClient(**settings) as client, pytest.raises(TimedOut, match=r"timeout=0\.5") as caught:
            call(client.embed, texts)
        assert len(server.requests) == 2
    assert caught.value.completed == {index: vector(texts[index]) for index in range(32)}
    assert caught.value.pending == list(range(32, 40))


@pytest.mark.parametrize("action", [hang, trickle_all], ids=lambda action: action.__name__)
def test_a_request_over_tls_ends_after_its_timeout(action: Action, tmp_path: Path, call: Any) -> None:
    """The limit holds for encrypted connections too."""
    authority = Authority(tmp_path)
    with RawServer(action, tls=authority.tls(HOST)) as server:
        settings = settings_for(server.url, timeout=0.5, max_attempts=1, ca_bundle=authority.bundle)
        with EmbeddingClient(**settings) as client, pytest.raises(TimedOut):
            call(client.embed, ["tea"])


def test_a_tls_handshake_without_answer_ends_after_the_timeout(call: Any) -> None:
    """A server that accepts and never says a word of TLS gets `timeout` seconds."""
    with RawServer(on_connect=Connection.wait) as server:
        settings = settings_for(server.url.replace("http:", "https:"), timeout=0.5, max_attempts=1)
        with EmbeddingClient(**settings) as client, pytest.raises(TimedOut):
            call(client.embed, ["tea"])


def test_a_connection_that_nobody_accepts_ends_after_the_timeout(call: Any) -> None:
    """A connection that is neither made nor refused gets `timeout` seconds."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind((HOST, 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"http://{HOST}:{full.getsockname()[1]}"
        with EmbeddingClient(**settings_for(url, timeout=0.5, max_attempts=1)) as client, pytest.raises(TimedOut):
            call(client.embed, ["tea"])


@pytest.mark.parametrize("action", [hang, trickle_all], ids=["hang", "trickle"])
def test_a_proxy_that_does_not_answer_ends_after_the_timeout(action: Action, call: Any) -> None:
    """A proxy that never says whether it connects, or draws it out, gets `timeout` seconds."""

    def act(connection: Connection, request: RawRequest) -> None:
        if action is hang:
            hang(connection, request)
        connection.trickle(b"HTTP/1.1 200 Connection established\r\nX-Padding: " + b"x" * 1000, 0.05)

    with Proxy(1, act) as proxy:
        settings = settings_for("https://service.test", proxy=proxy.url, timeout=0.5, max_attempts=1)
        with EmbeddingClient(**settings) as client, pytest.raises(TimedOut):
            call(client.embed, ["tea"])


def test_a_server_that_does_not_read_ends_after_the_timeout(call: Any) -> None:
    """A body that the server does not take gets `timeout` seconds to be sent."""
    with RawServer(on_connect=lambda connection: connection.server.stopping.wait()) as server:
        settings = settings_for(server.url, timeout=0.5, max_attempts=1)
        with EmbeddingClient(**settings) as client, pytest.raises(TimedOut):
            call(client.embed, ["x" * 6_000_000])


def test_each_request_has_the_whole_timeout(call: Any) -> None:
    """What one request used up of its time is not missing to the next one on the same connection."""

    def late(connection: Connection, request: RawRequest) -> None:
        connection.server.stopping.wait(0.8)
        honest(connection, request)

    class SlowReader(RawServer):
        """Leaves the second request unread for a while."""

        def _serve(self, connection: Connection) -> None:
            first = connection.read_request()
            assert first is not None
            self.note(first)(connection, first)
            self.stopping.wait(0.5)
            super()._serve(connection)

    texts = ["x", *["y" * 3_500_000] * 2]
    with SlowReader(late) as server:
        settings = settings_for(server.url, timeout=1.2, max_attempts=1, max_concurrency=1)
        with EmbeddingClient(**settings) as client:
            call(client.embed, texts[:1])
            assert call(client.embed, texts[1:]) == [vector(text) for text in texts[1:]]


def test_a_timed_out_request_is_tried_again(call: Any) -> None:
    """A request without an answer in time costs a retry, and nothing else."""
    with RawServer(hang) as server, EmbeddingClient(**settings_for(server.url, timeout=0.5)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]
        assert len(server.requests) == 2


def test_throttling_ends_after_retry_timeout(call: Any) -> None:
    """A service that throttles for ever is asked until `retry_timeout`, and the error says what to do."""
    with RawServer(default=refuse(429, "Throttling.RateQuota", Retry_After="0.1")) as server:
        settings = settings_for(server.url, retry_timeout=0.45, max_attempts=1)
        with EmbeddingClient(**settings) as client, pytest.raises(RateLimited, match="qps"):
            call(client.embed, ["tea"])
        assert 1 < len(server.requests) <= 5


def test_a_wait_beyond_retry_timeout_is_not_begun(call: Any) -> None:
    """A service that asks for more patience than there is gets its error raised at once."""
    with RawServer(default=refuse(503, "Busy", Retry_After="3600")) as server:
        with (
            EmbeddingClient(**settings_for(server.url, retry_timeout=60)) as client,
            pytest.raises(ServiceUnavailable) as caught,
        ):
            call(client.embed, ["tea"])
        assert len(server.requests) == 1
    assert caught.value.retry_after == 3600
    assert "3600 seconds (Retry-After)" in str(caught.value)
    assert "retry_timeout=60" in str(caught.value)


def test_no_attempt_starts_after_retry_timeout(call: Any) -> None:
    """An attempt ends with `retry_timeout`, the first too: it is the last one, and its error says so."""
    with RawServer(default=hang) as server:
        began = time.monotonic()
        with (
            EmbeddingClient(**settings_for(server.url, retry_timeout=0.6, timeout=30)) as client,
            pytest.raises(TimedOut, match=r"Of retry_timeout, 0\.6 seconds were left"),
        ):
            call(client.embed, ["tea"])
        assert time.monotonic() - began < 10
        assert len(server.requests) == 1


def test_the_last_attempt_gets_what_is_left(call: Any) -> None:
    """After a refusal, the attempt that would go past `retry_timeout` is cut there."""
    with RawServer(refuse(503, Retry_After="0.5"), default=hang) as server:
        began = time.monotonic()
        with (
            EmbeddingClient(**settings_for(server.url, retry_timeout=2, timeout=30)) as client,
            pytest.raises(TimedOut, match=r"Of retry_timeout, 1\.\d seconds were left"),
        ):
            call(client.embed, ["tea"])
        assert 1.9 < time.monotonic() - began < 10
        assert len(server.requests) == 2


def test_no_attempt_starts_after_retry_timeout_for_want_of_a_turn(call: Any) -> None:
    """A retry that the rate limit holds back beyond `retry_timeout` is not sent."""
    with RawServer(default=reset_after_request) as server:
        settings = settings_for(server.url, qps=0.2, retry_timeout=1.5)
        with EmbeddingClient(**settings) as client, pytest.raises(TransportError):
            call(client.embed, ["tea"])
        assert len(server.requests) == 1


def test_retry_timeout_counts_for_each_batch(call: Any) -> None:
    """A long job is not cut off by the limit of a batch: each has its own."""

    def late(connection: Connection, request: RawRequest) -> None:
        connection.server.stopping.wait(0.2)
        if len(connection.server.requests) % 2:
            refuse(429, "Throttling", Retry_After="0")(connection, request)
        else:
            honest(connection, request)

    texts = [f"text number {number}" for number in range(32 * 5)]
    with RawServer(default=late) as server:
        settings = settings_for(server.url, retry_timeout=0.9, max_concurrency=1)
        with EmbeddingClient(**settings) as client:
            assert call(client.embed, texts) == [vector(text) for text in texts]
        assert len(server.requests) == 10
