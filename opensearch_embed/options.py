"""How hard a client may work: rate, concurrency, time limits. Every value is checked when the client is made."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from opensearch_embed._redis_url import EXAMPLE, check_redis_url, hidden_url
from opensearch_embed.errors import ConfigurationError
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST

LEAST, MOST = 1e-6, 1_000_000
"""Beyond these, clocks and sockets overflow."""

MOST_UNDER_WAY, UNDER_WAY_WITHOUT_RATE = 256, 32


@dataclass(frozen=True, slots=True)
class Options:
    """The knobs of a client; see `EmbeddingClient` for what each means."""

    qps: float | None = 50.0
    limiter: Any = field(default=None, repr=False)
    max_concurrency: int | None = None
    batch_size: int = MAX_TEXTS_PER_REQUEST
    timeout: float = 30.0
    retry_timeout: float = 60.0
    max_attempts: int = 10
    empty: Any = "error"
    on_error: Any = "raise"
    overflow: str = "send"
    length_function: Callable[[str], int] | None = field(default=None, repr=False)
    cache: Any = None
    compression: bool = False

    def __post_init__(self) -> None:
        if self.qps is not None:
            _positive("qps", self.qps, "requests a second; qps=None means no limit")
        _positive("timeout", self.timeout, "seconds for one request")
        if self.max_concurrency is not None:
            _whole("max_concurrency", self.max_concurrency, "use max_concurrency=1 to send one request at a time")
        _whole("batch_size", self.batch_size, "texts in one request")
        if self.batch_size > MAX_TEXTS_PER_REQUEST:
            raise ConfigurationError(
                f"batch_size must be at most {MAX_TEXTS_PER_REQUEST}, not {self.batch_size}: the service takes no more "
                "texts in one request."
            )
        _whole("max_attempts", self.max_attempts, "use max_attempts=1 to send once")
        if self.retry_timeout != 0:
            _positive("retry_timeout", self.retry_timeout, "seconds for one batch; retry_timeout=0 means no retries")
        _one_of("empty", self.empty, "error", "zero")
        _one_of("on_error", self.on_error, "raise", "isolate", "skip")
        _one_of("overflow", self.overflow, "send", "error", "truncate", "average")
        if not isinstance(self.compression, bool):
            raise ConfigurationError(f"compression must be True or False, not {self.compression!r}.")
        if self.length_function is not None and not callable(self.length_function):
            lost = f" {self.length_function!r} is the name of one: a function cannot be stored, so pass it again."
            raise ConfigurationError(
                "length_function must be a function that takes a text and returns its tokens."
                f"{lost if isinstance(self.length_function, str) else ''}"
            )
        is_store = not isinstance(self.cache, type) and all(
            callable(getattr(self.cache, name, None)) for name in ("get_many", "put_many")
        )
        if not (self.cache is None or is_store or (isinstance(self.cache, (str, os.PathLike)) and str(self.cache))):
            raise ConfigurationError(
                "cache must be the path of a file, or an object with get_many and put_many, "
                f"not {type(self.cache).__name__}."
            )
        object.__setattr__(self, "limiter", hidden_url(self.limiter))
        if isinstance(self.limiter, str):
            check_redis_url(self.limiter, self.qps)
        elif self.limiter is not None and not callable(getattr(self.limiter, "try_acquire", None)):
            raise ConfigurationError(
                f"limiter must be a pyrate_limiter.Limiter, or the URL of a Redis such as {EXAMPLE}, "
                f"not {type(self.limiter).__name__}. For a plain rate, use qps."
            )

    @property
    def most_under_way(self) -> int:
        """Requests under way at once, at most: as many as the rate needs at any likely latency; few without a rate."""
        if self.max_concurrency is not None:
            return self.max_concurrency
        return UNDER_WAY_WITHOUT_RATE if self.qps is None and self.limiter is None else MOST_UNDER_WAY


def _positive(name: str, value: object, meaning: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not LEAST <= value <= MOST:
        raise ConfigurationError(f"{name} must be a number above 0 and up to {MOST:,}, not {value!r} ({meaning}).")


def _one_of(name: str, value: object, *choices: str) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}.")


def _whole(name: str, value: object, advice: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1, not {value!r}: {advice}.")
