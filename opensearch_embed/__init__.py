"""Embeddings from Alibaba Cloud OpenSearch (AI Search Open Platform; not opensearch.org).

`EmbeddingClient` is the core that the LangChain and LlamaIndex adapters stand on. Importing this package is cheap:
each name is loaded when it is first used, and HTTP libraries and numpy when a client first needs them.
"""

from importlib import import_module

# Type checkers know the name; importing it from typing takes longer than all the rest here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from opensearch_embed.cache import SqliteCache as SqliteCache
    from opensearch_embed.cache import VectorCache as VectorCache
    from opensearch_embed.client import EmbeddingClient as EmbeddingClient
    from opensearch_embed.errors import ApiError as ApiError
    from opensearch_embed.errors import AuthenticationError as AuthenticationError
    from opensearch_embed.errors import ConfigurationError as ConfigurationError
    from opensearch_embed.errors import ConnectFailed as ConnectFailed
    from opensearch_embed.errors import InputError as InputError
    from opensearch_embed.errors import InvalidRequest as InvalidRequest
    from opensearch_embed.errors import OpenSearchEmbedError as OpenSearchEmbedError
    from opensearch_embed.errors import QuotaExhausted as QuotaExhausted
    from opensearch_embed.errors import RateLimited as RateLimited
    from opensearch_embed.errors import ResponseError as ResponseError
    from opensearch_embed.errors import ServiceUnavailable as ServiceUnavailable
    from opensearch_embed.errors import TimedOut as TimedOut
    from opensearch_embed.errors import TransportError as TransportError
    from opensearch_embed.models import DEFAULT_MODEL as DEFAULT_MODEL
    from opensearch_embed.models import MODELS as MODELS
    from opensearch_embed.models import InputType as InputType
    from opensearch_embed.models import ModelSpec as ModelSpec
    from opensearch_embed.settings import Settings as Settings
    from opensearch_embed.usage import Usage as Usage

__version__ = "0.1.0"

_HOMES = {
    "cache": ("SqliteCache", "VectorCache"),
    "client": ("EmbeddingClient",),
    "errors": (
        "ApiError",
        "AuthenticationError",
        "ConfigurationError",
        "ConnectFailed",
        "InputError",
        "InvalidRequest",
        "OpenSearchEmbedError",
        "QuotaExhausted",
        "RateLimited",
        "ResponseError",
        "ServiceUnavailable",
        "TimedOut",
        "TransportError",
    ),
    "models": ("DEFAULT_MODEL", "MODELS", "InputType", "ModelSpec"),
    "settings": ("Settings",),
    "usage": ("Usage",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


if not TYPE_CHECKING:  # which would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            from opensearch_embed._habits import missing

            raise missing(__name__, name)
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
