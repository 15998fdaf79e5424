"""What both transports share: where a request goes, which certificates are trusted, and how a foreign error is told.

A transport's `send` takes a body and returns a `Reply`, whatever its status: a 500 is a reply, not an exception. It
raises `TransportError` where no answer came back.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

from opensearch_embed._wire.conceal import chain, concealing, strip
from opensearch_embed._wire.reply import max_reply_bytes
from opensearch_embed._wire.request import request_path
from opensearch_embed.errors import ConnectFailed, TimedOut, TransportError
from opensearch_embed.settings import Settings, trusting

ErrorTable = Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], type[TransportError], str]]
"""Foreign error, ours, what it means. The first row that matches it, or an error behind it, counts."""


USER_AGENT = f"opensearch-embed/{version('opensearch-embed')}"
"""Found when this is imported: to find it imports more, which a fork in mid-call must not cut in two."""


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
        return {
            "Authorization": HeaderSecret(f"Bearer {self.settings.api_key.get_secret_value()}"),
            "Content-Type": "application/json",
            "Accept": "application/json",
            # A compressed reply is 44% of the size and costs more CPU than all the rest of its handling.
            "Accept-Encoding": "gzip" if self.compression else "identity",
            "User-Agent": USER_AGENT,
        }

    @property
    def max_reply_bytes(self) -> int:
        """Bytes of one reply, at most; a longer one is not read."""
        return max_reply_bytes(self.settings.model.dimension)

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """The trusted certificates, loaded once for all connections; `None` where nothing is encrypted."""
        settings = self.settings
        if not settings.endpoint.startswith("https") and not (settings.proxy or "").startswith("https"):
            return None
        return trusting(settings.ca_bundle)

    def translate(self, error: BaseException, table: ErrorTable, timeout: float) -> TransportError:
        """Return our error for a foreign one that came within `timeout`, and strip that of what could show the key."""
        links = list(chain(error))
        kind, meaning = next(
            ((ours, meaning) for foreign, ours, meaning in table if any(isinstance(link, foreign) for link in links)),
            (TransportError, "the request failed"),
        )
        refused = [link for link in links if isinstance(link, ssl.SSLCertVerificationError)]
        if refused:
            why = next((link.verify_message for link in refused if hasattr(link, "verify_message")), "not trusted")
            kind, meaning = ConnectFailed, f"its certificate is refused: {why}"
            advice = "If its issuer is your own, name it with ca_bundle=."
        elif kind is TimedOut:
            advice = f"The limit is timeout={self.timeout:g} seconds."
            if timeout < self.timeout:
                advice = f"Of retry_timeout, {timeout:.1f} seconds were left for this attempt."
        elif kind is ConnectFailed:
            advice = "Check the endpoint (OPENSEARCH_ENDPOINT), the network, and the proxy if there is one."
        else:
            advice = "The pending texts can be run again."
        ours = kind(f"No answer from {self.settings.endpoint}: {meaning} ({type(error).__name__}). {advice}")
        ours.permanent = bool(refused)
        strip(error, concealing(self.settings.api_key.get_secret_value()))
        return ours
