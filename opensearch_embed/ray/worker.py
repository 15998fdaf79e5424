"""What a worker does with the rows that Ray gives it: texts in, a column of vectors out."""

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from opensearch_embed._loading import load
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import ConfigurationError, InputError, OpenSearchEmbedError
from opensearch_embed.models import InputType
from opensearch_embed.ray.totals import Account, Totals

if TYPE_CHECKING:
    import pyarrow as pa


class Embedder:
    """One worker's client, and what becomes of each table of rows. Ray calls it from several threads.

    The client and not its settings is what travels here: its representation has no key, wherever Ray may print it.
    """

    def __init__(
        self,
        client: EmbeddingClient,
        column: str,
        output_column: str,
        input_type: InputType,
        skips: bool,
        totals: Account,
    ) -> None:
        self._client = client
        self._column = column
        self._output_column = output_column
        self._input_type = input_type
        self._skips = skips
        self._totals = totals
        self._lock = threading.Lock()
        self._told = Totals()

    def __call__(self, table: "pa.Table") -> "pa.Table":
        """Return the table with its vectors.

        Raises:
            OpenSearchEmbedError: As `EmbeddingClient.embed` does; which ends the job.
        """
        require_column(table.column_names, self._column)
        texts = table[self._column].to_pylist()
        rejected: dict[int, str] = {}
        try:
            if self._skips:
                return self._with_reasons(table, texts, rejected)
            rows = self._client.embed_array(texts, self._input_type)
            return table.append_column(self._output_column, _tensors(rows))
        except OpenSearchEmbedError as error:
            self._prepare_for_driver(error)
            raise
        finally:
            self._tell(len(rejected))

    def _with_reasons(self, table: "pa.Table", texts: list[Any], rejected: dict[int, str]) -> "pa.Table":
        import numpy as np
        import pyarrow as pa

        good = [number for number, text in enumerate(texts) if self._can_be_sent(number, text, rejected)]
        rows = np.zeros((len(texts), self._client.dimension), np.float32)
        for place, vector in self._client.iter_embed((texts[number] for number in good), self._input_type):
            number = good[place]
            if isinstance(vector, OpenSearchEmbedError):
                rejected[number] = f"{type(vector).__name__}: {vector}"
            else:
                rows[number] = vector
        missing = np.isin(np.arange(len(texts)), list(rejected))
        reasons = pa.array([rejected.get(number) for number in range(len(texts))], pa.string())
        return table.append_column(self._output_column, _vectors(rows, missing)).append_column(
            reason_column(self._output_column), reasons
        )

    def _can_be_sent(self, number: int, text: object, rejected: dict[int, str]) -> bool:
        try:
            self._client._calls.compose([text], self._input_type)  # type: ignore[list-item]
        except InputError as error:
            rejected[number] = f"InputError: {str(error).replace('texts[0]', self._column)}"
        return number not in rejected

    def _prepare_for_driver(self, error: OpenSearchEmbedError) -> None:
        """Take from an error what means nothing elsewhere: the vectors of this batch, and places in it."""
        error.completed, error.pending = {}, []
        error.__notes__ = []
        if isinstance(error, InputError):
            error.add_note(
                f"texts[...] counts the rows of one batch of the column {self._column!r}. With on_error='skip' the job "
                f"goes on, and the column {reason_column(self._output_column)!r} says why a row has no vector."
            )

    def _tell(self, rejected: int) -> None:
        """Tell the totals what was spent since they were told last."""
        with self._lock:
            usage = self._client.usage
            now = Totals(usage.requests, usage.retries, usage.texts, usage.tokens, usage.cached)
            spent, self._told = now - self._told, now
        self._totals.add(spent + Totals(rejected=rejected))


def reason_column(output_column: str) -> str:
    """Return the name of the column that says why a row has no vector."""
    return f"{output_column}_error"


def require_column(known: Collection[str], column: str) -> None:
    """Check that there is such a column.

    Raises:
        ConfigurationError: There is none; it lists those that there are.
    """
    if column not in known:
        raise ConfigurationError(f"The dataset has no column {column!r}. It has: {', '.join(known) or 'none'}.")


def _vectors(rows: Any, missing: Any = None) -> Any:
    """Return float32 rows as an Arrow array of fixed-size lists; null where `missing`."""
    pa: Any = load("pyarrow")
    mask = None if missing is None else pa.array(missing, pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1], mask=mask)


def _tensors(rows: Any) -> Any:
    """Return float32 rows as Arrow's own tensors, which numpy sees as one array, and Parquet as lists."""
    pa: Any = load("pyarrow")
    kind = pa.fixed_shape_tensor(pa.float32(), [rows.shape[1]])
    return pa.ExtensionArray.from_storage(kind, _vectors(rows))
