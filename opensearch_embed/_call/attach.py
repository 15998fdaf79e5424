"""What was done before an error travels with it."""

from typing import Any

from opensearch_embed.errors import OpenSearchEmbedError


def attach(error: BaseException, completed: dict[int, Any], pending: list[int]) -> None:
    """Let an error carry what was done, also one that is not ours: Ctrl-C, or an error of a limiter or a cache."""
    if isinstance(error, OpenSearchEmbedError):
        error.completed, error.pending = completed, pending
    else:
        vars(error).update(completed=completed, pending=pending)
