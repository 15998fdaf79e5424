"""The arguments of a client that both adapters take, as types: for checkers and editors."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypedDict

from opensearch_embed._secret import SecretString

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

    from opensearch_embed.cache import VectorCache


class ClientArguments(TypedDict, total=False):
    """The arguments that both adapters take, for type checkers and editors. The model has another name in each."""

    api_key: str | SecretString | None
    endpoint: str | None
    workspace: str | None
    dimension: int | None
    qps: float | None
    limiter: "str | Limiter | None"
    max_concurrency: int | None
    batch_size: int
    timeout: float
    retry_timeout: float
    max_attempts: int
    empty: Literal["error", "zero"]
    on_error: Literal["raise", "isolate"]
    overflow: Literal["send", "error", "truncate", "average"]
    length_function: Callable[[str], int] | None
    cache: "str | os.PathLike[str] | VectorCache | None"
    compression: bool
    allow_http: bool
    ca_bundle: str | os.PathLike[str] | None
    proxy: str | None
