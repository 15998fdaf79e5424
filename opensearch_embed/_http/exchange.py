"""One sync request under way: its one deadline, its cancellation, and the idle connections that it draws on."""

import math
import os
import socket
import threading
import time
from collections import deque
from typing import Any, Self

from urllib3.util.wait import wait_for_write

from opensearch_embed._http.cancel import Cancellation

CONNECT_SECONDS = 3.0
"""For one address of several, before the next one is tried."""

_here = threading.local()


def running() -> "Exchange":
    """Return the exchange that this thread is in."""
    found: Exchange = _here.exchange
    return found


class Kept:
    """The idle connections of one transport, which all lead to the same place. It takes no lock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: deque[Any] = deque()
        self._closed = False

    def take(self) -> Any:
        """Return a connection that is open and silent, if there is one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_connected:
                return connection
            connection.close()

    def give(self, connection: Any) -> None:
        """Keep a connection for later, unless there are enough."""
        if len(self._idle) >= self._most:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close what is idle, and from now on what is given back."""
        self._closed = True
        while (connection := self.take()) is not None:
            connection.close()


class Exchange:
    """One request and its answer, in the thread that enters it.

    Attributes:
        leftover: Whether more came than the answer.
        returned: The connection, once urllib3 has done with it.
    """

    def __init__(self, timeout: float, cancellation: Cancellation, kept: Kept, until: float = math.inf) -> None:
        self.kept = kept
        self._until = until
        self.leftover = False
        self.returned: Any = None
        self._deadline = time.monotonic() + timeout
        self._cancellation = cancellation
        self._watched: list[socket.socket] = []
        self._sound = False

    def __enter__(self) -> Self:
        self._outer = getattr(_here, "exchange", None)
        _here.exchange = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.exchange = self._outer
        for sock in self._watched:
            self._cancellation.unregister(sock)
            sock.close()
        connection = self.returned
        if connection is None:
            return
        if self._sound and not self.leftover and not self._cancellation.cancelled and not connection.is_closed:
            self.kept.give(connection)
        else:
            connection.close()

    def left(self) -> float:
        """Return the seconds that are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete in time")
        return left

    def watch(self, sock: Any) -> None:
        """Let the call's cancellation end a socket. It is duplicated: TLS takes the original away."""
        duplicate = socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        self._watched.append(duplicate)
        self._cancellation.register(duplicate)

    def believe(self, sent: bytes, received: bytes, status: int) -> None:
        """Take a whole answer, and let the connection be used again. See `LastAnswer.check`."""
        self._sound = self.returned is None or self.returned.last.check(sent, received, status)

    def connect(self, host: str, port: int, options: Any) -> socket.socket:
        """Return a connected socket. An address that is silent leaves the next one, and the answer, their time."""
        problem: OSError = OSError("the name has no address")
        found = socket.getaddrinfo(host.strip("[]"), port, 0, socket.SOCK_STREAM)
        for others, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
            begun, left = time.monotonic(), self.left()
            sock = socket.socket(family, kind, protocol)
            try:
                for option in options or ():
                    sock.setsockopt(*option)
                self._connect_to(sock, address, left if others == 1 else min(CONNECT_SECONDS, left / others))
                return sock
            except OSError as error:
                problem = error
                sock.close()
                if self._cancellation.cancelled or others == 1:
                    break
                self._deadline = min(self._deadline + time.monotonic() - begun, self._until)
            except BaseException:
                sock.close()
                raise
        raise problem

    def _connect_to(self, sock: socket.socket, address: Any, seconds: float) -> None:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            # Watched from here on: before it, there was nothing that could be hung up.
            self.watch(sock)
            if not wait_for_write(sock, timeout=seconds):
                raise TimeoutError("no connection in time") from None
            if (number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                raise OSError(number, os.strerror(number)) from None
        else:
            self.watch(sock)
        sock.settimeout(self.left())
