"""What both adapters are made of: the client's arguments as pydantic fields, and a client made of them.

The core does without pydantic. What an adapter adds is its framework's vocabulary.
"""

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from opensearch_embed._arguments import ClientArguments as ClientArguments
from opensearch_embed._habits import missing as missing
from opensearch_embed._habits import unknown
from opensearch_embed._redis_url import RedisUrl, hidden_url
from opensearch_embed._secret import SecretString, hidden
from opensearch_embed._validation import configuration_error as configuration_error
from opensearch_embed._validation import frozen_error as frozen_error
from opensearch_embed._validation import hiding_input
from opensearch_embed._validation import unknown_attribute as unknown_attribute
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import ConfigurationError
from opensearch_embed.usage import Usage


def resolved(description: str, **others: Any) -> Any:
    """Return a field that holds the value in use once the object is made; `None` lets the environment decide."""
    return Field(default=None, description=description, **others)


class Adapter(BaseModel):
    """Settings, and a client made of them. Copies are made anew, so that they are checked, and open what they need."""

    name_of_model: ClassVar[str]
    """The field that holds the service id."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, arbitrary_types_allowed=True)

    api_key: SecretStr = resolved("The key. Default: AISEARCH_API_KEY or OPENSEARCH_API_KEY.")
    endpoint: str = resolved("Host of the account's API. Default: AISEARCH_ENDPOINT or OPENSEARCH_ENDPOINT.")
    workspace: str = resolved("The workspace that the key is valid for. Default: OPENSEARCH_WORKSPACE or `default`.")
    dimension: int = resolved("Length of the vectors: to be said for a model outside the catalogue alone.")
    qps: float | None = Field(default=50.0, description="Requests a second, at most; None means no limit.")
    limiter: Any = Field(
        default=None,
        repr=False,
        description="URL of a Redis that keeps one quota for many processes; or a `pyrate_limiter.Limiter`.",
    )
    max_concurrency: int | None = Field(
        default=None, description="Requests under way at once, at most; None means as many as the rate needs."
    )
    batch_size: int = Field(default=32, description="Texts in one request, at most: 1 to 32.")
    timeout: float = Field(default=30.0, description="Seconds for one whole request.")
    retry_timeout: float = Field(default=60.0, description="Seconds for one batch, with all its attempts and waits.")
    max_attempts: int = Field(default=10, description="Times that one batch is sent, at most; throttling aside.")
    empty: Literal["error", "zero"] = Field(
        default="error", description="What an empty document gets: an InputError, or a vector of zeros."
    )
    on_error: Literal["raise", "isolate"] = Field(
        default="raise", description="What a 400 does: it stops the call, or the texts at fault are found first."
    )
    overflow: Literal["send", "error", "truncate", "average"] = Field(
        default="send", description="What becomes of a text that is longer than its model reads."
    )
    length_function: Any = Field(
        default=None, exclude=True, repr=False, description="Counts the tokens of a text; None means an estimate."
    )
    cache: Any = Field(
        default=None, description="File that keeps vectors, or an object with `get_many` and `put_many`."
    )
    compression: bool = Field(default=False, description="Ask for compressed answers, for slow lines.")
    allow_http: bool = Field(default=False, description="Allow plain http to another machine: the key is in clear.")
    ca_bundle: str | None = Field(default=None, description="File of certificates to trust; None means certifi's.")
    proxy: str | None = Field(
        default=None, repr=False, description="URL of a proxy; None: the environment decides; empty: none."
    )

    _client: EmbeddingClient = PrivateAttr()

    def __new__(cls, *positional: Any, **_: Any) -> Self:
        """Refuse settings without a name, here and not in the constructor, whose signature is shown to users."""
        if positional and cls.__init__ is Adapter.__init__:  # a subclass may have a constructor of its own
            del positional  # it may be a key
            raise TypeError(f"{cls.__name__} takes its settings by name: {cls.name_of_model}=..., api_key=..., ...")
        return super().__new__(cls)

    def __init__(self, **data: Any) -> None:
        self._make(data)

    def _make(self, data: dict[str, Any]) -> None:
        """Do what the constructor does; apart from it, since a subclass may have a constructor of its own."""
        self._refuse_strangers(data)
        for name in (self.name_of_model, "api_key", "endpoint", "workspace", "dimension"):
            if data.get(name) is None:
                data.pop(name, None)
        if (key := data.pop("api_key", None)) is not None:
            # From here on no frame shows the key, should a debugger print one. pydantic v1 has a secret of its own.
            data["api_key"] = SecretStr(key.get_secret_value() if isinstance(key, SecretString) else key)
            del key
        if "limiter" in data:
            data["limiter"] = hidden_url(data["limiter"])
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise configuration_error(error) from error
        names = list(ClientArguments.__annotations__)
        client = EmbeddingClient(getattr(self, self.name_of_model), **{name: getattr(self, name) for name in names})
        self._client = client
        settings = client.settings
        self.__dict__.update(
            {
                self.name_of_model: client.model.service_id,
                "api_key": SecretStr(settings.api_key.get_secret_value()),
                "endpoint": settings.endpoint,
                "workspace": settings.workspace,
                "dimension": client.dimension,
            }
        )

    @classmethod
    def _known(cls) -> list[str]:
        """Return the names that the constructor takes."""
        aliases = [field.alias for field in cls.model_fields.values() if field.alias]
        return [*cls.model_fields, *aliases]

    @classmethod
    def _refuse_strangers(cls, data: dict[str, Any]) -> None:
        known = cls._known()
        strangers = [name for name in data if name not in known]
        if strangers and cls.model_config.get("extra") == "forbid":
            data.clear()  # so that no frame shows a key by another name
            raise ConfigurationError(" ".join(unknown(name, known) for name in strangers))

    @field_validator("on_error", mode="before")
    @classmethod
    def _check_on_error(cls, on_error: object) -> object:
        if on_error == "skip":
            raise PydanticCustomError(
                "skip",
                "'skip' is for results that can show which text has no vector, and a list of vectors cannot: use "
                "'isolate', whose error has the vectors of all other texts in `completed`; or "
                "EmbeddingClient(on_error='skip') with embed_array or iter_embed",
            )
        return on_error

    @field_validator("ca_bundle", mode="before")
    @classmethod
    def _path_as_text(cls, path: object) -> object:
        return os.path.expanduser(path) if isinstance(path, (str, os.PathLike)) else path

    @field_validator("cache", mode="before")
    @classmethod
    def _absolute(cls, cache: object) -> object:
        """Return a path that means the same to a worker that starts elsewhere."""
        if isinstance(cache, (str, os.PathLike)) and os.fspath(cache):
            return os.path.abspath(os.path.expanduser(cache))
        return cache

    @field_serializer("cache")
    def _cache_as_text(self, cache: object) -> str | None:
        return cache if isinstance(cache, str) else None  # an object is not written down

    @field_validator("limiter", mode="before")
    @classmethod
    def _hidden_url(cls, limiter: object) -> object:
        return hidden_url(limiter)

    @field_serializer("limiter")
    def _limiter_as_text(self, limiter: object) -> str | None:
        """Return a URL without its password; an object is not written down."""
        return limiter.masked if isinstance(limiter, RedisUrl) else None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Whoever has this model for a field prints, in pydantic's errors, what it was given: a dict with a key in it.
        return core_schema.no_info_wrap_validator_function(hiding_input, handler(source))

    @property
    def client(self) -> EmbeddingClient:
        """The core's client: it has streams (`iter_embed`) and arrays (`embed_array`) besides."""
        return self._client

    @property
    def usage(self) -> Usage:
        """Requests, retries, texts and tokens since this object was made."""
        return self._client.usage

    def close(self) -> None:
        """Close threads and connections. A later call opens new ones."""
        self._client.close()

    async def aclose(self) -> None:
        """Close threads, and the connections of threads and of the running event loop."""
        await self._client.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """Return a new object with these settings, some of them updated. What is no plain value is shared."""
        changes = dict(update or {})
        del update  # no frame shows a key, should a debugger print one
        self._refuse_strangers(changes)
        if "api_key" in changes:
            changes["api_key"] = hidden(changes["api_key"])
        # All fields, not those that were given alone: a copy must not depend on the environment of its own time.
        settings = {name: getattr(self, name) for name in type(self).model_fields} | changes
        if settings[self.name_of_model] != getattr(self, self.name_of_model) and "dimension" not in changes:
            del settings["dimension"]  # it was the old model's
        twin = type(self).__new__(type(self))
        twin._make(settings)
        for name, value in (self.__pydantic_private__ or {}).items():
            if name != "_client":  # a subclass's own
                setattr(twin, name, value)
        return twin

    copy = model_copy  # type: ignore[assignment]  # pydantic's own keeps the old client under the new settings

    def __copy__(self) -> Self:
        return self.model_copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()
