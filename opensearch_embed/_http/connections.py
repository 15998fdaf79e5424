"""The connections of one client: one transport for its threads, and one for each event loop.

All are made when first used, and none travels: not by pickle, not by copy, not through a fork.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from opensearch_embed._http.per_loop import PerLoop
from opensearch_embed._http.target import Target
from opensearch_embed._loading import load

if TYPE_CHECKING:
    from opensearch_embed._http.aio import AiohttpTransport
    from opensearch_embed._http.sync import RequestsTransport

Offload = Callable[..., Awaitable[Any]]


class _Link:
    """A transport in its event loop; when both are collected, its sockets are closed (see `aio_connections`).

    An event loop ends the async generators that were started in it (`asyncio.run` does, above all). So a session held
    in one is closed in time, with no warning, without anybody calling `aclose`.
    """

    def __init__(self, transport: "AiohttpTransport") -> None:
        self.transport = transport
        self.ended: list[bool] = []
        self.holder = _hold(transport, self.ended)


class Connections:
    """Makes transports when they are first asked for.

    Args:
        target: Where requests go.
        offload: Runs on another thread what would block the event loop for long.
    """

    def __init__(self, target: Target, offload: Offload) -> None:
        self._target = target
        self._offload = offload
        self._of_threads: dict[str, RequestsTransport] = {}
        self._links: PerLoop[_Link] = PerLoop()

    def transport(self) -> "RequestsTransport":
        """Return the transport for threads."""
        found = self._of_threads.get("")
        if found is None:
            make = load("opensearch_embed._http.sync").RequestsTransport
            # Of two threads that come here at once, one wins, without a lock that a fork could leave locked.
            found = self._of_threads.setdefault("", make(self._target))
        return found

    async def here(self) -> _Link:
        """Return what holds the transport of the running event loop. It is open as long as that is referred to."""
        found = self._links.get()
        if found is not None and found.ended:  # the loop was shut down, and runs again
            self._links.pop()
            found = None
        if found is None:
            # Importing aiohttp and reading certificates takes long, so it is not done on the loop.
            await self._offload(self._prepare)
            found = self._links.get()
        if found is None:
            link = _Link(load("opensearch_embed._http.aio").AiohttpTransport(self._target))
            await anext(link.holder)
            found = self._links.setdefault(lambda: link)
        return found

    def _prepare(self) -> None:
        load("opensearch_embed._http.aio")
        _ = self._target.ssl_context

    def close(self) -> None:
        """Close the connections of threads that are idle, and the others when they are. The next use opens new ones."""
        transport = self._of_threads.pop("", None)
        if transport is not None:
            transport.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop: those that are idle now, and the others when they are."""
        link = self._links.pop()
        if link is not None:
            await link.transport.retire()


async def _hold(transport: "AiohttpTransport", ended: list[bool]) -> "AsyncGenerator[None, None]":
    try:
        yield
    finally:
        ended.append(True)
        await transport.close()
