"""What both adapters need of pydantic: types of fields, and its errors told as ours. The core does without pydantic."""

import difflib
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from os.path import abspath
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, SecretStr, ValidationError

from opensearch_embed._redis_url import RedisUrl, hidden_url
from opensearch_embed.errors import ConfigurationError


def _path_as_text(path: object) -> object:
    return fspath(path) if isinstance(path, PathLike) else path


FilePath = Annotated[str | None, BeforeValidator(_path_as_text)]
"""The path of a file, kept as text."""


def _absolute(cache: object) -> object:
    return abspath(cache) if isinstance(cache, (str, PathLike)) and fspath(cache) else cache


CacheField = Annotated[
    Any, BeforeValidator(_absolute), PlainSerializer(lambda cache: cache if isinstance(cache, str) else None)
]
"""The path of a cache file, made absolute for workers elsewhere; or a cache. An object is not serialised."""

LimiterField = Annotated[
    Any,
    BeforeValidator(hidden_url),
    PlainSerializer(lambda limiter: limiter.masked if isinstance(limiter, RedisUrl) else None),
    Field(repr=False),
]
"""The URL of a Redis, serialised without its password; or a limiter, which is not serialised."""

Unserialised = Annotated[Any, Field(exclude=True, repr=False)]
"""An object of the user's own."""


def hide_secrets(settings: dict[str, Any]) -> None:
    """Wrap the key, and the URL of a Redis: from here on no frame shows them, should a debugger print one."""
    if isinstance(settings.get("api_key"), str):
        settings["api_key"] = SecretStr(settings["api_key"])
    if isinstance(settings.get("limiter"), str):
        settings["limiter"] = hidden_url(settings["limiter"])


class MadeAnew(BaseModel):
    """Copies are made by the constructor, so that they are checked, and open connections of their own."""

    name_of_model: ClassVar[str]
    """The field that holds the service id."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Return a new object with these settings, some of them updated. What is no plain value is shared."""
        # All fields, not those that were given alone: a copy must not depend on the environment of its own time.
        settings = {name: getattr(self, name) for name in type(self).model_fields} | dict(update or {})
        if settings[self.name_of_model] != getattr(self, self.name_of_model) and "dimension" not in (update or {}):
            del settings["dimension"]  # it was the old model's
        return type(self)(**settings)

    def __copy__(self) -> Self:
        return self.model_copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()


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
