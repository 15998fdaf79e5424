"""An answer belongs to its request, and what ends, ends alone: both transports, against servers that misbehave."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from servers import HOST, KEY, Connection, RawRequest, RawServer, chunked, hang, http, refuse, reply, trickle_body

from opensearch_embed._http.aio import AiohttpTransport
from opensearch_embed._http.cancel import Cancellation
from opensearch_embed._http.sync import RequestsTransport
from opensearch_embed._http.target import Target
from opensearch_embed._wire.refusal import Reply
from opensearch_embed.errors import ResponseError, TimedOut, TransportError
from opensearch_embed.settings import resolve_settings


def make_target(server: RawServer, timeout: float = 10.0, **settings: Any) -> Target:
    """A target at a server."""
    return Target(resolve_settings(endpoint=server.url, api_key=KEY, **settings), timeout, 4)


ONE, TWO, THREE, FOUR = (b'{"embeddings": "%s"}' % word for word in (b"one", b"two", b"three", b"four"))
"""Bodies that are echoed as answers, such as the service might send."""

Send = Callable[..., Reply]


@pytest.fixture(params=["sync", "async"])
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[..., Send]]:
    """Open a transport to a server, and return its `send`, sync or async alike."""
    closers: list[Callable[[], object]] = []

    def open_sync(target: Target) -> Send:
        transport = RequestsTransport(target)
        closers.append(transport.close)
        return lambda body, timeout=10.0: transport.send(body, timeout=timeout, cancellation=Cancellation())

    def open_async(target: Target) -> Send:
        runner = asyncio.Runner()

        async def make() -> AiohttpTransport:
            return AiohttpTransport(target)

        transport = runner.run(make())
        closers.extend([runner.close, lambda: runner.run(transport.close())])
        return lambda body, timeout=10.0: runner.run(transport.send(body, timeout=timeout))

    def opening(server: RawServer, **settings: Any) -> Send:
        return (open_sync if request.param == "sync" else open_async)(make_target(server, **settings))

    yield opening
    for close in reversed(closers):
        close()


def echo(connection: Connection, request: RawRequest) -> None:
    """Answer with the request's own body."""
    connection.send(http(200, request.body))


def first_sends(data: Callable[[bytes], bytes]) -> Callable[[Connection, RawRequest], None]:
    """Send these bytes, made of the honest answer."""
    return lambda connection, request: connection.send(data(http(200, request.body)))


# --- interim answers ---

INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\nX-One: 1\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>; rel=preload\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" * 10,
]


@pytest.mark.parametrize("interim", INTERIM)
def test_interim_answers_are_skipped(opened: Any, interim: bytes) -> None:
    """The answer is the one after them, and the connection goes on being used."""
    with RawServer(first_sends(lambda answer: interim + answer), default=echo) as server:
        send = opened(server)
        assert send(ONE).body == ONE
        assert send(TWO).body == TWO
        assert server.connections == 1


def test_interim_answers_in_pieces_are_skipped(opened: Any) -> None:
    """It does not matter how the bytes are cut."""

    def in_pieces(connection: Connection, request: RawRequest) -> None:
        for byte in INTERIM[2] + http(200, request.body):
            connection.send(bytes([byte]))

    with RawServer(in_pieces, default=echo) as server:
        send = opened(server)
        assert send(ONE).body == ONE
        assert send(TWO).body == TWO
        assert server.connections == 1


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", INTERIM[2] * 21]
)
def test_other_protocols_and_endless_interim_answers_are_refused(opened: Any, interim: bytes) -> None:
    """No answer is believed after them, and the connection is thrown away."""
    with RawServer(first_sends(lambda answer: interim + answer), default=echo) as server:
        send = opened(server)
        with pytest.raises(TransportError):
            send(ONE)
        assert send(TWO).body == TWO
        assert server.connections == 2


# --- bytes left over ---

LEFTOVER = [b"\r\n", b"H", b"HTTP/1.1 2", b"garbage", b"garbage\r\n\r\n", http(200, b"of somebody else")]
FRAMES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("length", lambda body: http(200, body)),
    ("chunks", lambda body: http(200, chunked(body), {"Transfer-Encoding": "chunked"})),
]


@pytest.mark.parametrize("leftover", LEFTOVER)
@pytest.mark.parametrize("frame", [pytest.param(frame, id=name) for name, frame in FRAMES])
def test_bytes_left_over_cost_the_connection(opened: Any, frame: Callable[[bytes], bytes], leftover: bytes) -> None:
    """The answer stands; the next request goes over another connection."""

    def more(connection: Connection, request: RawRequest) -> None:
        connection.send(frame(request.body) + leftover)

    with RawServer(more, default=echo) as server:
        send = opened(server)
        assert send(ONE).body == ONE
        assert send(TWO).body == TWO
        assert server.connections == 2


@pytest.mark.parametrize("frame", [pytest.param(frame, id=name) for name, frame in FRAMES])
def test_a_clean_connection_is_kept(opened: Any, frame: Callable[[bytes], bytes]) -> None:
    """Where nothing is left over, one connection serves all requests."""
    with RawServer(default=lambda connection, request: connection.send(frame(request.body))) as server:
        send = opened(server)
        for body in (ONE, TWO, THREE * 40_000, FOUR):
            assert send(body).body == body
        assert server.connections == 1


# --- readable before it is used ---


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("late", [b"", b"H", http(200, b"of somebody else")])
def test_what_comes_while_idle_costs_the_connection(opened: Any, late: bytes, encrypted: bool, tmp_path: Path) -> None:
    """Bytes or the end that come while a connection is idle: another one is used, and the request does not fail."""
    go, gone = threading.Event(), threading.Event()

    def later(connection: Connection, request: RawRequest) -> None:
        echo(connection, request)
        go.wait(10)
        if late:
            connection.send(late)
        else:
            connection.close()
        gone.set()

    authority = Authority(tmp_path)
    with RawServer(later, default=echo, tls=authority.tls(HOST) if encrypted else None) as server:
        send = opened(server, ca_bundle=authority.bundle)
        assert send(ONE).body == ONE
        go.set()
        assert gone.wait(10)
        assert send(TWO).body == TWO
        assert server.connections == 2


NOT_THE_SERVICES = [
    (200, b""),
    (200, b"<html>in a moment</html>"),
    (200, b"{}"),
    (500, b""),
    (502, b'{"code": "BadGateway"}'),
    (503, b"busy"),
    (504, b'{"code": "Timeout"}'),
]


@pytest.mark.parametrize(("status", "body"), NOT_THE_SERVICES)
def test_what_a_gateway_says_by_itself_costs_the_connection(opened: Any, status: int, body: bytes) -> None:
    """The answer that it had given up waiting for would come as that to the next request."""

    def late(connection: Connection, request: RawRequest) -> None:
        connection.send(http(status, body))
        if connection.read_request() is not None:
            connection.send(http(200, request.body))

    with RawServer(late, default=echo) as server:
        send = opened(server)
        assert send(ONE).status == status
        assert send(TWO).body == TWO
        assert server.connections == 2


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_what_the_service_refuses_costs_no_connection(opened: Any, status: int) -> None:
    """A refusal in its own form is an answer."""
    with RawServer(refuse(status, "Refused"), default=echo) as server:
        send = opened(server)
        assert send(ONE).status == status
        assert send(TWO).body == TWO
        assert server.connections == 1


# --- repeats ---


def test_a_repeated_answer_is_not_believed(opened: Any) -> None:
    """An answer that was to other texts is refused, and the next attempt uses another connection."""
    with RawServer(echo, reply(200, ONE), default=echo) as server:
        send = opened(server)
        assert send(ONE).body == ONE
        with pytest.raises(ResponseError, match="byte for byte"):
            send(TWO)
        assert send(TWO).body == TWO
        assert server.connections == 2


def test_the_same_answer_to_the_same_texts_is_believed(opened: Any) -> None:
    """A request that is sent again may well be answered alike; but its connection is left, lest it was sent twice."""
    with RawServer(default=echo) as server:
        send = opened(server)
        assert [send(ONE).body for _ in range(3)] == [ONE] * 3
        assert server.connections == 2


def test_errors_may_repeat(opened: Any) -> None:
    """Refusals say the same to everybody; the connection is left all the same."""
    with RawServer(default=reply(503, b"busy")) as server:
        send = opened(server)
        assert [send(body).status for body in (ONE, TWO, THREE)] == [503] * 3
        assert server.connections == 3


@pytest.mark.parametrize("status", [200, 503])
def test_what_comes_twice_shifts_no_later_answer(opened: Any, status: int) -> None:
    """The second one, in place of the next request's answer, is the last that is read there."""

    def twice(connection: Connection, request: RawRequest) -> None:
        connection.send(http(status, b"again"))
        echo(connection, request)

    with RawServer(reply(status, b"again"), twice, default=echo) as server:
        send = opened(server)
        assert [send(ONE).body, send(ONE).body] == [b"again"] * 2
        assert [send(body).body for body in (TWO, THREE)] == [TWO, THREE]


# --- deadlines ---


@pytest.mark.parametrize("action", [hang, trickle_body])
def test_the_time_of_one_request_is_held(opened: Any, action: Any) -> None:
    """A request may have less time than the client's time-out; the error says the figure that counted."""
    with RawServer(default=action) as server, pytest.raises(TimedOut, match=r"\b0\.3 seconds"):
        opened(server)(b'{"input": [], "input_type": "query"}', timeout=0.3)


# --- cancellation and the end ---


class Calls:
    """Sync requests of several calls at once, over one transport."""

    def __init__(self, target: Target) -> None:
        self.transport = RequestsTransport(target)
        self.results: dict[bytes, Any] = {}
        self._threads: dict[bytes, threading.Thread] = {}

    def start(self, body: bytes) -> Cancellation:
        """Send a body in a thread of its own."""
        cancellation = Cancellation()

        def run() -> None:
            try:
                self.results[body] = self.transport.send(body, timeout=30, cancellation=cancellation).body
            except TransportError as error:
                self.results[body] = error

        self._threads[body] = threading.Thread(target=run)
        self._threads[body].start()
        return cancellation

    def result(self, body: bytes) -> Any:
        """Wait for what became of a body."""
        self._threads[body].join(10)
        return self.results[body]


def test_a_cancelled_call_ends_alone() -> None:
    """Its request ends at once with an error; the one beside it is answered."""
    go = threading.Event()

    def when_told(connection: Connection, request: RawRequest) -> None:
        go.wait(10)
        echo(connection, request)

    with RawServer(echo, default=when_told) as server:
        calls = Calls(make_target(server))
        calls.start(b"warm")
        assert calls.result(b"warm") == b"warm"
        one = calls.start(ONE)
        calls.start(TWO)
        server.wait_for_requests(3)
        one.cancel()
        assert isinstance(calls.result(ONE), TransportError)
        go.set()
        assert calls.result(TWO) == TWO
        calls.start(THREE)
        assert calls.result(THREE) == THREE
        calls.transport.close()


def test_a_handshake_can_be_cancelled(tmp_path: Path) -> None:
    """A call that waits for the server's side of TLS ends at once."""
    authority = Authority(tmp_path)

    def silent(connection: Connection) -> None:
        connection.wait()
        connection.close()

    with RawServer(on_connect=silent, tls=authority.tls(HOST)) as server:
        calls = Calls(make_target(server, ca_bundle=authority.bundle))
        cancellation = calls.start(ONE)
        server.wait_for_connections(1)
        cancellation.cancel()
        assert isinstance(calls.result(ONE), TransportError)


def test_a_cancelled_call_sends_nothing() -> None:
    """What is cancelled before it begins does not begin."""
    with RawServer(default=echo) as server:
        cancellation = Cancellation()
        cancellation.cancel()
        with pytest.raises(TransportError):
            RequestsTransport(make_target(server)).send(ONE, timeout=10, cancellation=cancellation)
        assert server.requests == []


def test_a_close_leaves_requests_under_way_alone() -> None:
    """What is under way is answered; afterwards its connection is gone."""
    go = threading.Event()

    def when_told(connection: Connection, request: RawRequest) -> None:
        go.wait(10)
        echo(connection, request)

    with RawServer(default=when_told) as server:
        calls = Calls(make_target(server))
        calls.start(ONE)
        server.wait_for_requests(1)
        calls.transport.close()
        go.set()
        assert calls.result(ONE) == ONE
        calls.start(TWO)
        assert calls.result(TWO) == TWO
        assert server.connections == 2


async def test_a_retired_transport_ends_when_nothing_is_under_way() -> None:
    """What is under way is answered; with its end the connections go."""
    go = threading.Event()
    left = threading.Event()

    def when_told(connection: Connection, request: RawRequest) -> None:
        go.wait(10)
        echo(connection, request)
        if connection.read_request() is None:
            left.set()
        connection.close()

    with RawServer(default=when_told) as server:
        transport = AiohttpTransport(make_target(server))
        sending = asyncio.create_task(transport.send(ONE, timeout=10))
        await asyncio.to_thread(server.wait_for_requests, 1)
        await transport.retire()
        go.set()
        assert (await sending).body == ONE
        assert await asyncio.to_thread(left.wait, 10)
        with pytest.raises(TransportError):
            await transport.send(TWO, timeout=10)


async def test_a_cancelled_task_ends_alone() -> None:
    """Its CancelledError comes out; the request beside it is answered."""
    go = threading.Event()

    def when_told(connection: Connection, request: RawRequest) -> None:
        go.wait(10)
        echo(connection, request)

    with RawServer(default=when_told) as server:
        transport = AiohttpTransport(make_target(server))
        one, two = (asyncio.create_task(transport.send(body, timeout=10)) for body in (ONE, TWO))
        await asyncio.to_thread(server.wait_for_requests, 2)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        go.set()
        assert (await two).body == TWO
        await transport.close()


ABANDONED = """
import asyncio, gc, sys, threading
sys.path.insert(0, sys.argv[1])
from opensearch_embed._http.aio import AiohttpTransport
from opensearch_embed._http.target import Target
from opensearch_embed.settings import resolve_settings

async def use():
    settings = resolve_settings(endpoint=sys.argv[2], api_key="OS-1", ca_bundle=sys.argv[3])
    transport = AiohttpTransport(Target(settings, 10, 4))
    await asyncio.gather(*(transport.send(body, timeout=10) for body in (b"one", b"two")))
    return transport

def complain(*_):
    print("unraisable", _)

sys.unraisablehook = complain
loop = asyncio.new_event_loop()
loop.slow_callback_duration = 60
loop._ours = loop.run_until_complete(use())
if sys.argv[4] == "closed":
    loop.close()
    del loop
    gc.collect()
elif sys.argv[4] == "exit":
    loop.close()
else:
    del loop._ours
    gc.collect()
    loop.close()
print("done")
"""


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("end", ["closed", "exit", "dropped"])
def test_an_abandoned_transport_goes_without_a_word(encrypted: bool, end: str, tmp_path: Path) -> None:
    """A loop that nobody closes properly, with what hangs on it: no warning, and the sockets are closed."""
    authority = Authority(tmp_path)
    with RawServer(default=echo, tls=authority.tls(HOST) if encrypted else None) as server:
        arguments = [str(Path(__file__).parent), server.url, authority.bundle, end]
        command = [sys.executable, "-W", "error", "-X", "dev", "-c", ABANDONED, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_dropped_sync_transport_goes_without_a_word() -> None:
    """Its idle connections are closed when it is collected."""
    left = threading.Event()

    def watched(connection: Connection, request: RawRequest) -> None:
        echo(connection, request)
        if connection.read_request() is None:
            left.set()
        connection.close()

    with RawServer(default=watched) as server:
        transport = RequestsTransport(make_target(server))
        assert transport.send(ONE, timeout=10, cancellation=Cancellation()).body == ONE
        del transport
        gc.collect()
        assert left.wait(10)
