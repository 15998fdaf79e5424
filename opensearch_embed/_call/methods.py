"""The methods that embed. How a call is worked off is the concern of `call` and `stream`."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

from opensearch_embed._call.call import Calls
from opensearch_embed._call.results import Array, Lists, ListsOrErrors
from opensearch_embed._call.stream import Stream, Texts, acheck_iterable, check_batch, check_iterable
from opensearch_embed._call.yielding import aarrays, apairs, arrays, pairs
from opensearch_embed.models import InputType

if TYPE_CHECKING:
    from opensearch_embed._call.results import Rows


class EmbeddingMethods:
    """What a client does, once it is made."""

    @property
    def _calls(self) -> Calls:
        raise NotImplementedError

    def check(self, texts: Iterable[str], input_type: InputType = "document") -> list[str]:
        """Return the texts as a list, if none is empty, no str or not encodable. Sends nothing.

        How long they are is not looked at.

        Raises:
            InputError: A text cannot be sent; what `embed` would raise.
        """
        return self._calls.check(texts, input_type)

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
        return self._calls.run(texts, input_type, Lists, progress)

    async def aembed(
        self, texts: Iterable[str], input_type: InputType = "document", *, progress: bool = False
    ) -> list[list[float]]:
        """Embed texts without blocking the event loop. See `embed`."""
        return await self._calls.arun(texts, input_type, Lists, progress)

    def embed_array(
        self, texts: Iterable[str], input_type: InputType = "document", *, progress: bool = False
    ) -> "Rows":
        """Embed texts into one float32 array of shape (number of texts, `dimension`). See `embed`."""
        return self._calls.run(texts, input_type, Array, progress)

    async def aembed_array(
        self, texts: Iterable[str], input_type: InputType = "document", *, progress: bool = False
    ) -> "Rows":
        """Embed texts into one float32 array, without blocking the event loop. See `embed_array`."""
        return await self._calls.arun(texts, input_type, Array, progress)

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
        check_batch(batch)
        check_iterable(texts)
        kind = ListsOrErrors if batch is None else Array
        stream = Stream(self._calls, texts, input_type, kind, progress=progress)
        return pairs(stream) if batch is None else arrays(stream, batch)

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
        check_batch(batch)
        acheck_iterable(texts)
        kind = ListsOrErrors if batch is None else Array
        stream = Stream(self._calls, texts, input_type, kind, progress=progress)
        return apairs(stream) if batch is None else aarrays(stream, batch)
