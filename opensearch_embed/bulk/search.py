"""The rows of a Parquet file that are nearest to a question: read a block at a time, whatever the size of the file."""

import heapq
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from opensearch_embed.bulk.decides import from_metadata, warn_of_another_place
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import InputError
from opensearch_embed.models import MODELS

if TYPE_CHECKING:
    from opensearch_embed._call.results import Rows

BLOCK_BYTES = 16 << 20
"""Of vectors, looked at once by one thread."""

WHOLE_GROUP_BYTES = 64 << 20
"""Row groups up to this size are read in one go; larger ones, of other programs, a piece at a time."""

READERS = min(4, os.cpu_count() or 1)

_DOUBT = 1e-5
"""What a float32 product may be off by: all that is so near to the best is multiplied again, exactly."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that was found.

    Attributes:
        row: Its number in the file, from 0.
        score: The cosine of its vector and the question's.
        value: What the column that is shown holds there.
    """

    row: int
    score: float
    value: Any


def made_with(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the model that a file names, as arguments of a client; none where it names none.

    Raises:
        InputError: The file is not there, or no Parquet.
    """
    with _parquet(Path(file)) as parquet:
        made = from_metadata(parquet.schema_arrow.metadata)
    if made.get("model") in MODELS or not {"model", "dimension"} <= made.keys():
        return {"model": made["model"]} if "model" in made else {}
    return {"model": made["model"], "dimension": int(made["dimension"])}


def search_file(
    file: str | os.PathLike[str],
    question: str,
    *,
    client: EmbeddingClient | None = None,
    k: int = 5,
    show: str | None = None,
    column: str | None = None,
) -> list[Hit]:
    """Return the `k` rows of a Parquet file whose vectors are nearest to a question, best first.

    Equally near ones come in the order of the rows; rows without a vector are passed over, and one of zeros scores 0.

    Args:
        file: The file, such as `embed_file` writes it.
        question: It is embedded as a query, with one request.
        client: What embeds the question. The default is a client with the environment's settings, and the model that
            the file was made with.
        k: Rows, at most.
        show: The column whose values are returned. The default is the one that was embedded.
        column: The column with the vectors. The default is the one that the file names, or `embedding`.

    Raises:
        InputError: The file is no Parquet, has no such column, or its vectors are another model's, or of another
            dimension.
        OpenSearchEmbedError: The question could not be embedded.
    """
    client = EmbeddingClient(**made_with(file)) if client is None else client
    path = Path(file)
    with _parquet(path) as parquet:
        schema = parquet.schema_arrow
        made = from_metadata(schema.metadata)
        column = column or made.get("output_column", "embedding")
        show = show or made.get("column", "text")
        _check(path, schema, made, column, show, client)
        metadata = parquet.metadata
    [wanted] = client.embed_array([question], "query")
    length = float(np.linalg.norm(wanted.astype(np.float64)))
    best = _Best(k, wanted / length if length else wanted)
    first = 0
    with ThreadPoolExecutor(READERS) as pool:
        pending = (
            pool.submit(_read_group, path, metadata, group, column, best) for group in range(metadata.num_row_groups)
        )
        under_way = list(islice(pending, READERS))
        while under_way:
            count, found = under_way.pop(0).result()
            under_way.extend(islice(pending, 1))
            best.add(first, found)
            first += count
    hits = best.result()
    values = _values(path, [row for row, _ in hits], show)
    return [Hit(row, score, values[row]) for row, score in hits]


class _Best:
    """The best rows so far. Any thread asks for `candidates`; one alone adds them, in the order of the rows."""

    def __init__(self, k: int, wanted: "Rows") -> None:
        self._k = k
        self._wanted = np.ascontiguousarray(wanted, np.float32)
        self._exact = self._wanted.astype(np.float64)
        self._heap: list[tuple[float, int]] = []  # score, and the row negated: the worst first

    def candidates(self, vectors: "Rows") -> list[tuple[int, float]]:
        """Return the rows of a block that may be among the best, each with its exact score, best first."""
        # Not `@`, whose own threads would wait for work beside the readers.
        lengths = np.sqrt(np.vecdot(vectors, vectors))
        rough = np.vecdot(vectors, self._wanted) / np.where(lengths > 0, lengths, 1.0)
        rough[np.isnan(rough)] = -np.inf
        least = -np.inf
        if len(rough) > self._k:
            least = float(np.partition(rough, -self._k)[-self._k])
        heap = self._heap
        if len(heap) == self._k:
            least = max(least, heap[0][0])
        near = np.flatnonzero((rough >= least - _DOUBT) & np.isfinite(rough))
        found = []
        for start in range(0, len(near), 1024):
            rows = near[start : start + 1024]
            exact = vectors[rows].astype(np.float64)
            norms = np.sqrt((exact * exact).sum(axis=1))
            # A sum for each row by itself: the same numbers give the same score, wherever they stand.
            scores = (exact * self._exact).sum(axis=1) / np.where(norms > 0, norms, 1.0)
            found += list(zip(rows.tolist(), scores.tolist(), strict=True))
        return heapq.nsmallest(self._k, found, key=lambda pair: (-pair[1], pair[0]))

    def add(self, first: int, found: list[tuple[int, float]]) -> None:
        """Keep what is good enough."""
        for row, score in found:
            entry = (score, -(first + row))
            if len(self._heap) < self._k:
                heapq.heappush(self._heap, entry)
            elif entry > self._heap[0]:
                heapq.heapreplace(self._heap, entry)

    def result(self) -> list[tuple[int, float]]:
        """Return row and score, best first."""
        return [(-row, score) for score, row in sorted(self._heap, reverse=True)]


def _read_group(
    path: Path, metadata: pq.FileMetaData, group: int, column: str, best: _Best
) -> tuple[int, list[tuple[int, float]]]:
    """Look a row group through, and return how many rows it has, and the best of them."""
    first, found = 0, []
    large = metadata.row_group(group).total_byte_size > WHOLE_GROUP_BYTES
    with pq.ParquetFile(path, metadata=metadata, pre_buffer=False, buffer_size=large << 20) as parquet:
        dimension = len(best._wanted)
        rows = max(1, BLOCK_BYTES // (4 * dimension))
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=[column], use_threads=False):
            vectors = _vectors(batch.column(0), dimension)
            found += [(first + row, score) for row, score in best.candidates(vectors)]
            first += len(batch)
    return first, found


def _vectors(column: Any, dimension: int) -> "Rows":
    """Return the vectors of a column, of lists of one length or of any; NaN where there is none."""
    numbers = column.flatten().to_numpy(zero_copy_only=False)
    if not column.null_count:
        if len(numbers) == len(column) * dimension:
            return np.ascontiguousarray(numbers, np.float32).reshape(-1, dimension)
        raise InputError(f"The vectors of the file do not all have {dimension} numbers.")
    vectors = np.full((len(column), dimension), np.nan, np.float32)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if len(numbers) != valid.sum() * dimension:
        raise InputError(f"The vectors of the file do not all have {dimension} numbers.")
    vectors[valid] = numbers.reshape(-1, dimension)
    return vectors


def _values(path: Path, rows: list[int], show: str) -> dict[int, Any]:
    """Return what a column holds in some rows; other columns, and other row groups, are not read."""
    values: dict[int, Any] = {}
    with _parquet(path) as parquet:
        first = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            here = [row for row in rows if first <= row < first + count]
            if here:
                held = parquet.read_row_group(group, columns=[show]).column(0)
                values.update({row: held[row - first].as_py() for row in here})
            first += count
    return values


def _check(
    path: Path, schema: pa.Schema, made: dict[str, str], column: str, show: str, client: EmbeddingClient
) -> None:
    there = f"The columns: {', '.join(schema.names)}."
    for name, option in ((column, "--column"), (show, "--show")):
        if name not in schema.names:
            raise InputError(f"{path.name} has no column {name!r}: name another ({option}). {there}")
    model = made.get("model", client.model.service_id)
    if model != client.model.service_id:
        raise InputError(
            f"{path.name} holds vectors of the model {model}, and the question would be embedded with "
            f"{client.model.service_id}: these cannot be compared. Say --model {model}."
        )
    warn_of_another_place(path, made, client)
    kind = schema.field(column).type
    is_list = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_floating(kind.value_type):
        raise InputError(f"The column {column!r} of {path.name} holds no vectors, but {kind}. {there}")
    if pa.types.is_fixed_size_list(kind) and kind.list_size != client.dimension:
        raise InputError(
            f"The vectors of {path.name} have dimension {kind.list_size}; those of {client.model.service_id} have "
            f"{client.dimension}. Say the model that they were made with (--model)."
        )


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet, which is what is searched: {error}") from error
    with file:
        yield file
