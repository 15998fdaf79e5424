"""What both adapters need of pydantic: its errors, told as ours. The core itself does without pydantic."""

import difflib
from collections.abc import Iterable

from pydantic import ValidationError

from opensearch_embed.errors import ConfigurationError


def configuration_error(error: ValidationError, fields: Iterable[str]) -> ConfigurationError:
    """Return our error for pydantic's: which argument, what is wrong, and which name may have been meant."""
    return ConfigurationError(
        " ".join(
            _sentence(entry["loc"], entry["type"], entry["msg"], list(fields))
            for entry in error.errors(include_input=False, include_url=False)
        )
    )


def _sentence(location: tuple[int | str, ...], kind: str, message: str, fields: list[str]) -> str:
    name = ".".join(map(str, location)) or "settings"
    if kind != "extra_forbidden":
        return f"{name}: {message}."
    near = difflib.get_close_matches(name, fields, 1)
    return f"Unknown argument {name!r}." + (f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(fields)}.")
