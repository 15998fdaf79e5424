"""The sync transport: the only file that imports requests."""

import copy
import math
import time
import weakref
from typing import Any

import requests
import urllib3
from requests import exceptions as foreign
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3 import exceptions as lower

from opensearch_embed._http.cancel import Cancellation
from opensearch_embed._http.deadline import POOL_CLASSES, keeping_deadlines
from opensearch_embed._http.exchange import Exchange, Kept
from opensearch_embed._http.target import ErrorTable, Target
from opensearch_embed._wire.refusal import Reply
from opensearch_embed.errors import ConnectFailed, TimedOut, TransportError

ERRORS: ErrorTable = (
    (foreign.ProxyError, ConnectFailed, "the proxy gave no connection"),
    # urllib3 derives it from its time-out of a connection, which comes next.
    (lower.NewConnectionError, ConnectFailed, "no connection"),
    (foreign.ConnectTimeout, TimedOut, "no connection in time"),
    ((foreign.Timeout, lower.TimeoutError, TimeoutError), TimedOut, "the answer did not come in time"),
    ((foreign.SSLError, lower.SSLError), ConnectFailed, "the encrypted connection failed"),
    ((foreign.ConnectionError, foreign.ChunkedEncodingError), TransportError, "the connection broke"),
    ((foreign.RequestException, lower.HTTPError), TransportError, "the request failed"),
)


class _Adapter(HTTPAdapter):
    """Opens connections that keep the deadline, and trusts one set of certificates, loaded once."""

    def __init__(self, target: Target) -> None:
        self._ssl_context = keeping_deadlines(target.ssl_context)
        self._proxy_headers = dict(target.proxy_headers)
        super().__init__(pool_connections=1, pool_maxsize=1)  # ours keep no connections: the transport does

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._ssl_context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOL_CLASSES

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(
            proxy, ssl_context=self._ssl_context, proxy_ssl_context=self._ssl_context, **kwargs
        )
        manager.pool_classes_by_scheme = POOL_CLASSES
        return manager

    def proxy_headers(self, _proxy: str) -> dict[str, str]:
        """Say who asks, as the async side does: requests leaves out a user without a password."""
        return self._proxy_headers

    def cert_verify(self, conn: Any, *_: Any) -> None:
        """Add no certificates to those of the context, as requests would."""
        conn.cert_reqs = "CERT_REQUIRED"


class RequestsTransport:
    """Sends request bodies over one `requests` adapter and its pool of connections. Safe to share between threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        # An adapter alone, no session around it: a session follows redirects, keeps cookies, and lets .netrc replace
        # the key. Proxies and certificates of the environment have been read by settings already.
        self._adapter = _Adapter(target)
        self._kept = Kept(target.connections)
        weakref.finalize(self, self._kept.close)
        proxy = target.proxy
        self._proxies = {"http": proxy, "https": proxy} if proxy else {}
        # Prepared once and copied for each request: preparing costs more than sending.
        self._template = requests.Request("POST", target.url, headers=target.headers).prepare()
        self._template._cookies = RequestsCookieJar()  # type: ignore[attr-defined]

    def send(self, body: bytes, *, timeout: float, cancellation: Cancellation, until: float = math.inf) -> Reply:
        """Send one request and read the whole answer.

        Args:
            body: The request's body.
            timeout: Seconds for all of it.
            cancellation: Of the call that it is for.
            until: End of its batch's time, on the monotonic clock: what dead addresses took is made up for till then.

        Raises:
            TransportError: No answer came back, or it is cancelled.
            ResponseError: The answer repeats another request's.
        """
        target = self._target
        request = copy.copy(self._template)
        request.body = body
        request.headers = self._template.headers.copy()
        request.headers["Content-Length"] = str(len(body))
        if cancellation.cancelled:
            raise TransportError("The call has ended.")
        with Exchange(timeout, cancellation, self._kept, until) as exchange:
            try:
                response = self._adapter.send(
                    request,
                    stream=True,
                    proxies=self._proxies,
                    timeout=urllib3.Timeout(total=timeout),  # type: ignore[arg-type]
                )
                with response:
                    received_at = time.time()
                    content, complete = self._read(response.raw)
            except (foreign.RequestException, lower.HTTPError) as error:
                raise target.translate(error, ERRORS, timeout) from error
            if cancellation.cancelled:  # then what looks like the end of the answer may be ours
                raise TransportError("The call has ended.")
            if complete:
                exchange.believe(body, content, response.status_code)
        headers = {name.lower(): value for name, value in response.headers.items()}
        target.check_proxy(response.status_code, headers)
        return Reply(response.status_code, headers, content, complete, received_at)

    def _read(self, raw: urllib3.HTTPResponse) -> tuple[bytes, bool]:
        """Return the body, not decompressed, and whether it is whole; an absurdly long one is cut."""
        limit = self._target.max_reply_bytes
        try:
            if raw.length_remaining is not None and raw.length_remaining <= limit:
                return raw.read(decode_content=False), True
            content = raw.read(limit + 1, decode_content=False)
        except (lower.ProtocolError, lower.SSLError, ValueError):  # the last: a chunk of less than nothing
            return b"", False
        return content, len(content) <= limit

    def close(self) -> None:
        """Close what is idle. Requests under way go on, and close their connections at their end."""
        self._kept.close()
