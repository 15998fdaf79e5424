"""The async transport: the only file that imports aiohttp (the emulator aside)."""

import asyncio
import io
import math
import time
import weakref
from typing import Any

import aiohttp

from opensearch_embed._refusal import Reply
from opensearch_embed._transport import ErrorTable, Target
from opensearch_embed.errors import ConnectFailed, TimedOut, TransportError

ERRORS: ErrorTable = (
    (aiohttp.ServerTimeoutError, TimedOut, "the answer did not come in time"),
    (TimeoutError, TimedOut, "the answer did not come in time"),
    (aiohttp.ClientProxyConnectionError, ConnectFailed, "the proxy gave no connection"),
    (aiohttp.ClientHttpProxyError, ConnectFailed, "the proxy gave no connection"),
    (aiohttp.ClientSSLError, ConnectFailed, "the encrypted connection failed"),
    (aiohttp.ClientConnectorError, ConnectFailed, "no connection"),
    (aiohttp.ClientConnectionError, TransportError, "the connection broke"),
    (RuntimeError, TransportError, "the client was closed meanwhile"),
    ((aiohttp.ClientError, OSError), TransportError, "the request failed"),
)


LARGE_BODY_BYTES = 2**20


class _Connector(aiohttp.TCPConnector):
    """Knows the sockets that it opened, also those that aiohttp has let go and that wait for the peer's good-bye."""

    def __init__(self, target: Target) -> None:
        # The client bounds its concurrency itself, so the connector need not.
        super().__init__(limit=0, ssl=target.ssl_context or True)
        self._opened: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        protocol = await super()._create_connection(*args, **kwargs)
        if protocol.transport is not None:
            self._opened.add(protocol.transport)
        return protocol

    async def abort(self) -> None:
        """Close every socket now: after the event loop's end there is nobody to close it."""
        for transport in list(self._opened):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        await asyncio.sleep(0)


class AiohttpTransport:
    """Sends request bodies over one `aiohttp.ClientSession`. Belongs to the event loop that it is made in."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._headers = target.headers
        self._url = target.url
        self._connector = _Connector(target)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=target.timeout, ceil_threshold=math.inf),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=2**20,
        )

    async def send(self, body: bytes) -> Reply:
        """Send one request and read the whole answer.

        Raises:
            TransportError: No answer came back.
        """
        target = self._target
        try:
            async with self._session.post(
                self._url,
                data=_payload(body),
                headers=self._headers,
                proxy=target.settings.proxy,
                allow_redirects=False,
            ) as response:
                received_at = time.time()
                content, complete = await self._read(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not self._session.closed:
                raise
            raise target.translate(error, ERRORS) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, headers, content, complete, received_at)

    async def _read(self, stream: aiohttp.StreamReader) -> tuple[bytes, bool]:
        """Return the body, not decompressed, and whether it is whole; an absurdly long one is cut."""
        chunks: list[bytes] = []
        size, limit = 0, self._target.max_reply_bytes
        try:
            while chunk := await stream.readany():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    return b"".join(chunks), False
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError):
            return b"".join(chunks), False
        return b"".join(chunks), True

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        await self._connector.abort()


def _payload(body: bytes) -> bytes | io.BytesIO:
    """Return the body as aiohttp wants it: a large one as a file, which it sends without blocking the loop."""
    return body if len(body) < LARGE_BODY_BYTES else io.BytesIO(body)
