"""The wire itself: prepared requests over keep-alive sockets, in one thread, with nothing of HTTP but the length.

Replies are thrown away, which no client can beat; or read by orjson and nothing else, which no client that returns
lists of floats can beat on one core. So these two lines show how far the limit is.
"""

import re
import selectors
import socket
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.job import BATCH, KEY, MODEL

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def prepare(url: str, texts: list[str], input_type: str = "document") -> bytes:
    """One request, head and body."""
    body = orjson.dumps({"input": texts, "input_type": input_type})
    path = f"/v3/openapi/workspaces/default/text-embedding/{MODEL}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def prepare_all(url: str, texts: list[str]) -> list[bytes]:
    """The requests for all texts."""
    return [prepare(url, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]


class Wire:
    """One keep-alive connection with a buffer that holds a whole reply.

    Args:
        url: Where the server listens.
        buffer: At least as long as a reply if the reply is to be read; it may be shared if it is not.
        keep: Whether the reply is to be read: if not, each piece overwrites the one before.
    """

    def __init__(self, url: str, buffer: bytearray, *, keep: bool = False) -> None:
        parts = urlsplit(url)
        self.sock = socket.create_connection((parts.hostname, parts.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(buffer)
        self._bytes = buffer
        self._keep = keep
        self._begin = self._end = self._received = 0

    def send(self, request: bytes) -> None:
        """Send one request; they are small enough for the socket's buffer."""
        self._begin = self._end = self._received = 0
        self.sock.sendall(request)

    def receive(self) -> bool:
        """Read what is there; whether the reply is now complete."""
        size = self.sock.recv_into(self._buffer[self._received :] if self._keep else self._buffer)
        if not size:
            raise ConnectionError("the server hung up")
        if not self._received:
            self._begin = self._bytes.find(b"\r\n\r\n", 0, size) + 4
            length = _LENGTH.search(self._bytes, 0, self._begin)
            if length is None or not self._bytes.startswith(b"HTTP/1.1 200"):
                raise ConnectionError("the server did not answer 200 with a Content-Length")
            self._end = self._begin + int(length[1])
        self._received += size
        return self._received == self._end

    def body(self) -> memoryview:
        """The reply's body, until the next request is sent."""
        return self._buffer[self._begin : self._end]


def exchange_all(url: str, requests: list[bytes], *, decode: bool = False, connections: int = BATCH) -> list[Any]:
    """Send every request over so many connections at once.

    Returns:
        With `decode`, the vectors in order, as orjson reads them and unchecked; else nothing: replies are thrown away.
    """
    waiting = iter(enumerate(requests))
    replies: list[Any] = [None] * len(requests)
    shared = bytearray(1 << 20)
    done = 0
    with selectors.DefaultSelector() as selector:

        def send_next(wire: Wire) -> bool:
            number, request = next(waiting, (-1, b""))
            if request:
                wire.send(request)
                selector.register(wire.sock, selectors.EVENT_READ, (wire, number))
            return bool(request)

        wires = [Wire(url, bytearray(1 << 20) if decode else shared, keep=decode) for _ in requests[:connections]]
        for wire in wires:
            send_next(wire)
        while done < len(requests):
            for key, _ in selector.select():
                wire, number = key.data
                if wire.receive():
                    done += 1
                    selector.unregister(wire.sock)
                    if decode:
                        replies[number] = orjson.loads(wire.body())
                    send_next(wire)
        for wire in wires:
            wire.sock.close()
    if not decode:
        return []
    return [item["embedding"] for reply in replies for item in reply["result"]["embeddings"]]
