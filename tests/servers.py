"""Small servers that misbehave on purpose: raw sockets, one thread a connection, scripted request by request.

The emulator speaks HTTP well even when it fails; these need not. What they answer honestly is an oracle of their own,
`vector`: four numbers from a hash of role and text.
"""

import contextlib
import email.parser
import gzip
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
MODEL = "four-numbers"
DIMENSION = 4
KEY = "OS-3f7c1d9ab25e8864-key"
REQUEST_ID = "R-7D1E"


def vector(text: str, input_type: str = "document") -> list[float]:
    """Return the right vector of a text in a role: numbers that float32 holds exactly."""
    digest = hashlib.blake2b(f"{input_type}:{text}".encode(), digest_size=2 * DIMENSION).digest()
    return [number / 65536 - 0.5 for number in struct.unpack(f"<{DIMENSION}H", digest)]


@dataclass(frozen=True)
class RawRequest:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body, parsed."""
        return json.loads(self.body)


class Connection:
    """One accepted connection, as an action sees it."""

    def __init__(self, sock: socket.socket, server: "RawServer") -> None:
        self.sock = sock
        self.server = server
        self.open = True
        self._reader: Any = None

    def read_request(self, *, with_body: bool = True) -> RawRequest | None:
        """Read one request; `None` when the peer has left."""
        self._reader = self._reader or self.sock.makefile("rb")
        line = self._reader.readline()
        if not line.strip().isascii() or line.count(b" ") < 2:
            return None
        method, target, _ = line.decode().split(" ", 2)
        head = b""
        while (line := self._reader.readline()).strip():
            head += line
        headers = email.parser.BytesHeaderParser().parsebytes(head)
        size = int(headers.get("Content-Length", 0)) if with_body else 0
        body = self._reader.read(size)
        if len(body) < size:
            return None
        return RawRequest(method, target, headers, body)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def trickle(self, data: bytes, seconds: float) -> None:
        """Send one byte at a time, until the peer leaves or the server stops."""
        for byte in data:
            self.send(bytes([byte]))
            if self.server.stopping.wait(seconds):
                return

    def wait(self) -> None:
        """Stay silent until the peer leaves or the server stops."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(65536):
                pass

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.open = False
        if self._reader is not None:
            self._reader.close()
        self.sock.close()


Action = Callable[[Connection, RawRequest], None]


class RawServer:
    """Gives each request, in the order they arrive, to the next action of its script; then answers honestly.

    Args:
        script: What is done to the first requests.
        default: What is done to all later ones.
        on_connect: Called for each new connection, before anything is read.
        tls: Serve https with this context.
    """

    def __init__(
        self,
        *script: Action,
        default: "Action | None" = None,
        on_connect: Callable[[Connection], object] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[RawRequest] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._script = deque(script)
        self._default = default or honest
        self._on_connect = on_connect
        self._tls = tls
        self._changed = threading.Condition()
        self._open: set[Connection] = set()
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        with self._changed:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5)

    @property
    def url(self) -> str:
        """The endpoint for a client."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    def wait_for_requests(self, count: int, seconds: float = 10.0) -> None:
        """Block until so many requests have come in."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, seconds), f"{len(self.requests)} came"

    def wait_for_connections(self, count: int, seconds: float = 10.0) -> None:
        """Block until so many connections have been accepted."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.connections >= count, seconds), f"{self.connections} came"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(sock, self)
            with self._changed:
                self.connections += 1
                self._open.add(connection)
                self._changed.notify_all()
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._on_connect is not None:
                self._on_connect(connection)
            if self._tls is not None and connection.open:
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            while connection.open and (request := connection.read_request()) is not None:
                self.note(request)(connection, request)
        except OSError:
            pass  # the client has left, or the server stops
        finally:
            with self._changed:
                self._open.discard(connection)
            connection.close()

    def note(self, request: RawRequest) -> Action:
        """Remember a request, and return what is to be done with it."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            return self._script.popleft() if self._script else self._default


# --- replies ---


def http(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole reply; its length is said unless the headers say how it is sent."""
    fields = {"Content-Type": "application/json", **(headers or {})}
    if "Transfer-Encoding" not in fields:
        fields.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body


def payload(request: RawRequest) -> dict[str, Any]:
    """Return the honest answer to a request."""
    texts, role = request.json["input"], request.json["input_type"]
    return {
        "request_id": REQUEST_ID,
        "latency": 1,
        "usage": {"token_count": len(texts)},
        "result": {"embeddings": [{"index": i, "embedding": vector(text, role)} for i, text in enumerate(texts)]},
    }


def answer(request: RawRequest) -> bytes:
    """Return the body of the honest answer."""
    return json.dumps(payload(request)).encode()


def chunked(body: bytes, size: int = 1000) -> bytes:
    """Return a body in chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


# --- actions ---


def honest(connection: Connection, request: RawRequest) -> None:
    """Answer as the service would."""
    connection.send(http(200, answer(request)))


def reply(status: int = 200, body: bytes | str | dict[str, Any] = b"", **headers: str) -> Action:
    """Answer every request with this; underscores in the names of headers are hyphens."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda connection, _: connection.send(http(status, raw, fields))


def refuse(status: int, code: str | None = None, message: str = "No.", **headers: str) -> Action:
    """Answer with the service's error body."""
    return reply(status, {"request_id": REQUEST_ID, "latency": 0, "code": code, "message": message}, **headers)


def altered(change: Callable[[list[dict[str, Any]]], object]) -> Action:
    """Answer with an honest reply whose list of embeddings is changed by `change`."""

    def act(connection: Connection, request: RawRequest) -> None:
        content = payload(request)
        change(content["result"]["embeddings"])
        connection.send(http(200, json.dumps(content).encode()))

    return act


def replaced(old: bytes, new: bytes) -> Action:
    """Answer with an honest reply in which some bytes are others."""

    def act(connection: Connection, request: RawRequest) -> None:
        body = answer(request)
        assert old in body
        connection.send(http(200, body.replace(old, new, 1)))

    return act


def raw(data: bytes, *, then: str = "close") -> Action:
    """Send these bytes, whatever they are, and close or reset the connection."""

    def act(connection: Connection, _: RawRequest) -> None:
        connection.send(data)
        getattr(connection, then)()

    return act


def cut(connection: Connection, request: RawRequest) -> None:
    """Close the connection after half of the body."""
    whole = http(200, answer(request))
    connection.send(whole[: -len(answer(request)) // 2])
    connection.close()


def cut_chunks(connection: Connection, request: RawRequest) -> None:
    """Close the connection between two chunks."""
    connection.send(http(200, chunked(answer(request), 100)[:-5], {"Transfer-Encoding": "chunked"}))
    connection.close()


def reset_in_body(connection: Connection, request: RawRequest) -> None:
    """Reset the connection after half of the body."""
    connection.send(http(200, answer(request))[: -len(answer(request)) // 2])
    connection.reset()


def reset_after_request(connection: Connection, _: RawRequest) -> None:
    """Reset the connection when the request is read."""
    connection.reset()


def close_after_request(connection: Connection, _: RawRequest) -> None:
    """Close the connection when the request is read."""
    connection.close()


def garbled(connection: Connection, request: RawRequest) -> None:
    """Answer with half of the JSON as if it were all."""
    body = answer(request)
    connection.send(http(200, body[: len(body) // 2]))


def hang(connection: Connection, _: RawRequest) -> None:
    """Never answer."""
    connection.wait()


def trickle_body(connection: Connection, request: RawRequest) -> None:
    """Send the body byte by byte, with no silence long enough for a read timeout."""
    body = answer(request)
    connection.send(http(200, body)[: -len(body)])
    connection.trickle(body, 0.05)


def trickle_all(connection: Connection, request: RawRequest) -> None:
    """Send everything byte by byte."""
    connection.trickle(http(200, answer(request)), 0.05)


def gzipped(connection: Connection, request: RawRequest) -> None:
    """Answer honestly, compressed, though nobody asked."""
    connection.send(http(200, gzip.compress(answer(request)), {"Content-Encoding": "gzip"}))


def in_chunks(connection: Connection, request: RawRequest) -> None:
    """Answer honestly, in chunks."""
    connection.send(http(200, chunked(answer(request)), {"Transfer-Encoding": "chunked"}))


def until_close(connection: Connection, request: RawRequest) -> None:
    """Answer honestly, with the end of the connection as the end of the body."""
    connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + answer(request))
    connection.close()


def close_when_idle(connection: Connection, request: RawRequest) -> None:
    """Answer honestly, promise to keep the connection, and reset it when the next request comes."""
    honest(connection, request)
    connection.sock.recv(1)
    connection.reset()


# --- a proxy ---


class Proxy(RawServer):
    """A forward proxy that takes every name for `upstream`. Its `requests` are what clients ask of it."""

    def __init__(self, upstream: int, *script: Action, tls: ssl.SSLContext | None = None) -> None:
        self._upstream = upstream
        super().__init__(*script, default=self._forward, tls=tls)

    def _forward(self, connection: Connection, request: RawRequest) -> None:
        with socket.create_connection((HOST, self._upstream)) as upstream:
            if request.method == "CONNECT":
                connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pump, args=[upstream, connection.sock], daemon=True)
                back.start()
                pump(connection.sock, upstream)
                back.join()
            else:
                fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
                path = urlsplit(request.target).path
                upstream.sendall(f"{request.method} {path} HTTP/1.1\r\n{fields}\r\n".encode() + request.body)
                upstream.shutdown(socket.SHUT_WR)
                while data := upstream.recv(65536):
                    connection.send(data)
            connection.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until there are no more."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
