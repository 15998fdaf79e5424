"""The client: how it is made, what it tells of itself, how it is copied and closed."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from opensearch_embed._call.call import Calls
from opensearch_embed._call.engine import Decode, Engine
from opensearch_embed._call.methods import EmbeddingMethods
from opensearch_embed._call.one_by_one import decode_in_turn
from opensearch_embed._call.refusals import OnError
from opensearch_embed._habits import advised
from opensearch_embed._redis_url import hidden_url
from opensearch_embed._secret import SecretString, hidden
from opensearch_embed._texts.check import OnEmpty
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST, ModelSpec
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings, resolve_settings
from opensearch_embed.usage import Meter, Usage

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

    from opensearch_embed.cache import VectorCache

Overflow = Literal["send", "error", "truncate", "average"]


class EmbeddingClient(EmbeddingMethods):
    """Embeds texts with a model of Alibaba Cloud OpenSearch.

    One client serves many threads and event loops at once; it can be forked, pickled and deep-copied (its settings
    travel, the key included; its connections do not).

    Args:
        model: The model's service id, such as `ops-text-embedding-002`.
        endpoint: Host of the account's API, with or without `https://`.
        api_key: The key.
        workspace: The workspace that the key is valid for.
        dimension: Length of the vectors; for a model outside the catalogue alone.
        qps: Requests a second, at most: the account's quota. `None` means no limit. Clients of one process with the
            same endpoint, model and qps share it.
        limiter: `"redis://host:6379/0"` (extra `redis`) shares `qps` with all processes and machines that name the
            same Redis, endpoint, model and rate. Or a `pyrate_limiter.Limiter`, which is asked instead of `qps`.
        max_concurrency: Requests under way at once, at most: over all threads, and in each event loop. `None` means as
            many as the rate needs at the latency that there is, up to 256; and 32 without a rate.
        batch_size: Texts in one request, at most: 1 to 32.
        timeout: Seconds for one whole request, from sending to the last byte of the answer.
        retry_timeout: Seconds for one batch, from its first attempt: no wait goes past it, no attempt starts after it.
        max_attempts: Times that one batch is sent, at most. Being throttled does not count.
        empty: What an empty text gets: `"error"` an `InputError`, `"zero"` a zero vector, without being sent.
        on_error: What a 400 does, which may be the fault of one text: `"raise"` stops the call; `"isolate"` finds the
            texts that the service refuses, embeds the others, and then raises, naming them; `"skip"` does the same and
            does not raise where the result can show it: arrays have a row of NaN, iteration the error.
        overflow: What happens to a text that is longer than its model reads: `"send"` it and warn once, `"error"`,
            `"truncate"`, or `"average"` the vectors of its pieces.
        length_function: Counts the tokens of a text. The default estimates, rather too many than too few, since the
            service's tokenizers are not public.
        cache: File that keeps vectors (SQLite), or an object with `get_many` and `put_many`: what is in it is not sent.
        compression: Ask for compressed answers: less than half the size, for slow lines, and more work.
        allow_http: Allow an `http://` endpoint on another machine, where the key travels in clear.
        ca_bundle: File of certificates to trust instead of certifi's.
        proxy: URL of a proxy. The default is what `HTTPS_PROXY` and `NO_PROXY` say; `""` means none.

    Raises:
        ConfigurationError: A setting is missing or makes no sense.
    """

    @advised(api_key=hidden, limiter=hidden_url)
    def __init__(
        self,
        model: str | None = None,
        *,
        endpoint: str | None = None,
        api_key: str | SecretString | None = None,
        workspace: str | None = None,
        dimension: int | None = None,
        qps: float | None = 50.0,
        limiter: "str | Limiter | None" = None,
        max_concurrency: int | None = None,
        batch_size: int = MAX_TEXTS_PER_REQUEST,
        timeout: float = 30.0,
        retry_timeout: float = 60.0,
        max_attempts: int = 10,
        empty: OnEmpty = "error",
        on_error: OnError = "raise",
        overflow: Overflow = "send",
        length_function: Callable[[str], int] | None = None,
        cache: "str | os.PathLike[str] | VectorCache | None" = None,
        compression: bool = False,
        allow_http: bool = False,
        ca_bundle: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
    ) -> None:
        api_key, limiter = hidden(api_key), hidden_url(limiter)
        settings = resolve_settings(
            model=model,
            endpoint=endpoint,
            api_key=api_key,
            workspace=workspace,
            dimension=dimension,
            allow_http=allow_http,
            # "~" means the same in an argument as in a shell.
            ca_bundle=os.path.expanduser(ca_bundle) if isinstance(ca_bundle, (str, os.PathLike)) else ca_bundle,
            proxy=proxy,
        )
        options = Options(
            qps=qps,
            limiter=limiter,
            max_concurrency=max_concurrency,
            batch_size=batch_size,
            timeout=timeout,
            retry_timeout=retry_timeout,
            max_attempts=max_attempts,
            empty=empty,
            on_error=on_error,
            overflow=overflow,
            length_function=length_function,
            cache=_opened(cache),
            compression=compression,
        )
        self._set_up(settings, options)

    def _set_up(self, settings: Settings, options: Options) -> None:
        self.settings = settings
        self._options = options
        self._made = Calls(Engine(settings, options))

    @property
    def _calls(self) -> Calls:
        made = self._made
        if made.engine.pid != os.getpid():
            # Kept, so that a forked child does not tidy up connections that the parent goes on using.
            _left_to_the_parent.append(made)
            made = self._made = Calls(Engine(self.settings, self._options, Meter(made.engine.meter.usage)))
        return made

    def _tolerant_calls(self, decode: Decode = decode_in_turn) -> Calls:
        """Return what works off calls that a refused text does not stop. It counts into this client's usage."""
        return Calls(Engine(self.settings, replace(self._options, on_error="skip"), self._calls.engine.meter, decode))

    @property
    def model(self) -> ModelSpec:
        """The model: `service_id`, `dimension`, `max_input_tokens`, `languages`."""
        return self.settings.model

    @property
    def dimension(self) -> int:
        """Length of each vector; from the catalogue, never by a network call."""
        return self.settings.model.dimension

    @property
    def usage(self) -> Usage:
        """Requests, retries, texts and tokens since the client was made."""
        return self._made.engine.meter.usage

    def close(self) -> None:
        """Close what is idle, and what calls under way hold at their end. Waits for nobody; a later call opens anew."""
        self._calls.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop too. See `close`."""
        await self._calls.engine.connections.aclose()
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if "settings" not in vars(self):  # a traceback can show a client whose constructor has failed
            return f"{type(self).__name__}()"
        return f"{type(self).__name__}(model={self.model.service_id!r}, endpoint={self.settings.endpoint!r})"

    def __eq__(self, other: object) -> bool:
        """Two clients are equal when they are set up alike."""
        return isinstance(other, EmbeddingClient) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash(self.settings)

    def __getstate__(self) -> tuple[Settings, Options]:
        return self.settings, self._options

    def __setstate__(self, state: tuple[Settings, Options]) -> None:
        self._set_up(*state)

    def __deepcopy__(self, _memo: dict[int, Any] | None = None) -> Self:
        # A limiter is shared on purpose, so it is not copied.
        twin = type(self).__new__(type(self))
        twin._set_up(self.settings, self._options)
        return twin

    __copy__ = __deepcopy__


_left_to_the_parent: list[Calls] = []


def _opened(cache: "str | os.PathLike[str] | VectorCache | None") -> "VectorCache | None":
    """Return a cache, opened if it is a file: a bad path is told before anything is paid for."""
    if not isinstance(cache, (str, os.PathLike)):
        return cache
    from opensearch_embed.cache import SqliteCache

    return SqliteCache(cache)
