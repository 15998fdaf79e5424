"""What decides a vector: the settings that must not change half-way, and that a Parquet file tells of itself."""

from collections.abc import Mapping
from typing import Any

from opensearch_embed.client import EmbeddingClient
from opensearch_embed.options import Options

METADATA_PREFIX = "opensearch_embed."

NOT_IN_METADATA = ("endpoint", "workspace")
"""What decides a vector, and is nobody's business who is given the file."""


def what_decides(
    client: EmbeddingClient, options: Options, column: str, output_column: str, input_type: str
) -> dict[str, str]:
    """Return everything besides the input that decides the output."""
    settings = client.settings
    counter: Any = options.length_function
    return {
        "model": settings.model.service_id,
        "dimension": str(settings.model.dimension),
        "input_type": input_type,
        "overflow": options.overflow,
        "empty": options.empty,
        "length_function": "" if counter is None else getattr(counter, "__qualname__", type(counter).__qualname__),
        "column": column,
        "output_column": output_column,
        "endpoint": settings.endpoint,
        "workspace": settings.workspace,
    }


def in_metadata(decides: Mapping[str, str]) -> dict[str, str]:
    """Return what a Parquet file says of how it was made."""
    return {METADATA_PREFIX + name: value for name, value in decides.items() if name not in NOT_IN_METADATA}


def from_metadata(metadata: Mapping[bytes, bytes] | Mapping[str, str] | None) -> dict[str, str]:
    """Return what a file says of how it was made; nothing, where another program made it."""
    found = {_text(name): _text(value) for name, value in (metadata or {}).items()}
    return {k.removeprefix(METADATA_PREFIX): v for k, v in found.items() if k.startswith(METADATA_PREFIX)}


def _text(found: str | bytes) -> str:
    return found if isinstance(found, str) else found.decode(errors="replace")
