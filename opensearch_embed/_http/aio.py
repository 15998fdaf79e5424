"""The async transport: it and its connections alone import aiohttp (the emulator aside)."""

import asyncio
import http
import io
import math
import os
import time
from typing import Any

import aiohttp

from opensearch_embed._http.aio_connections import Connector
from opensearch_embed._http.target import ErrorTable, Target
from opensearch_embed._wire.refusal import Reply
from opensearch_embed.errors import ConnectFailed, OpenSearchEmbedError, TimedOut, TransportError

ERRORS: ErrorTable = (
    (aiohttp.ServerTimeoutError, TimedOut, "the answer did not come in time"),
    (TimeoutError, TimedOut, "the answer did not come in time"),
    (aiohttp.ClientProxyConnectionError, ConnectFailed, "the proxy gave no connection"),
    (aiohttp.ClientHttpProxyError, ConnectFailed, "the proxy gave no connection"),
    (aiohttp.ClientSSLError, ConnectFailed, "the encrypted connection failed"),
    (aiohttp.ClientConnectorError, ConnectFailed, "no connection"),
    (aiohttp.ClientConnectionError, TransportError, "the connection broke"),
    ((aiohttp.ClientError, OSError), TransportError, "the request failed"),
)


LARGE_BODY_BYTES = 2**20


class AiohttpTransport:
    """Sends request bodies over the connections of one connector. Belongs to the event loop that it is made in."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._headers = target.headers
        self._url = target.url
        self._proxy = target.proxy
        self._proxy_headers = target.proxy_headers or None
        self._connector = Connector(target)
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._under_way = 0
        self._retired = False

    async def send(self, body: bytes, *, timeout: float) -> Reply:  # noqa: ASYNC109 - what aiohttp is given
        """Send one request and read the whole answer.

        Raises:
            TransportError: No answer came back.
            ResponseError: The answer repeats another request's.
        """
        if self._connector.closed:
            raise TransportError("The client was closed meanwhile.")
        # One for each request: a session that lives on complains when it is collected with its event loop.
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            timeout=aiohttp.ClientTimeout(total=timeout, ceil_threshold=math.inf),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=2**20,
        )
        self._under_way += 1
        try:
            return await self._send(session, body, timeout)
        finally:
            session.detach()
            self._under_way -= 1
            if self._retired:
                self._end_if_idle()

    async def _send(self, session: aiohttp.ClientSession, body: bytes, seconds: float) -> Reply:
        target = self._target
        protocol: Any = None
        try:
            async with session.post(
                self._url,
                data=_payload(body),
                headers=self._headers,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
                allow_redirects=False,
            ) as response:
                protocol = getattr(response, "_protocol", None)  # there is none where a test's library answers
                received_at = time.time()
                if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                    raise aiohttp.ServerDisconnectedError("another protocol, which nobody asked for")
                content, complete = await self._read(response.content)
                sound = not complete or protocol is None or protocol.last.check(body, content, response.status)
                if protocol is not None and not sound:
                    protocol.force_close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise target.translate(error, ERRORS, seconds) from error
        except OpenSearchEmbedError:
            if protocol is not None:
                protocol.force_close()
            raise
        finally:
            if protocol is not None:
                self._connector.settle(protocol)
        headers = {name.lower(): value for name, value in response.headers.items()}
        target.check_proxy(response.status, headers)
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
        """Close every connection now: after the event loop's end there is nobody to close it.

        It may be the garbage collector that asks, within another event loop or none: then nothing can be awaited.
        """
        self._end()
        if asyncio._get_running_loop() is self._loop:
            await asyncio.sleep(0)

    async def retire(self) -> None:
        """Close every connection as soon as nothing is under way."""
        self._retired = True
        self._end_if_idle()
        await asyncio.sleep(0)

    def _end_if_idle(self) -> None:
        if not self._under_way:
            self._end()

    def _end(self) -> None:
        # In a forked child they are the parent's, and so is what the event loop asks the system about them.
        if os.getpid() == self._pid:
            self._connector.abort()


def _payload(body: bytes) -> bytes | io.BytesIO:
    """Return the body as aiohttp wants it: a large one as a file, which it sends without blocking the loop."""
    return body if len(body) < LARGE_BODY_BYTES else io.BytesIO(body)
