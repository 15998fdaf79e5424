"""How hard a client may work: rate, concurrency, time limits. Every value is checked when the client is made."""

import math
from dataclasses import dataclass, field
from typing import Any

from opensearch_embed.errors import ConfigurationError


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

    def __post_init__(self) -> None:
        if self.qps is not None:
            _positive("qps", self.qps, "requests a second; qps=None means no limit")
        _positive("timeout", self.timeout, "seconds for one request")
        _whole("max_concurrency", self.max_concurrency, "use max_concurrency=1 to send one request at a time")
        _whole("max_attempts", self.max_attempts, "use max_attempts=1 to send once")
        if self.retry_timeout != 0:
            _positive("retry_timeout", self.retry_timeout, "seconds for one batch; retry_timeout=0 means no retries")
        if self.empty not in ("error", "zero"):
            raise ConfigurationError(f"empty must be 'error' or 'zero', not {self.empty!r}.")
        if self.limiter is not None and not callable(getattr(self.limiter, "try_acquire", None)):
            raise ConfigurationError(
                f"limiter must be a pyrate_limiter.Limiter, not {type(self.limiter).__name__}. "
                "For a plain rate, use qps."
            )


def _positive(name: str, value: object, meaning: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:  # type: ignore[arg-type, operator]
        raise ConfigurationError(f"{name} must be a number above 0, not {value!r} ({meaning}).")


def _whole(name: str, value: object, advice: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1, not {value!r}: {advice}.")
