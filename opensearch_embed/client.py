"""The client: what users call. How a call is worked off is the engine's concern."""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from opensearch_embed._calls import Calls
from opensearch_embed._engine import Engine
from opensearch_embed._job import OnError
from opensearch_embed._plan import OnEmpty
from opensearch_embed._store import Array, Lists, ListsOrErrors
from opensearch_embed._stream import Stream, Texts, aarrays, apairs, arrays, pairs
from opensearch_embed.models import InputType, ModelSpec
from opensearch_embed.options import Options
from opensearch_embed.settings import SecretString, Settings, hidden, resolve_settings
from opensearch_embed.usage import Usage

if TYPE_CHECKING:
    import numpy as np
    from pyrate_limiter import Limiter

    from opensearch_embed.cache import VectorCache

    Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]

Overflow = Literal["send", "error", "truncate", "average"]


class EmbeddingClient:
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
        limiter: A `pyrate_limiter.Limiter` to use instead; with a store in Redis it serves many machines.
        max_concurrency: Requests under way at once, at most: over all threads, and in each event loop.
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
        allow_http: Allow an `http://` endpoint on another machine, where the key travels in clear.
        ca_bundle: File of certificates to trust instead of certifi's.
        proxy: URL of a proxy. The default is what `HTTPS_PROXY` and `NO_PROXY` say; `""` means none.

    Raises:
        ConfigurationError: A setting is missing or makes no sense.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        endpoint: str | None = None,
        api_key: str | SecretString | None = None,
        workspace: str | None = None,
        dimension: int | None = None,
        qps: float | None = 50.0,
        limiter: "Limiter | None" = None,
        max_concurrency: int = 32,
        timeout: float = 30.0,
        retry_timeout: float = 60.0,
        max_attempts: int = 10,
        empty: OnEmpty = "error",
        on_error: OnError = "raise",
        overflow: Overflow = "send",
        length_function: Callable[[str], int] | None = None,
        cache: "str | os.PathLike[str] | VectorCache | None" = None,
        allow_http: bool = False,
        ca_bundle: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
    ) -> None:
        api_key = hidden(api_key)
        settings = resolve_settings(
            model=model,
            endpoint=endpoint,
            api_key=api_key,
            workspace=workspace,
            dimension=dimension,
            allow_http=allow_http,
            ca_bundle=ca_bundle,
            proxy=proxy,
        )
        options = Options(
            qps=qps,
            limiter=limiter,
            max_concurrency=max_concurrency,
            timeout=timeout,
            retry_timeout=retry_timeout,
            max_attempts=max_attempts,
            empty=empty,
            on_error=on_error,
            overflow=overflow,
            length_function=length_function,
            cache=cache,
        )
        self._set_up(settings, options)

    def _set_up(self, settings: Settings, options: Options) -> None:
        self.settings = settings
        self._options = options
        self._engine = Engine(settings, options)
        self._calls = Calls(self._engine)

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
        return self._engine.meter.usage

    def embed(
        self, texts: Iterable[str], input_type: InputType = "document", *, progress: bool = False
    ) -> list[list[float]]:
        """Embed texts.

        Args:
            texts: Any iterable of str.
            input_type: `"document"` for texts to be found, `"query"` for texts that search.
            progress: Show a progress bar.

        Returns:
            One vector of `dimension` floats for each text, in their order.

        Raises:
            InputError: A text cannot be sent. Nothing has been sent then.
            OpenSearchEmbedError: The first error that trying again could not mend. Its `completed` holds the vectors
                that were received, by index; its `pending` the indices of the other texts.
        """
        return self._calls.run(texts, input_type, Lists, progress)  # type: ignore[no-any-return]

    async def aembed(
        self, texts: Iterable[str], input_type: InputType = "document", *, progress: bool = False
    ) -> list[list[float]]:
        """Embed texts without blocking the event loop. See `embed`."""
        return await self._calls.arun(texts, input_type, Lists, progress)  # type: ignore[no-any-return]

    def embed_array(
        self, texts: Iterable[str], input_type: InputType = "document", *, progress: bool = False
    ) -> "Rows":
        """Embed texts into one float32 array of shape (number of texts, `dimension`). See `embed`."""
        return self._calls.run(texts, input_type, Array, progress)  # type: ignore[no-any-return]

    async def aembed_array(
        self, texts: Iterable[str], input_type: InputType = "document", *, progress: bool = False
    ) -> "Rows":
        """Embed texts into one float32 array, without blocking the event loop. See `embed_array`."""
        return await self._calls.arun(texts, input_type, Array, progress)  # type: ignore[no-any-return]

    @overload
    def iter_embed(
        self, texts: Iterable[str], input_type: InputType = "document", *, batch: None = None, progress: bool = False
    ) -> Iterator[tuple[int, list[float]]]: ...
    @overload
    def iter_embed(
        self, texts: Iterable[str], input_type: InputType = "document", *, batch: int, progress: bool = False
    ) -> "Iterator[Rows]": ...
    def iter_embed(
        self,
        texts: Iterable[str],
        input_type: InputType = "document",
        *,
        batch: int | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """Embed a corpus of any length in bounded memory, at full concurrency.

        `texts` is read as the vectors are taken: while the consumer works, some thousands of texts are ahead of it, and
        no more.

        Args:
            texts: Any iterable of str, such as a generator.
            input_type: As for `embed`.
            batch: Rows of each array. Without it, vectors come one by one.
            progress: Show a progress bar.

        Yields:
            `(index, vector)` in the order of the texts; with `batch`, float32 arrays of shape (`batch`, `dimension`),
            the last one shorter.

        Raises:
            InputError: A text cannot be sent; the texts of earlier chunks have been by then.
            OpenSearchEmbedError: As for `embed`. `completed` and `pending` are about texts that were read, and not
                yielded yet.
        """
        kind = ListsOrErrors if batch is None else Array
        chunks = Stream(self._calls, texts, input_type, kind, batch, progress).run()
        return pairs(chunks) if batch is None else arrays(chunks)

    @overload
    def aiter_embed(
        self, texts: Texts, input_type: InputType = "document", *, batch: None = None, progress: bool = False
    ) -> AsyncIterator[tuple[int, list[float]]]: ...
    @overload
    def aiter_embed(
        self, texts: Texts, input_type: InputType = "document", *, batch: int, progress: bool = False
    ) -> "AsyncIterator[Rows]": ...
    def aiter_embed(
        self, texts: Texts, input_type: InputType = "document", *, batch: int | None = None, progress: bool = False
    ) -> AsyncIterator[Any]:
        """Embed a corpus of any length without blocking the event loop; `texts` may be async. See `iter_embed`."""
        kind = ListsOrErrors if batch is None else Array
        chunks = Stream(self._calls, texts, input_type, kind, batch, progress).arun()
        return apairs(chunks) if batch is None else aarrays(chunks)

    def close(self) -> None:
        """Close threads and connections. A later call opens new ones."""
        self._engine.runtime.close()

    async def aclose(self) -> None:
        """Close threads, and the connections of threads and of the running event loop."""
        await self._engine.runtime.aclose()
        self._engine.runtime.close()

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
