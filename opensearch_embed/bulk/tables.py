"""Parquet, CSV and TSV, read by pyarrow as a stream of record batches. See `lines` for the other forms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from opensearch_embed.bulk.inputs import Inputs, opened
from opensearch_embed.errors import InputError

BATCH_ROWS = 512
"""Rows that are read at once: few, since a text may be long."""

_BUFFER_BYTES = 1 << 20

_BAD_CELL = re.compile(r"In CSV column #(\d+): .*conversion error to (\w+)")


class _Columns:
    """Rows that are read by columns, block by block."""

    _column: str

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """Yield these columns, or all."""
        raise NotImplementedError

    def values(self) -> Iterator[list[Any]]:
        """Yield the texts, block by block; what is not a text as what it is."""
        for batch in self._batches([self._column]):
            yield _texts(batch.column(0))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all columns, block by block."""
        return self._batches(None)

    def records(self) -> Iterator[list[dict[str, Any]]]:
        """Yield all columns as Python sees them, block by block."""
        return (batch.to_pylist() for batch in self.batches())


class ParquetInput(_Columns):
    """Rows of Parquet files.

    Attributes:
        rows: How many there are.
        bytes: What their texts take, about.
        schema: Their columns.
    """

    def __init__(self, inputs: Inputs, column: str) -> None:
        self._paths = inputs.paths
        self.rows = self.bytes = 0
        self.schema: pa.Schema = None
        for path in self._paths:
            with _parquet(path) as file:
                schema = file.schema_arrow
                if self.schema is not None and not schema.equals(self.schema):
                    raise _unlike(path, schema, self._paths[0], self.schema)
                self.schema = self.schema or schema
                self.rows += file.metadata.num_rows
                self.bytes += _column_bytes(file.metadata, column)
        check_column(self.schema, column)
        self._column = column

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with _parquet(path) as file:
                yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


class CsvInput(_Columns):
    """Rows of CSV or TSV files. The text column is text; the others are what pyarrow takes them for.

    All cells are looked at once before anything is sent: a column whose later cells do not fit its first ones is text.
    """

    def __init__(self, inputs: Inputs, column: str) -> None:
        self._paths = inputs.paths
        self._delimiter = "\t" if inputs.format == "tsv" else ","
        self._column = column
        self._types: dict[str, pa.DataType] = {column: pa.string()}
        self.rows = self.bytes = 0
        self.schema = self._survey()
        check_column(self.schema, column)

    def _survey(self) -> pa.Schema:
        """Count the rows, and find types that fit every cell."""
        while True:
            self.rows = self.bytes = 0
            schema: pa.Schema = None
            path = self._paths[0]
            try:
                for path in self._paths:
                    with self._open(path, None) as reader:
                        if schema is None:
                            check_column(reader.schema, self._column)
                            schema = reader.schema
                            self._types = {field.name: field.type for field in schema} | self._types
                        elif reader.schema.names != schema.names:
                            raise _unlike(path, reader.schema, self._paths[0], schema)
                        for batch in reader:
                            self.rows += batch.num_rows
                            self.bytes += batch.nbytes
            except pa.ArrowInvalid as error:
                if schema is None or (found := _BAD_CELL.search(str(error))) is None:
                    raise InputError(f"{path.name} cannot be read as CSV: {error}") from error
                name, kind = schema.names[int(found[1])], found[2]
                if self._types[name] == pa.string():
                    raise InputError(f"{path.name} cannot be read as CSV: {error}") from error
                self._types[name] = pa.float64() if kind == "int64" else pa.string()
                continue
            return pa.schema([pa.field(name, self._types[name]) for name in schema.names])

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with self._open(path, columns) as reader:
                yield from reader

    @contextmanager
    def _open(self, path: Path, columns: list[str] | None) -> Iterator[pc.CSVStreamingReader]:
        with (
            opened(path) as file,
            pc.open_csv(
                file,
                read_options=pc.ReadOptions(block_size=_BUFFER_BYTES, use_threads=False),
                parse_options=pc.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                convert_options=pc.ConvertOptions(column_types=self._types, include_columns=columns),
            ) as reader,
        ):
            yield reader


def check_column(schema: pa.Schema, column: str) -> None:
    """Refuse a column that is not there, or holds no text.

    Raises:
        InputError: It lists the columns that there are.
    """
    there = f"The columns: {_told(schema)}."
    if schema.names.count(column) != 1:
        raise InputError(f"There is no column {column!r}: name the one with the texts (--column). {there}")
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    if not (is_text or kind == pa.string_view()):
        raise InputError(f"The column {column!r} holds no text, but {kind}: name another (--column). {there}")


def _unlike(path: Path, schema: pa.Schema, first: Path, wanted: pa.Schema) -> InputError:
    return InputError(
        f"The files of one input must have the same columns: {path.name} has {_told(schema)}; {first.name} has "
        f"{_told(wanted)}."
    )


def _told(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _texts(column: pa.Array) -> list[Any]:
    try:
        texts: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # a writer that was not careful: such a row is told as bytes
        texts = [_text(value) for value in column.cast(pa.binary()).to_pylist()]
    return texts


def _text(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        # Column chunks are read a piece at a time, so that large row groups are never in memory as a whole.
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path.name} cannot be read as Parquet: {error}") from error
    with file:
        yield file


def _column_bytes(metadata: pq.FileMetaData, column: str) -> int:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    chunks = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
