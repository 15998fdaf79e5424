"""A server that is never the bottleneck: raw sockets on an event loop, replies rendered beforehand, no HTTP library.

It knows just enough HTTP for the clients under test: keep-alive and Content-Length. `POST /reset` sets latency and
quota and forgets the counts; `GET /stats` reports them. Every other POST is an embedding request: in OpenAI's form if
its path ends in `/v1/embeddings`, else in the vendor's.
"""

import argparse
import asyncio
import contextlib
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.replies import FORMS, THROTTLED, UNAVAILABLE, Replies, error_reply, http_reply
from benchmarks.windows import WINDOWS, Window

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OPENAI = re.compile(rb"POST \S*/v1/embeddings ")
_CHUNK = 1 << 18


@dataclass(slots=True)
class Counts:
    """What has arrived since the last reset. Times are seconds of the server's clock."""

    admitted_at: list[float] = field(default_factory=list)
    rejected_at: list[float] = field(default_factory=list)
    down_at: list[float] = field(default_factory=list)
    queries_at: list[float] = field(default_factory=list)
    start: float | None = None
    texts: int = 0
    connections: int = 0
    open_requests: int = 0
    most_open: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON takes them; arrival times count from the first arrival."""
        start = self.start or 0.0
        return {
            "admitted": len(self.admitted_at),
            "rejected": len(self.rejected_at),
            "texts": self.texts,
            "connections": self.connections,
            "most_open": self.most_open,
            "admitted_at": [round(at - start, 4) for at in self.admitted_at],
            "rejected_at": [round(at - start, 4) for at in self.rejected_at],
            "down_at": [round(at - start, 4) for at in self.down_at],
            "queries_at": [round(at - start, 4) for at in self.queries_at],
        }


@dataclass(frozen=True, slots=True)
class Outage:
    """All that arrives between two moments is refused at once. Seconds from the first arrival after the reset.

    Attributes:
        after: When it begins.
        seconds: How long it lasts.
        status: 503, the service is away; or 429, a storm of them.
    """

    after: float
    seconds: float
    status: int = 503

    @property
    def reply(self) -> bytes:
        """What is answered meanwhile."""
        return THROTTLED if self.status == 429 else UNAVAILABLE


class Service:
    """What is answered, and when."""

    def __init__(self, dimension: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.replies = {form: Replies(dimension, form) for form in FORMS}
        self.counts = Counts()
        self.latency = 0.0
        self.marked = False
        self.window: Window | None = None
        self.outage: Outage | None = None

    def reset(self, settings: dict[str, Any]) -> None:
        """Forget the counts and take new settings: `latency_ms`, `qps` (or none), `window`, `marked`, `outage`."""
        self.counts = Counts()
        self.latency = settings.get("latency_ms", 0) / 1000
        self.marked = bool(settings.get("marked", False))
        qps = settings.get("qps")
        self.window = WINDOWS[settings.get("window", "fixed")](qps) if qps else None
        outage = settings.get("outage")
        self.outage = Outage(**outage) if outage else None

    def answer(self, connection: "Connection", head: bytes, body: bytes) -> None:
        """Answer one request, at once or after the latency."""
        if head.startswith(b"GET /stats "):
            connection.send(http_reply("200 OK", orjson.dumps(self.counts.as_dict())))
        elif head.startswith(b"POST /reset "):
            self.reset(orjson.loads(body))
            connection.send(http_reply("200 OK", b"{}"))
        else:
            self._embed(connection, "openai" if _OPENAI.match(head) else "vendor", body)

    def _embed(self, connection: "Connection", form: str, body: bytes) -> None:
        now = self.loop.time()
        counts = self.counts
        if counts.start is None:
            counts.start = now
        if self.outage is not None and 0 <= now - counts.start - self.outage.after < self.outage.seconds:
            counts.down_at.append(now)
            connection.send(self.outage.reply)
            return
        if self.window is not None and not self.window.admit(now):
            counts.rejected_at.append(now)
            connection.send(THROTTLED)
            return
        request = orjson.loads(body)
        texts = request["input"]
        texts = [texts] if isinstance(texts, str) else texts
        counts.admitted_at.append(now)
        if request.get("input_type") == "query":
            counts.queries_at.append(now)
        counts.texts += len(texts)
        counts.open_requests += 1
        counts.most_open = max(counts.most_open, counts.open_requests)
        replies = self.replies[form]
        reply = replies.marked(texts) if self.marked else replies.plain(len(texts))
        if self.latency:
            self.loop.call_later(self.latency, self._finish, connection, reply, counts)
        else:
            self._finish(connection, reply, counts)

    def _finish(self, connection: "Connection", reply: bytes, counts: Counts) -> None:
        counts.open_requests -= 1
        connection.send(reply)


class Connection:
    """One client's connection. Replies are sent from where they lie: asyncio's transports would copy the rest."""

    def __init__(self, service: Service, sock: socket.socket) -> None:
        self._service = service
        self._loop = service.loop
        self._sock = sock
        self._received = bytearray()
        self._unsent = memoryview(b"")
        service.counts.connections += 1
        self._loop.add_reader(sock, self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        while (request := self._take_request()) is not None:
            self._service.answer(self, *request)

    def _take_request(self) -> tuple[bytes, bytes] | None:
        """Head and body of the next whole request, if it has arrived."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end])
        length = _LENGTH.search(head)
        if length is None and head.startswith(b"POST"):
            self.send(error_reply("411 Length Required", "InvalidParameter", "no Content-Length"))
        stop = end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < stop:
            return None
        body = bytes(self._received[end + 4 : stop])
        del self._received[:stop]
        return head, body

    def send(self, reply: bytes) -> None:
        """Send all of the reply, as fast as the client takes it."""
        if self._sock.fileno() < 0:  # the client has gone
            return
        self._unsent = memoryview(reply)
        self._write()

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._unsent:
            self._loop.add_writer(self._sock, self._write)
        else:
            self._loop.remove_writer(self._sock)

    def close(self) -> None:
        """Forget the connection."""
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()


async def serve(port: int, settings: dict[str, Any], dimension: int) -> None:
    """Accept clients until killed. The first line printed is the port."""
    service = Service(dimension)
    service.reset(settings)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        while True:
            sock, _ = await service.loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(service, sock)


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--qps", type=float, default=None, help="no limit if left out")
    parser.add_argument("--window", choices=list(WINDOWS), default="fixed")
    parser.add_argument("--core", type=int, default=None, help="the core to stay on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    settings = {"latency_ms": options.latency_ms, "qps": options.qps, "window": options.window}
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, settings, options.dimension))


if __name__ == "__main__":
    main()
