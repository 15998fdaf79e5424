"""A limiter that the user made, which may serve many processes. It is asked, and never changed."""

from inspect import isawaitable
from typing import Any

from opensearch_embed.errors import ConfigurationError

ITEM = "opensearch-embed"
PATIENCE_SECONDS = 0.2
"""How long it is asked at a time: between, whoever is first in line asks."""


def ask(limiter: Any, seconds: float) -> bool:
    """Ask for a permit, for a while.

    Raises:
        ConfigurationError: Its answer must be awaited: unawaited it looks like a yes.
    """
    granted = limiter.try_acquire(ITEM, timeout=max(0.0, min(PATIENCE_SECONDS, seconds)))
    if not isawaitable(granted):
        return bool(granted)
    awaitable: Any = granted
    awaitable.close()
    raise ConfigurationError(
        "This limiter's bucket is asynchronous, so it cannot pace the sync methods. "
        "Use aembed, or give a limiter with a sync bucket."
    )


async def aask(limiter: Any, seconds: float) -> bool:
    """Ask for a permit, for a while, without blocking the event loop."""
    return bool(await limiter.try_acquire_async(ITEM, timeout=max(0.0, min(PATIENCE_SECONDS, seconds))))
