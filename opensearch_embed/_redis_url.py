"""Where a quota that processes share is kept: a Redis, named by a URL that may hold a password. Connects to nothing."""

import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from opensearch_embed._loading import load
from opensearch_embed._secret import SecretString
from opensearch_embed.errors import ConfigurationError

EXAMPLE = "redis://host:6379/0"
SCHEMES = ("redis", "rediss")
MASK = "***"
"""Stands for a password in what is shown or serialised."""

SOCKET_SECONDS = 2.0
"""How long one answer of Redis may take, or a connection to it."""


class RedisUrl(str):
    """The URL of a Redis. It does not print its password, but it is a string, and pickles as one."""

    __slots__ = ()

    @property
    def parts(self) -> SplitResult:
        """Its parts."""
        return urlsplit(str(self))

    @property
    def valid(self) -> bool:
        """Whether it is the URL of a Redis."""
        try:
            parts = self.parts
            named = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
        except ValueError:
            return False
        whole = re.fullmatch(r"(/\d*)?", parts.path) is not None and not parts.fragment
        return named and whole and not any(char.isspace() for char in str(self))

    @property
    def place(self) -> str:
        """Scheme, host, port and database: what may be told."""
        parts = self.parts
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def masked(self) -> str:
        """The URL with `***` for a password; `***` alone where it is not known what is one."""
        if not self.valid:
            return MASK
        parts = self.parts
        login, at, host = parts.netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        login = f"{user}:{MASK}" if colon else login
        options = [(name, MASK if "password" in name else value) for name, value in parse_qsl(parts.query)]
        return parts._replace(netloc=f"{login}{at}{host}", query=urlencode(options, safe="/:*")).geturl()

    @property
    def secrets(self) -> list[str]:
        """What must be in nothing that is told."""
        parts = self.parts
        password = parts.netloc.rpartition("@")[0].partition(":")[2]
        options = [value for name, value in parse_qsl(parts.query) if "password" in name]
        return [secret for secret in (password, unquote(password), *options) if secret]

    def client(self) -> Any:
        """Return a `redis.Redis` that is not connected yet.

        Raises:
            ConfigurationError: redis-py is not there, or does not know an option of the URL.
        """
        try:
            redis, retry, backoff = load("redis"), load("redis.retry"), load("redis.backoff")
        except ImportError as error:
            raise ConfigurationError(
                'limiter="redis://..." needs redis-py: pip install "opensearch-embed[redis]".'
            ) from error
        try:
            client = redis.Redis.from_url(
                str(self),
                protocol=2,
                socket_timeout=SOCKET_SECONDS,
                socket_connect_timeout=SOCKET_SECONDS,
                retry=retry.Retry(backoff.NoBackoff(), 0),
            )
            # An unknown option shows only here; nothing is connected yet.
            client.connection_pool.make_connection()
        except (ValueError, TypeError, redis.RedisError):
            # Not from the error, which can show parts of the URL.
            raise ConfigurationError(
                f"limiter: redis-py cannot use the options of this URL, after the '?' of {self.place}?..."
            ) from None
        return client

    def __repr__(self) -> str:
        return repr(self.masked)


def hidden_url(limiter: Any) -> Any:
    """Return a limiter; a text as a URL that does not print its password."""
    if isinstance(limiter, SecretString):
        limiter = limiter.get_secret_value()
    return RedisUrl(limiter) if isinstance(limiter, str) else limiter


def check_redis_url(url: str, qps: float | None) -> None:
    """Check what can be checked without a connection. No message shows the URL: it may hold a password.

    Raises:
        ConfigurationError: It is not the URL of a Redis, or there is no rate to share.
    """
    found = RedisUrl(url)
    if not found.valid:
        raise ConfigurationError(
            f"limiter must be the URL of a Redis, such as {EXAMPLE} (rediss:// with TLS), or a pyrate_limiter.Limiter; "
            "this str is neither. In a password, write / ? # @ : as %2F %3F %23 %40 %3A. For a plain rate, use qps."
        )
    if MASK in found.secrets:
        raise ConfigurationError(
            f"limiter: the URL {found.masked} was stored without its password. Give the whole URL again."
        )
    if qps is None:
        raise ConfigurationError(
            f"limiter={found.masked!r} shares a rate between processes, but qps=None means no limit: say qps=..."
        )
    found.client()
