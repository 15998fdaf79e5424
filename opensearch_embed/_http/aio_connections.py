"""The connections of the async transport: given out when they are silent, taken back when their answer is believed.

When the garbage collector takes them, together with an event loop that nobody closed or that closed without them, their
sockets are closed without a word. Nothing has to be called for that, so nothing has to refer to the loop.
"""

import asyncio
import contextlib
import socket
import weakref
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from opensearch_embed._http.belonging import MAX_INTERIM, LastAnswer, is_quiet
from opensearch_embed._http.target import Target

END_OF_HEAD = b"\r\n\r\n"
END_OF_CHUNKS = b"0\r\n\r\n"


class Protocol(ResponseHandler):
    """Reads answers, and notices what comes besides them.

    aiohttp parses whatever comes. A head that is begun after an answer leaves no trace in it, and bytes that are no
    head spoil the answer before them if they come with it. So it gets the head alone, and then not more than the body.

    Attributes:
        last: The last answer.
        released: With what aiohttp has given the connection back, while its answer is not believed yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.last = LastAnswer()
        self.released: Any = None
        self._expect()

    def _expect(self) -> None:
        self._end = b""
        self._interim = 0
        self._body: Any = None
        self._missing: int | None = None

    def set_response_params(self, *args: Any, **kwargs: Any) -> None:
        """Begin a request."""
        self._expect()
        super().set_response_params(*args, **kwargs)

    def data_received(self, data: bytes) -> None:
        """Take what came from the socket."""
        while data:
            if self._body is None:
                # The blank line may have come in pieces.
                at = (self._end + data).find(END_OF_HEAD)
                size = len(data) if at < 0 else at + len(END_OF_HEAD) - len(self._end)
            elif self._body.is_eof() and not self.upgraded:
                self.force_close()
                return
            else:
                size = len(data) if self._missing is None else min(len(data), self._missing)
            part, data = data[:size], data[size:]
            self._end = (self._end + part[-len(END_OF_CHUNKS) :])[-len(END_OF_CHUNKS) :]
            self._feed(part)

    def _feed(self, part: bytes) -> None:
        if self._body is None:
            super().data_received(part)
            self._end = b"" if self._end.endswith(END_OF_HEAD) else self._end[-len(END_OF_HEAD) + 1 :]
            return
        if self._missing is not None:
            self._missing -= len(part)
        super().data_received(part)
        if self._missing is None and self._body is not None and self._body.is_eof() and self._end != END_OF_CHUNKS:
            self.force_close()  # there is more than the chunks

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take a parsed head with its body to come."""
        message, body = data
        if 100 <= message.code < 200 and message.code != 101:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self.set_exception(aiohttp.ServerDisconnectedError("interim answers, and no other"))
                if self.transport is not None:
                    self.transport.abort()
            return
        self._body = body
        length = message.headers.get("Content-Length", "")
        if not message.chunked and length.isdecimal():
            self._missing = int(length)
        super().feed_data(data, size)


class Connector(aiohttp.TCPConnector):
    """Gives out silent connections alone, and takes them back when `settle` says so."""

    def __init__(self, target: Target) -> None:
        # The client bounds its concurrency itself, so the connector need not.
        # The resolver is the system's, as for threads.
        super().__init__(limit=0, ssl=target.ssl_context or True, resolver=aiohttp.ThreadedResolver())
        self._factory: Any = partial(Protocol, loop=self._loop)
        self._opened: weakref.WeakSet[Any] = weakref.WeakSet()

    def __del__(self, *_: object) -> None:
        """Say nothing, where aiohttp would complain."""

    async def _get(self, *args: Any, **kwargs: Any) -> Any:
        while (connection := await super()._get(*args, **kwargs)) is not None:
            protocol: Any = connection.protocol
            if not protocol.should_close and is_quiet(protocol.transport.get_extra_info("socket")):
                return connection
            connection.close()
        return None

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        if should_close or protocol.should_close:
            super()._release(key, protocol, should_close=True)
        else:
            protocol.released = key

    def settle(self, protocol: Any) -> None:
        """Let a connection be used again whose answer has been looked at."""
        key, protocol.released = protocol.released, None
        if key is not None:
            super()._release(key, protocol)

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        protocol = await super()._create_connection(*args, **kwargs)
        if protocol.transport is not None:
            self._opened.add(protocol.transport)
            _quieten(protocol.transport)
        return protocol

    def abort(self) -> None:
        """Close every socket, also those that aiohttp has let go and that wait for the peer's good-bye."""
        for transport in list(self._opened):
            transport.abort()
        self._close()


class _QuietSocket(socket.socket):
    __slots__ = ()

    def __del__(self) -> None:
        self.close()


def _quieten(transport: Any) -> None:
    """Let a transport and its socket end without a warning. Event loops other than asyncio's have others: they stay."""
    with contextlib.suppress(AttributeError, TypeError):
        while (encrypted := getattr(transport, "_ssl_protocol", None)) is not None:
            transport.__class__ = _quiet(type(transport))
            transport = encrypted._transport
        transport.__class__ = _quiet(type(transport))
        if type(transport._sock) is socket.socket:
            transport._sock.__class__ = _QuietSocket


_quiet_kinds: dict[type, type] = {}


def _quiet(kind: type) -> type:
    if kind not in _quiet_kinds:
        quiet = type(kind.__name__, (kind,), {"__del__": lambda _: None})
        _quiet_kinds[kind] = _quiet_kinds[quiet] = quiet
    return _quiet_kinds[kind]
