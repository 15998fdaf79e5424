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
        getattr(sock, "socket", sock)._io_refs += 1

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


class LiveConnections:
    """The connections of one session, so that they can be hung up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()

    def add(self, connection: HTTPConnection) -> None:
        """Note a connection."""
        with self._lock:
            self._connections.add(connection)

    def hang_up(self) -> None:
        """End every connection: who waits for an answer on one gets an error at once."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def pool_classes(self) -> dict[str, type[HTTPConnectionPool]]:
        """Return urllib3's pools, whose connections keep the deadline and are noted here."""
        live = self

        class Plain(HTTPConnection):
            response_class = _Response

            def connect(self) -> None:
                super().connect()
                live.add(self)

        class Encrypted(HTTPSConnection):
            response_class = _Response

            def connect(self) -> None:
                super().connect()
                live.add(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        return {"http": PlainPool, "https": EncryptedPool}
