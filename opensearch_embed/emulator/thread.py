"""An HTTP server in a thread of its own, with its own event loop. Knows nothing of what is served."""

import asyncio
import functools
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

GRACE_SECONDS = 0.01
"""What requests under way get to finish in when the server stops. aiohttp reads 0 as for ever."""


class ServerThread:
    """Serves `handler` on the listening socket from the moment it is made until `stop`."""

    def __init__(self, handler: Handler, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        ready: Future[Callable[[], object]] = Future()
        serving = self._serve(handler, listener, tls, ready)
        self._thread = threading.Thread(
            target=asyncio.run, args=[serving], name="opensearch-embed-emulator", daemon=True
        )
        self._thread.start()
        self._request_stop = ready.result()

    def stop(self) -> None:
        """Break off what is under way, and return when the thread has ended."""
        self._request_stop()
        self._thread.join()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; say whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @staticmethod
    async def _serve(
        handler: Handler,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        ready: Future[Callable[[], object]],
    ) -> None:
        stopping = asyncio.Event()
        # A handler is cancelled when its client leaves: a hanging request ends there.
        server = web.Server(handler, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=GRACE_SECONDS)
        try:
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=tls).start()
            ready.set_result(functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set))
            await stopping.wait()
        except Exception as error:  # noqa: BLE001 (it is raised where the server is started)
            ready.set_exception(error)
        finally:
            await runner.cleanup()
            listener.close()
