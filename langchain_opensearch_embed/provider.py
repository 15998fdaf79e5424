"""`opensearch:` among the providers that `langchain.embeddings.init_embeddings` knows.

LangChain has no public way to add one. Its table of providers is what there is: since langchain 1.2 it says how each is
made. A table of another form is refused, not guessed at.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from opensearch_embed import ConfigurationError

PROVIDER = "opensearch"
"""What stands before the colon."""

INSTEAD = (
    'Where a string like "opensearch:<model>" is taken, an object is too: write OpenSearchEmbeddings(model="<model>").'
)


def register() -> None:
    """Let `init_embeddings("opensearch:<model>", ...)` make an `OpenSearchEmbeddings`, in this process.

    So does what takes such a string, like LangGraph's `index={"embed": "opensearch:<model>"}`. Twice is harmless.

    Raises:
        ConfigurationError: `langchain` is not installed, or its release does not let it; with what to write instead.
    """
    try:
        base = import_module("langchain.embeddings.base")
    except ImportError as error:
        raise ConfigurationError(
            f"register() needs langchain (pip install langchain), which cannot be imported: {error}. {INSTEAD}"
        ) from error
    providers = getattr(base, "_BUILTIN_PROVIDERS", None) or getattr(base, "_SUPPORTED_PROVIDERS", None)
    ours = (__package__, "OpenSearchEmbeddings", _make)
    if not isinstance(providers, dict) or not all(_is_alike(ours, other) for other in providers.values()):
        raise ConfigurationError(f"langchain {version('langchain')} does not let a provider be added. {INSTEAD}")
    if providers.setdefault(PROVIDER, ours) != ours:
        raise ConfigurationError(f"langchain has another provider by the name of {PROVIDER!r}. {INSTEAD}")


def _is_alike(ours: tuple[Any, ...], other: Any) -> bool:
    """Whether a row of the table says what ours says: a module, a class, and what makes one of it."""
    return isinstance(other, tuple) and len(other) == len(ours) and callable(other[-1])


def _make(cls: Any, **settings: Any) -> Any:
    return cls(**settings)
