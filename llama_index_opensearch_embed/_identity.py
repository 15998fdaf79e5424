"""What decides a vector: by that the framework's caches tell one embedding from another.

How fast requests leave, and how patiently, decides nothing: a change of `qps` must not buy a vector twice.
"""

from collections.abc import Callable
from typing import Any, Self

INDIFFERENT = frozenset(
    {
        *("qps", "limiter", "max_concurrency", "batch_size", "timeout", "retry_timeout", "max_attempts", "on_error"),
        *("length_function", "cache", "compression", "allow_http", "ca_bundle", "proxy"),
        *("embed_batch_size", "num_workers", "callback_manager", "embeddings_cache", "rate_limiter"),
    }
)
"""Fields that decide no vector. A subclass's own field may well decide one."""


class Described(dict[str, Any]):
    """All settings; as text, those alone that decide a vector. `IngestionPipeline` hashes the text for its cache."""

    _cutting = ""

    def cut(self, cutting: str) -> Self:
        """Note how long texts are cut, which the settings that can be written down do not say all of."""
        self._cutting = cutting
        return self

    def __str__(self) -> str:
        deciding = {name: value for name, value in self.items() if name not in INDIFFERENT}
        return str(deciding | ({"overflow": self._cutting} if self._cutting else {}))


def described(settings: dict[str, Any], overflow: str, length_function: Callable[[str], int] | None) -> Described:
    """Return the settings, with the name of a counter where it decides how texts are cut: a dict cannot hold it."""
    how = cutting(overflow, length_function)
    named = {"length_function": name_of(length_function)} if how and length_function else {}
    return Described({**settings, **named}).cut(how)


def cutting(overflow: str, length_function: Callable[[str], int] | None) -> str:
    """Return how long texts are cut, in words that differ where vectors may; nothing where they are sent as they are.

    A counter is told by its name: a function has no other mark that is the same in the next process.
    """
    if overflow == "send":
        return ""
    return overflow if length_function is None or overflow == "error" else f"{overflow} {name_of(length_function)}"


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function, or an object that is called like one, is called."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))
