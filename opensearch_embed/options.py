"""How hard a client may work: rate, concurrency, time limits. Every value is checked when the client is made."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from opensearch_embed.errors import ConfigurationError

LEAST, MOST = 1e-6, 1_000_000
"""Beyond these, clocks and sockets overflow."""


@dataclass(frozen=True, slots=True)
class Options:
    """The knobs of a client; see `EmbeddingClient` for what each means."""

    qps: float | None = 50.0
    limiter: Any = field(default=None, repr=False)
    max_concurrency: int = 32
    timeout: float = 30.0
    retry_timeout: float = 60.0
    max_attempts: int = 10
    empty: Any = "error"
    on_error: Any = "raise"
    overflow: str = "send"
    length_function: Callable[[str], int] | None = field(default=None, repr=False)
    cache: Any = None

    def __post_init__(self) -> None:
        if self.qps is not None:
            _positive("qps", self.qps, "requests a second; qps=None means no limit")
        _positive("timeout", self.timeout, "seconds for one request")
        _whole("max_concurrency", self.max_concurrency, "use max_concurrency=1 to send one request at a time")
        _whole("max_attempts", self.max_attempts, "use max_attempts=1 to send once")
        if self.retry_timeout != 0:
            _positive("retry_timeout", self.retry_timeout, "seconds for one batch; retry_timeout=0 means no retries")
        _one_of("empty", self.empty, "error", "zero")
        _one_of("on_error", self.on_error, "raise", "isolate", "skip")
        _one_of("overflow", self.overflow, "send", "error", "truncate", "average")
        if self.length_function is not None and not callable(self.length_function):
            raise ConfigurationError("length_function must be a function that takes a text and returns its tokens.")
        is_store = not isinstance(self.cache, type) and all(
            callable(getattr(self.cache, name, None)) for name in ("get_many", "put_many")
        )
        if not (self.cache is None or is_store or (isinstance(self.cache, (str, os.PathLike)) and str(self.cache))):
            raise ConfigurationError(
                "cache must be the path of a file, or an object with get_many and put_many, "
                f"not {type(self.cache).__name__}."
            )
        if self.limiter is not None and not callable(getattr(self.limiter, "try_acquire", None)):
            raise ConfigurationError(
                f"limiter must be a pyrate_limiter.Limiter, not {type(self.limiter).__name__}. "
                "For a plain rate, use qps."
            )


def _positive(name: str, value: object, meaning: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not LEAST <= value <= MOST:
        raise ConfigurationError(f"{name} must be a number above 0 and up to {MOST:,}, not {value!r} ({meaning}).")


def _one_of(name: str, value: object, *choices: str) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}.")


def _whole(name: str, value: object, advice: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1, not {value!r}: {advice}.")
