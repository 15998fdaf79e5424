"""The end of one sync call's requests, asked for from another thread.

Nothing here takes a lock: `cancel` may be called by the garbage collector, which runs in any thread at any point.
"""

import contextlib
import os
import socket
import time


class Cancellation:
    """Ends the requests under way of one call, and of no other.

    Attributes:
        cancelled: Whether `cancel` was called.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self._pid = os.getpid()
        self._sockets: dict[int, socket.socket] = {}
        self._ending: list[None] = []

    def cancel(self) -> None:
        """End what is under way, and what is begun later, from any thread."""
        self.cancelled = True
        if os.getpid() != self._pid:
            return  # a forked child lets go of what it inherited: the connections are the parent's
        self._ending.append(None)
        try:
            for sock in list(self._sockets.values()):
                _hang_up(sock)
        finally:
            self._ending.pop()

    def register(self, sock: socket.socket) -> None:
        """Note a socket, which stays open until it is unregistered."""
        self._sockets[id(sock)] = sock
        if self.cancelled:
            _hang_up(sock)

    def unregister(self, sock: socket.socket) -> None:
        """Forget a socket. From here on it may be closed."""
        self._sockets.pop(id(sock), None)
        # Who is just ending it has its number, which may be another's once it is closed.
        while self._ending:
            time.sleep(0)


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
