"""What both transports share: where a request goes, which certificates are trusted, and how a foreign error is told.

A transport's `send` takes a body and returns a `Reply`, whatever its status: a 500 is a reply, not an exception. It
raises `TransportError` where no answer came back.
"""

import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

from opensearch_embed._proxy import authorization, is_usable, without_user
from opensearch_embed._wire.conceal import chain, concealing, strip
from opensearch_embed._wire.reply import max_reply_bytes
from opensearch_embed._wire.request import request_path
from opensearch_embed.errors import ConfigurationError, ConnectFailed, TimedOut, TransportError
from opensearch_embed.settings import Settings, trusting

ErrorTable = Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], type[TransportError], str]]
"""Foreign error, ours, what it means. The first row that matches it, or an error behind it, counts."""


USER_AGENT = f"opensearch-embed/{version('opensearch-embed')}"
"""Found when this is imported: to find it imports more, which a fork in mid-call must not cut in two."""
CERTIFICATE_ADVICE = {
    0: "If its issuer is your own, name it with ca_bundle=.",
    9: "It is not valid yet: check this machine's clock.",
    10: "It has expired: whoever runs the server must renew it. Check this machine's clock, too.",
    62: "It is for another name: check the endpoint (OPENSEARCH_ENDPOINT), and where its name leads.",
    64: "It is for another name: write the endpoint (OPENSEARCH_ENDPOINT) by its name, not its address.",
}
"""What to do about a certificate, by OpenSSL's number of what is wrong with it."""

_WHO_ASKS = "Check the user and the password in its URL (proxy=, HTTPS_PROXY, HTTP_PROXY): the key is not at fault."
_NOT_THERE = "It does not let this host through: ask whoever runs it, or name the host in NO_PROXY."
PROXY_REFUSALS = {401: _WHO_ASKS, 407: _WHO_ASKS, 403: _NOT_THERE, 405: _NOT_THERE}
"""A proxy's refusals that asking again does not mend, and what does."""

ENDPOINT_NAMES = "endpoint=, or AISEARCH_ENDPOINT, or OPENSEARCH_ENDPOINT"

NOT_REACHED: Sequence[tuple[type[BaseException], str]] = (
    (socket.gaierror, "no connection, for its name leads nowhere"),
    (ConnectionRefusedError, "no connection, for nothing listens there"),
)
"""Why there is no connection, where that is known."""

SPEAKS_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "UNKNOWN_PROTOCOL",
)
"""How OpenSSL calls an answer in clear."""


class HeaderSecret(str):
    """A header value that HTTP libraries can send, and that no repr of their dictionaries shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"


@dataclass(frozen=True)
class Target:
    """Where requests go, and what one may cost.

    Attributes:
        settings: Endpoint, key, model, proxy, certificates.
        timeout: Seconds for one whole request.
        connections: Connections to keep open, at most.
        compression: Whether to ask for compressed answers.
    """

    settings: Settings
    timeout: float
    connections: int
    compression: bool = False

    @property
    def url(self) -> str:
        """The URL that every request goes to."""
        settings = self.settings
        return settings.endpoint + request_path(settings.workspace, settings.model.service_id)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every request. The one place where the key is used."""
        headers = {
            "Authorization": HeaderSecret(f"Bearer {self.settings.api_key.get_secret_value()}"),
            "Content-Type": "application/json",
            "Accept": "application/json",
            # A compressed reply is 44% of the size and costs more CPU than all the rest of its handling.
            "Accept-Encoding": "gzip" if self.compression else "identity",
            "User-Agent": USER_AGENT,
        }
        if not self.settings.endpoint.startswith("https:"):
            headers.update(self.proxy_headers)  # a plain request is handed to the proxy itself
        return headers

    @property
    def proxy(self) -> str | None:
        """URL of the proxy, without user and password.

        Raises:
            ConfigurationError: The environment names one that cannot be used.
        """
        proxy = self.settings.proxy
        if proxy is not None and not is_usable(proxy):
            scheme = f"{proxy.partition('://')[0]}://"
            raise ConfigurationError(
                f"The environment's proxy ({scheme}...: HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) is no http or https "
                "URL, and cannot be used. Say proxy='http://...', proxy='' for none, or name the endpoint in NO_PROXY."
            )
        return proxy and without_user(proxy)

    @property
    def proxy_headers(self) -> Mapping[str, str]:
        """What the proxy is told: who asks."""
        found = authorization(self.settings.proxy) if self.settings.proxy else None
        return {"Proxy-Authorization": HeaderSecret(found)} if found else {}

    @property
    def max_reply_bytes(self) -> int:
        """Bytes of one reply, at most; a longer one is not read."""
        return max_reply_bytes(self.settings.model.dimension)

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """The trusted certificates, loaded once for all connections; `None` where nothing is encrypted."""
        settings = self.settings
        return trusting(settings.ca_bundle, settings.ca_source) if settings.encrypted else None

    def translate(self, error: BaseException, table: ErrorTable, timeout: float) -> TransportError:
        """Return our error for a foreign one that came within `timeout`, and strip that of what could show the key."""
        links = list(chain(error))
        kind, meaning = next(
            ((ours, meaning) for foreign, ours, meaning in table if any(isinstance(link, foreign) for link in links)),
            (TransportError, "the request failed"),
        )
        permanent = False
        # aiohttp's errors are of ssl's classes, too, and know nothing of what these know.
        refused = [link for link in links if isinstance(link, ssl.SSLCertVerificationError)]
        refused.sort(key=lambda link: not hasattr(link, "verify_message"))
        status = proxy_status(links)
        if refused:
            kind, permanent = ConnectFailed, True
            meaning = f"its certificate is refused: {getattr(refused[0], 'verify_message', 'not trusted')}"
            advice = CERTIFICATE_ADVICE.get(getattr(refused[0], "verify_code", 0), CERTIFICATE_ADVICE[0])
        elif status is not None:
            kind, permanent = ConnectFailed, status in PROXY_REFUSALS
            meaning = f"the proxy gave no connection (HTTP {status})"
            advice = PROXY_REFUSALS.get(status, "Check the proxy (proxy=, HTTPS_PROXY).")
        elif any(isinstance(link, ssl.SSLError) and getattr(link, "reason", "") in SPEAKS_NO_TLS for link in links):
            kind, permanent = ConnectFailed, True
            advice = self._plain_http_advice()
        elif kind is TimedOut:
            advice = f"The limit is timeout={self.timeout:g} seconds."
            if timeout < self.timeout:
                advice = f"Of retry_timeout, {timeout:.1f} seconds were left for this attempt."
        elif kind is ConnectFailed:
            if meaning == "no connection":
                whys = (why for cause, why in NOT_REACHED if any(isinstance(link, cause) for link in links))
                meaning = next(whys, meaning)
            advice = f"Check the endpoint ({ENDPOINT_NAMES}), the network, and the proxy if there is one."
            if self.settings.is_here and not self.settings.proxy:
                advice = f"{advice} Is the emulator running (opensearch-embed emulator)?"
            if any(isinstance(link, ssl.SSLError) for link in links):
                advice = f"{advice} {self._plain_http_advice()}"
        else:
            advice = "The pending texts can be run again."
        ours = kind(f"No answer from {self.settings.endpoint}: {meaning} ({type(error).__name__}). {advice}")
        ours.permanent = permanent
        strip(error, concealing(self.settings.api_key.get_secret_value(), (), self.settings.proxy_secrets))
        return ours

    def _plain_http_advice(self) -> str:
        endpoint, proxy = self.settings.endpoint, self.settings.proxy or ""
        if proxy.startswith("https:"):
            return "If the proxy speaks plain http, write proxy=http://... instead of https."
        if not endpoint.startswith("https:"):
            return "Check the endpoint and the proxy."
        plain = endpoint.replace("https:", "http:", 1)
        allow = "" if self.settings.is_here else ", and allow_http=True if the network between is trusted"
        return f"If it speaks plain http, write {plain}{allow}."

    def check_proxy(self, status: int, headers: Mapping[str, str]) -> None:
        """Tell a proxy's refusal from the service's, where the proxy is handed the request itself.

        Raises:
            ConnectFailed: The proxy does not know who asks.
        """
        if self.settings.proxy and (status == 407 or (status == 401 and "proxy-authenticate" in headers)):
            ours = ConnectFailed(
                f"No answer from {self.settings.endpoint}: the proxy gave no connection (HTTP {status}). "
                f"{PROXY_REFUSALS[status]}"
            )
            ours.permanent = True
            raise ours


def proxy_status(links: Sequence[BaseException]) -> int | None:
    """Return the status with which a proxy refused a tunnel."""
    for link in links:
        if type(link).__name__ == "ClientHttpProxyError":
            return int(getattr(link, "status", 0)) or None
        # http.client has words for it alone.
        words = str(link) if type(link) is OSError else ""
        if found := re.match(r"Tunnel connection failed: (\d{3})", words):
            return int(found[1])
    return None
