"""pydantic's errors, told as ours, and without what they are about: a dict of settings has a key in it."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from opensearch_embed._habits import unknown
from opensearch_embed.errors import ConfigurationError


def hiding_input(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Validate, and let an error that names a place, here or in a model that has this one, show nothing of it."""
    try:
        return validate(value)
    except ValidationError as error:
        hidden = without_input(error)
    raise hidden


def without_input(error: ValidationError) -> ValidationError:
    """Return pydantic's error without what it is about, which may be a key."""
    return ValidationError.from_exception_data(
        error.title,
        [
            InitErrorDetails(type=PydanticCustomError(entry["type"], entry["msg"]), loc=entry["loc"], input="hidden")
            for entry in error.errors(include_input=False, include_url=False, include_context=False)
        ],
        hide_input=True,
    )


def frozen_error(model: BaseModel, name: str) -> ValidationError:
    """Return pydantic's error of an object that cannot be changed, with the way out, and without the value."""
    fields = list(type(model).model_fields)
    words = f"Instance is frozen: make another one with model_copy(update={{{name!r}: ...}})"
    if name not in fields:
        words = f"{unknown(name, fields).removesuffix('.')} Instance is frozen: set it with model_copy(update={{...}})"
    details = InitErrorDetails(type=PydanticCustomError("frozen_instance", words), loc=(name,), input="hidden")
    return ValidationError.from_exception_data(type(model).__name__, [details], hide_input=True)


def unknown_attribute(model: BaseModel, name: str) -> ValueError:
    """Return pydantic's error of an attribute that is no field, with the one that may have been meant."""
    advice = unknown(name, type(model).model_fields).partition(". ")[2]
    return ValueError(f"{type(model).__name__} object has no field {name!r}. {advice}")


def configuration_error(error: ValidationError) -> ConfigurationError:
    """Return our error for pydantic's: which argument, and what is wrong with it."""
    return ConfigurationError(
        " ".join(
            f"{'.'.join(map(str, entry['loc'])) or 'settings'}: {entry['msg']}."
            for entry in error.errors(include_input=False, include_url=False)
        )
    )
