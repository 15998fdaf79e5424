"""Connections for `requests` that keep one deadline for a whole request, and that can be hung up from another thread.

`requests` limits each read from the socket, so a server that sends a byte a second is never too late. Here all that a
request does, from the connection to the last byte of the answer, is held to one point in time.
"""

import http.client
import io
import socket
import ssl
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from opensearch_embed._http.belonging import MAX_INTERIM, LastAnswer, is_quiet
from opensearch_embed._http.exchange import Exchange, running


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a point in time, and not only for so long a read."""

    def __init__(self, sock: socket.socket, exchange: Exchange) -> None:
        self._sock = sock
        self._exchange = exchange
        self.ended = False
        # The socket itself counts who reads it, and closes when both it and its last reader are closed. Behind a proxy
        # that is reached by https, it is inside of the one that is read.
        self._reader = socket.SocketIO(sock, "r")
        inner: Any = getattr(sock, "socket", sock)
        inner._io_refs += 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.ended:
            return 0
        self._sock.settimeout(self._exchange.left())
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        self._reader.close()
        super().close()


class _DeadlineSocket:
    """As much of a socket as `http.client` asks for when it makes a response."""

    def __init__(self, reader: _DeadlineReader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        self._exchange = running()
        self._reader = _DeadlineReader(sock, self._exchange)
        super().__init__(_DeadlineSocket(self._reader), *args, **kwargs)  # type: ignore[arg-type]  # it asks of a socket only that

    def begin(self) -> None:
        super().begin()
        # urllib3 would log what is no header, and that may be anything the server echoes.
        self.msg.defects.clear()
        self.msg.set_payload("")

    def _read_status(self) -> tuple[str, int, str]:
        # http.client skips 100 alone, and takes any other interim answer for the one that it waits for.
        for _ in range(MAX_INTERIM + 1):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # typeshed leaves it out
            if not 100 <= found[1] < 200:
                return found
            if found[1] == http.client.SWITCHING_PROTOCOLS:
                break
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("interim answers, and no other")

    def _close_conn(self) -> None:
        self._reader.ended = True  # what is looked at here is only what has been read
        if self.fp.peek(1):
            self._exchange.leftover = True
        super()._close_conn()  # type: ignore[misc]  # typeshed leaves it out


class _DeadlineSSLSocket(ssl.SSLSocket):
    """The encrypted way to a proxy. What is encrypted inside of it is read in pieces, all within one deadline."""

    def recv(self, *args: Any) -> bytes:
        self.settimeout(running().left())
        return super().recv(*args)

    def sendall(self, *args: Any) -> None:
        self.settimeout(running().left())
        super().sendall(*args)


def keeping_deadlines(context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """Let a context make sockets that keep the deadline. They work inside of an `Exchange` alone."""
    if context is not None:
        context.sslsocket_class = _DeadlineSSLSocket
    return context


class _Connection(HTTPConnection):
    response_class = _Response
    debuglevel = 0  # whoever raises it on http.client's class would have headers printed
    _head: bytes | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last = LastAnswer()

    @property
    def is_connected(self) -> bool:
        """Whether it is open and has nothing to say, neither in the socket nor decrypted already."""
        sock: Any = self.sock
        return sock is not None and is_quiet(sock)

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        self._head = b""
        super().endheaders(*args, **kwargs)

    def send(self, data: Any) -> None:
        # Head and body leave together. Between two system calls another thread may hold the interpreter for long, and
        # the service would get the request later than its turn.
        if self._head == b"":
            self._head = data
            return
        head, self._head = self._head, None
        if self.sock is None:
            self.connect()
        unsent = memoryview(head + data if head else data)
        while unsent:
            self.sock.settimeout(running().left())
            unsent = unsent[self.sock.send(unsent) :]

    def _new_conn(self) -> socket.socket:
        try:
            return running().connect(self._dns_host, self.port, self.socket_options)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, error) from error  # type: ignore[arg-type]  # it asks of a socket only that
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"Connection to {self.host} timed out.") from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error


class _EncryptedConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    """Takes connections from the running exchange's transport and gives them back to the exchange."""

    ConnectionCls = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - nobody waits
        exchange = running()
        connection = exchange.kept.take()
        if connection is None:
            return self._new_conn()
        exchange.watch(connection.sock)
        return connection

    def _put_conn(self, conn: Any) -> None:
        running().returned = conn


class _EncryptedPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _EncryptedConnection


POOL_CLASSES: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _EncryptedPool}
"""urllib3's pools by scheme. They work inside of an `Exchange` alone."""
