"""Connections for `requests` that keep one deadline for a whole answer, and that can be hung up from another thread.

`requests` limits each read from the socket, so a server that sends a byte a second is never too late. urllib3 gives the
socket the time that is left of its total timeout just before the answer is read; here every read is held to that.
"""

import contextlib
import http.client
import io
import socket
import threading
import time
import weakref
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a point in time, and not only for so long a read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._deadline = time.monotonic() + (sock.gettimeout() or 0.0)
        # The socket itself counts who reads it, and closes when both it and its last reader are closed. Behind a proxy
        # that is reached by https, it is inside of the one that is read.
        self._reader = socket.SocketIO(sock, "r")
        inner: Any = getattr(sock, "socket", sock)
        inner._io_refs += 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete in time")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        self._reader.close()
        super().close()


class _DeadlineSocket:
    """As much of a socket as `http.client` asks for when it makes a response."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_DeadlineSocket(sock), *args, **kwargs)  # type: ignore[arg-type]

    def begin(self) -> None:
        super().begin()
        # urllib3 would log what is no header, and that may be anything the server echoes.
        self.msg.defects.clear()
        self.msg.set_payload("")


class LiveConnections:
    """The connections of one session, so that they can be hung up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._in_the_making: dict[HTTPConnection, socket.socket] = {}

    def begin(self, connection: HTTPConnection, sock: socket.socket) -> None:
        """Note a connection whose handshake begins. Its socket is duplicated, since TLS takes it away meanwhile."""
        with self._lock:
            self._in_the_making[connection] = sock.dup()

    def end(self, connection: HTTPConnection) -> None:
        """Note that a connection is made, or has failed."""
        with self._lock:
            self._made.add(connection)
            duplicate = self._in_the_making.pop(connection, None)
        if duplicate is not None:
            duplicate.close()

    def hang_up(self) -> None:
        """End every connection: who waits on one, for a handshake or an answer, gets an error at once."""
        with self._lock:
            sockets = [connection.sock for connection in self._made] + list(self._in_the_making.values())
            for sock in filter(None, sockets):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def pool_classes(self) -> dict[str, type[HTTPConnectionPool]]:
        """Return urllib3's pools, whose connections keep the deadline and are noted here."""
        live = self

        class Noted(HTTPConnection):
            response_class = _Response
            _head: bytes | None = None

            def endheaders(self, *args: Any, **kwargs: Any) -> None:
                self._head = b""
                super().endheaders(*args, **kwargs)

            def send(self, data: Any) -> None:
                # Head and body leave together. Between two system calls another thread may hold the interpreter for
                # long, and the service would get the request later than its turn.
                if self._head == b"":
                    self._head = data
                else:
                    head, self._head = self._head, None
                    super().send(head + data if head else data)

            def _new_conn(self) -> socket.socket:
                sock = super()._new_conn()
                live.begin(self, sock)
                return sock

            def connect(self) -> None:
                try:
                    super().connect()
                finally:
                    live.end(self)

        class NotedEncrypted(Noted, HTTPSConnection):
            pass

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Noted

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = NotedEncrypted

        return {"http": PlainPool, "https": EncryptedPool}
