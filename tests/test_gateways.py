"""What stands between: firewalls' pages, servers tired of waiting, statuses that say nothing of the request."""

import logging
from typing import Any

import pytest
from interfaces import settings_for
from servers import KEY, Connection, RawRequest, RawServer, honest, http, refuse, reply, vector

from opensearch_embed import (
    ApiError,
    AuthenticationError,
    EmbeddingClient,
    InvalidRequest,
    ServiceUnavailable,
    TransportError,
)

PAGE = "<!DOCTYPE html><html><title>Blocked</title><body>Your request has been blocked.</body></html>"
TEXTS = [f"text number {number}" for number in range(8)]
RIGHT = [vector(text) for text in TEXTS]


@pytest.mark.parametrize("status", [408, 421, 425, 499])
def test_what_says_nothing_of_the_request_is_retried(status: int, call: Any) -> None:
    """These are the server's or the connection's affairs: sent again, and on another connection."""
    with RawServer(reply(status, PAGE)) as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, TEXTS) == RIGHT
        assert client.usage.retries == 1
        assert server.connections == 2


@pytest.mark.parametrize("status", [408, 421, 425, 499])
def test_what_says_nothing_of_the_request_is_service_unavailable(status: int, call: Any) -> None:
    """And so it is called when it does not end."""
    with (
        RawServer(default=reply(status)) as server,
        EmbeddingClient(**settings_for(server.url, max_attempts=1)) as client,
        pytest.raises(ServiceUnavailable) as caught,
    ):
        call(client.embed, TEXTS)
    assert caught.value.status == status


@pytest.mark.parametrize("status", [403, 405, 451])
def test_a_firewalls_page_is_no_texts_fault(status: int, call: Any) -> None:
    """Nothing is isolated, no text is named alone, and the message does not blame the key alone."""
    with RawServer(default=reply(status, PAGE, Content_Type="text/html")) as server:
        with (
            EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client,
            pytest.raises(ApiError, match="firewall") as caught,
        ):
            call(client.embed, TEXTS)
        assert len(server.requests) == 1
    assert type(caught.value) is (AuthenticationError if status == 403 else InvalidRequest)
    assert caught.value.is_page
    assert caught.value.pending == list(range(8))


def test_a_page_about_the_size_is_isolated(call: Any) -> None:
    """A gateway's 413 is a word on the size, and smaller requests keep to it."""

    def limited(connection: Connection, request: RawRequest) -> None:
        small = len(request.json["input"]) <= 2
        (honest if small else reply(413, PAGE, Content_Type="text/html"))(connection, request)

    with (
        RawServer(default=limited) as server,
        EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client,
    ):
        assert call(client.embed, TEXTS) == RIGHT


def test_a_400_that_names_a_maximum_names_batch_size(call: Any) -> None:
    """The setting is in the advice, and with it the call succeeds."""

    def limited(connection: Connection, request: RawRequest) -> None:
        few = len(request.json["input"]) <= 5
        (honest if few else refuse(400, "InvalidParameter", "input must have at most 5 strings"))(connection, request)

    with RawServer(default=limited) as server:
        with (
            EmbeddingClient(**settings_for(server.url)) as client,
            pytest.raises(InvalidRequest, match="batch_size=5"),
        ):
            call(client.embed, TEXTS)
        with EmbeddingClient(**settings_for(server.url, batch_size=5)) as client:
            assert call(client.embed, TEXTS) == RIGHT


# --- a server that is tired of an idle connection ---

TIRED = http(408, b"idle for too long", {"Connection": "close"})


def tired_later(connection: Connection, request: RawRequest) -> None:
    """Answer, and when the next request begins, say what was under way already: 408."""
    honest(connection, request)
    connection.sock.recv(1)
    connection.send(TIRED)
    connection.close()


def test_a_408_to_an_idle_connection_is_no_answer(call: Any) -> None:
    """One that crosses the next request on its way is the connection's end, and not the service's word."""
    with (
        RawServer(tired_later) as server,
        EmbeddingClient(**settings_for(server.url, max_attempts=1)) as client,
    ):

        def both() -> None:
            client.embed(["first"])
            client.embed(["second"])

        async def both_async() -> None:
            await client.aembed(["first"])
            await client.aembed(["second"])

        with pytest.raises(TransportError, match="408"):
            run(call, both, both_async)


def test_after_a_408_to_an_idle_connection_all_is_sent_again(call: Any) -> None:
    """The request gets its answer on another connection."""
    found: list[Any] = []
    with RawServer(tired_later) as server, EmbeddingClient(**settings_for(server.url)) as client:

        def both() -> None:
            found.extend([client.embed(["first"]), client.embed(["second"])])

        async def both_async() -> None:
            found.extend([await client.aembed(["first"]), await client.aembed(["second"])])

        run(call, both, both_async)
        assert found == [[vector("first")], [vector("second")]]
        assert len(server.requests) == 2


class _Both:
    def __init__(self, both: Any, both_async: Any) -> None:
        self._both, self._both_async = both, both_async

    def go(self) -> None:
        """Run it in this thread."""
        self._both()

    async def ago(self) -> None:
        """Run it in an event loop."""
        await self._both_async()


def run(call: Any, both: Any, both_async: Any) -> None:
    """Run one of two twins."""
    call(_Both(both, both_async).go)


# --- the log ---


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """What the package has logged."""
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "opensearch_embed"]


def test_retries_are_logged_with_reason_and_wait(call: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The first at WARNING, those soon after at INFO; each says why, and how long it waits; none shows the key."""
    caplog.set_level(logging.INFO, "opensearch_embed")
    tired = refuse(503, "Busy", f"Not now, {KEY}.", Retry_After="0.1")
    with RawServer(tired, tired) as server, EmbeddingClient(**settings_for(server.url)) as client:
        call(client.embed, TEXTS)
    found = records(caplog)
    assert [level for level, _ in found] == [logging.WARNING, logging.INFO]
    for _, message in found:
        assert "HTTP 503" in message
        assert "again in 0.1 seconds" in message
        assert KEY not in message


def test_a_slow_down_is_a_warning_of_its_own(call: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A rate that falls is told at WARNING too, with the reason and the pace; a job without trouble tells nothing."""
    caplog.set_level(logging.INFO, "opensearch_embed")
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, qps=40)) as client:
        call(client.embed, TEXTS)
    assert records(caplog) == []
    busy = refuse(429, "Throttling.RateQuota", Retry_After="0.1")
    with RawServer(busy, busy) as server, EmbeddingClient(**settings_for(server.url, qps=40)) as client:
        call(client.embed, TEXTS)
    warnings = [message for level, message in records(caplog) if level == logging.WARNING]
    assert len(warnings) == 2
    assert any("429" in message and "requests a second" in message for message in warnings)
    assert any("again in 0.1 seconds" in message for message in warnings)
