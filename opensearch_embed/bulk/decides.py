"""What decides a vector: the settings that must not change half-way, and that a Parquet file tells of itself."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opensearch_embed._texts.overflow import users_stacklevel
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.options import Options

METADATA_PREFIX = "opensearch_embed."

NOT_IN_METADATA = ("endpoint", "workspace")
"""What decides a vector, and is nobody's business who is given the file."""

WHERE = (*NOT_IN_METADATA, "service")
"""What says who makes the vectors. Of it, a file tells `service` alone: what an endpoint of this machine made, such as
the emulator, is not to be taken for the service's."""

PLACES = {"local": "of this machine, such as the emulator", "remote": "elsewhere, such as the service"}


def service_of(client: EmbeddingClient) -> str:
    """Return which of `PLACES` a client's vectors come from."""
    return "local" if client.settings.is_here else "remote"


def warn_of_another_place(path: Path, made: Mapping[str, str], client: EmbeddingClient) -> None:
    """Say that a file's vectors came from the emulator and a question's would not, or the other way round."""
    here = service_of(client)
    there = made.get("service", here)
    if there != here:
        warnings.warn(
            f"{path.name} was made by an endpoint {PLACES.get(there, there)}; the question is embedded by one "
            f"{PLACES[here]}. The vectors of the emulator and the service's cannot be compared.",
            stacklevel=users_stacklevel(),
        )


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
        "service": service_of(client),
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
