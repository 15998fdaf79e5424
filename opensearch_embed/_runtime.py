"""The live things of one client: worker threads, and one transport for threads and one for each event loop.

All are made when first used, and none travels: not by pickle, not by copy, not through a fork.
"""

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opensearch_embed._transport import Target

if TYPE_CHECKING:
    from opensearch_embed._http_aiohttp import AiohttpTransport
    from opensearch_embed._http_requests import RequestsTransport


@dataclass(frozen=True, slots=True)
class LoopRuntime:
    """What belongs to one event loop.

    Attributes:
        transport: Its connections.
        slots: Bounds the requests under way, over all calls in this loop.
        holder: Keeps the transport open; the loop itself closes it at its end.
    """

    transport: "AiohttpTransport"
    slots: asyncio.Semaphore
    holder: "AsyncGenerator[AiohttpTransport, None]"


class Runtime:
    """Makes the live things when they are first asked for, once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._transport: RequestsTransport | None = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopRuntime] = weakref.WeakKeyDictionary()

    def submit(self, task: Callable[..., None], *args: Any) -> None:
        """Run a task on a worker thread; there are as many as requests may be under way.

        Raises:
            RuntimeError: The interpreter is shutting down.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._target.connections, thread_name_prefix="opensearch-embed")
            self._pool.submit(task, *args)

    @property
    def transport(self) -> "RequestsTransport":
        """The transport for threads."""
        with self._lock:
            if self._transport is None:
                from opensearch_embed._http_requests import RequestsTransport

                self._transport = RequestsTransport(self._target)
            return self._transport

    def hang_up(self) -> None:
        """End the requests that threads have under way."""
        with self._lock:
            if self._transport is not None:
                self._transport.hang_up()

    async def here(self) -> LoopRuntime:
        """Return what belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._loops.get(loop)
            if found is None:
                for closed in [other for other in self._loops if other.is_closed()]:
                    del self._loops[closed]
        if found is None:
            # Importing aiohttp and reading certificates takes long, so it is not done on the loop.
            await asyncio.to_thread(self._prepare)
            with self._lock:
                found = self._loops.get(loop)
        if found is None:
            # An event loop ends the async generators that were started in it (`asyncio.run` does, above all). So a
            # session held in one is closed in time, with no warning, without anybody calling aclose().
            holder = self._hold(loop)
            found = LoopRuntime(await anext(holder), asyncio.Semaphore(self._target.connections), holder)
            with self._lock:
                self._loops[loop] = found
        return found

    def _prepare(self) -> None:
        import_module("opensearch_embed._http_aiohttp")
        _ = self._target.ssl_context

    async def _hold(self, loop: asyncio.AbstractEventLoop) -> "AsyncGenerator[AiohttpTransport, None]":
        from opensearch_embed._http_aiohttp import AiohttpTransport

        transport = AiohttpTransport(self._target)
        try:
            yield transport
        finally:
            with self._lock:
                self._loops.pop(loop, None)
            await transport.close()

    def close(self) -> None:
        """End the worker threads, when their work is done, and close the connections of threads."""
        with self._lock:
            pool, self._pool = self._pool, None
            transport, self._transport = self._transport, None
        if pool is not None:
            pool.shutdown()
        if transport is not None:
            transport.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        with self._lock:
            found = self._loops.get(asyncio.get_running_loop())
        if found is not None:
            await found.holder.aclose()
