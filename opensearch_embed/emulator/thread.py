"""An HTTP server in a thread of its own, with its own event loop. Knows nothing of what is served."""

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

HEAD_SECONDS = 30.0
"""For the first request on a connection to come in."""

GRACE_SECONDS = 0.01
"""What requests under way get to finish in when the server stops. aiohttp reads 0 as for ever."""


class ServerThread:
    """Serves `handler` on the listening socket from the moment it is made until `stop`."""

    def __init__(self, handler: Handler, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._stopped = threading.Event()
        ready: Future[Callable[[], object]] = Future()
        serving = self._serve(handler, listener, tls, ready)
        self._thread = threading.Thread(
            target=asyncio.run, args=[serving], name="opensearch-embed-emulator", daemon=True
        )
        self._thread.start()
        try:
            self._request_stop = ready.result()
        except Exception:
            self._thread.join()
            raise

    def stop(self) -> None:
        """Break off what is under way, and return when the thread has ended."""
        self._stopped.set()
        self._request_stop()
        self._thread.join()

    def wait(self) -> None:
        """Block until `stop` is called, or Ctrl-C raises KeyboardInterrupt here."""
        # In turns, since an endless wait cannot be interrupted on every system. On the event and not on the thread,
        # since an interrupted join takes a running thread for ended (CPython 3.11).
        while not self._stopped.wait(timeout=0.5):
            pass

    @staticmethod
    async def _serve(
        handler: Handler,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        ready: Future[Callable[[], object]],
    ) -> None:
        stopping = asyncio.Event()
        # A handler is cancelled when its client leaves: a hanging request ends there.
        server = _Server(handler)
        runner = web.ServerRunner(server, shutdown_timeout=GRACE_SECONDS)
        try:
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=tls).start()
            ready.set_result(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set))
            await stopping.wait()
        except Exception as error:  # noqa: BLE001 (it is raised where the server is started)
            ready.set_exception(error)
        finally:
            await _hang_up(server, listener)
            await runner.cleanup()
            listener.close()


class _Server(web.Server):  # type: ignore[type-arg,unused-ignore]
    """Hangs up on who connects and asks for nothing: a connection that sends half a head would stay for ever."""

    def __init__(self, handler: Handler) -> None:
        async def note(request: web.BaseRequest) -> web.StreamResponse:
            self._silent.discard(request.protocol)
            return await handler(request)

        super().__init__(note, handler_cancellation=True, access_log=None)
        self._silent: set[Any] = set()

    def __call__(self) -> Any:
        protocol = super().__call__()
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(HEAD_SECONDS, self._end_if_silent, protocol)
        return protocol

    def _end_if_silent(self, protocol: Any) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()


async def _hang_up(server: web.Server, listener: socket.socket) -> None:
    """Accept no more, and break off every connection: a polite close under TLS would outlast the loop."""
    # Without this, asyncio (3.11) loses a connection that is being accepted when the server closes. Windows cannot.
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().remove_reader(listener)
    for _ in range(2):  # one turn for what is being accepted to become a connection, one for `server` to know of it
        await asyncio.sleep(0)
    for connection in server.connections:
        if connection.transport is not None:
            connection.transport.abort()
