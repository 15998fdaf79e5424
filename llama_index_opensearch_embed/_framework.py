"""What the framework wants to be told: the arguments' types, and which method is inside whose span."""

import logging
import pickle
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.storage.kvstore.types import BaseKVStore

from opensearch_embed.pydantic_support import ClientArguments

logger = logging.getLogger("llama_index_opensearch_embed")

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def inside_the_span_of(overridden: object) -> Callable[[MethodT], MethodT]:
    """Keep the framework from making a second span of a method that calls the one it overrides: one query, one span.

    It leaves out what bears its mark, and the mark is in what `wraps` takes over.
    """
    return lambda method: wraps(overridden, assigned=())(method)  # type: ignore[arg-type, return-value]


class LlamaIndexArguments(ClientArguments, total=False):
    """The arguments, for type checkers and editors."""

    model_name: str | None
    embed_batch_size: int
    callback_manager: CallbackManager
    num_workers: int | None
    embeddings_cache: BaseKVStore | None
    rate_limiter: Any


def leave_behind_what_cannot_be_pickled(fields: dict[str, Any]) -> None:
    """Put nothing in the place of the framework's objects that cannot be pickled, and say so."""
    for name in ("callback_manager", "rate_limiter", "embeddings_cache"):
        try:
            pickle.dumps(fields[name])
        except Exception as error:  # noqa: BLE001 - pickling runs anybody's code, and raises anything
            logger.warning("%s cannot be pickled, and stays behind: %s", name, error)
            fields[name] = CallbackManager([]) if name == "callback_manager" else None
