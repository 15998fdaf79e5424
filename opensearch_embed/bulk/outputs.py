"""The forms of the output, each written aside from the first row to the last, so that it is the same whatever happened.

Nothing of this run is in the bytes: no time, no count of requests. What is written is what the rows and settings say.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from opensearch_embed.bulk.inputs import Inputs
from opensearch_embed.bulk.lines import JsonInput, TextInput
from opensearch_embed.bulk.tables import CsvInput, ParquetInput
from opensearch_embed.bulk.vectors import HEADER_BYTES, Vectors
from opensearch_embed.errors import ConfigurationError, InputError

FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npy": "npy"}

GROUP_BYTES = 16 << 20
"""Of vectors, written at once: a row group of Parquet."""

Reader = ParquetInput | CsvInput | JsonInput | TextInput


class Output(Protocol):
    """A file that is being written."""

    def write(self, first: int, rows: Any, count: int) -> None:
        """Write some rows, which are done."""
        ...

    def finish(self) -> Path:
        """Write what stands at the end, and return the file, which is on the disk as a whole."""
        ...

    def close(self) -> None:
        """Let go of the file, finished or not."""
        ...

    def blocks(self, reader: Reader) -> Iterator[tuple[Any, int]]:
        """Yield the rows of the input as this form takes them, block by block, each with their number."""
        ...


def read_inputs(inputs: Inputs, column: str) -> Reader:
    """Look the files over, and return what reads their rows.

    Raises:
        InputError: They cannot be read, or have no such column of text.
    """
    kinds = {"parquet": ParquetInput, "csv": CsvInput, "tsv": CsvInput, "jsonl": JsonInput, "txt": TextInput}
    return cast("Reader", kinds[inputs.format](inputs, column))


def check_output(output: Path, column: str, reader: Reader) -> str:
    """Return the format of the output.

    Raises:
        ConfigurationError: Its name says no format, or it cannot be written there.
        InputError: The input has a column of that name already.
    """
    form = FORMATS.get(output.suffix.lower())
    if form is None:
        raise ConfigurationError(f"The output must end in {', '.join(FORMATS)}: {output.name!r} does not.")
    if output.is_dir():
        raise ConfigurationError(f"The output {output} is a folder.")
    if not output.absolute().parent.is_dir():
        raise ConfigurationError(f"The folder of the output is not there: {output.absolute().parent}.")
    names = reader.names if isinstance(reader, JsonInput) else reader.schema.names
    if form != "npy" and column in names:
        raise InputError(
            f"The input has a column {column!r} already: name another for the vectors (--output-column, "
            f"output_column=). The columns: {', '.join(names)}."
        )
    return form


def begin_output(
    form: str, folder: Path, reader: Reader, vectors: Vectors, *, column: str, dimension: int, metadata: dict[str, str]
) -> Output:
    """Start to write an output of one form, aside."""
    if form == "parquet":
        return ParquetOutput(folder / "output", reader, vectors, column, dimension, metadata)
    if form == "jsonl":
        return JsonOutput(folder / "output", vectors, column)
    return NumpyOutput(vectors, dimension)


def group_rows(dimension: int) -> int:
    """Return how many rows are written at once."""
    return max(256, GROUP_BYTES // (4 * dimension))


class ParquetOutput:
    """The input's columns, and one of vectors."""

    def __init__(
        self, path: Path, reader: Reader, vectors: Vectors, column: str, dimension: int, metadata: dict[str, str]
    ) -> None:
        self._path, self._vectors, self._dimension = path, vectors, dimension
        schema: pa.Schema = reader.schema.append(pa.field(column, pa.list_(pa.float32(), dimension)))
        self._schema = schema.with_metadata({**(schema.metadata or {}), **metadata})
        others = [path for path in _leaves(schema) if path != f"{column}.list.element"]
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            # Vectors do not get smaller, have no use for a dictionary, and nobody asks for their least number.
            compression={**dict.fromkeys(others, "snappy"), f"{column}.list.element": "none"},
            use_dictionary=others,
            write_statistics=others,
        )

    def blocks(self, reader: Reader) -> Iterator[tuple[pa.Table, int]]:
        """Yield tables of as many rows as a row group has: fewer where the rows are large."""
        size, waiting, have = group_rows(self._dimension), [], 0
        for batch in reader.batches():
            waiting.append(batch)
            have += len(batch)
            if have < size and sum(part.nbytes for part in waiting) > GROUP_BYTES:
                yield pa.Table.from_batches(waiting), have
                waiting, have = [], 0
            while have >= size:
                table = pa.Table.from_batches(waiting)
                yield table.slice(0, size), size
                waiting, have = table.slice(size).to_batches(), have - size
        if have:
            yield pa.Table.from_batches(waiting), have

    def write(self, first: int, rows: pa.Table, count: int) -> None:
        """Write one row group."""
        vectors, rejected = self._vectors.read(first, count)
        column = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.reshape(-1)),
            self._dimension,
            mask=pa.array(rejected) if rejected.any() else None,
        )
        table = pa.Table.from_arrays([*rows.columns, column], schema=self._schema)
        self._writer.write_table(table, row_group_size=count)
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> Path:
        """Write the footer."""
        self._writer.close()
        return _finished(self._file, self._path)

    def close(self) -> None:
        """Let go of the file."""
        try:
            self._writer.close()
        finally:
            self._file.close()


class JsonOutput:
    """The input's rows as JSON lines, each with its vector."""

    def __init__(self, path: Path, vectors: Vectors, column: str) -> None:
        self._path, self._vectors, self._column = path, vectors, column
        self._file = path.open("wb")

    def blocks(self, reader: Reader) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Yield the rows as objects."""
        return ((records, len(records)) for records in reader.records() if records)

    def write(self, first: int, rows: list[dict[str, Any]], count: int) -> None:
        """Write some lines."""
        vectors, rejected = self._vectors.read(first, count)
        option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        for record, vector, is_rejected in zip(rows, vectors, rejected, strict=True):
            whole = record | {self._column: None if is_rejected else vector}
            self._file.write(orjson.dumps(whole, default=_as_json, option=option))

    def finish(self) -> Path:
        """Write what is left."""
        return _finished(self._file, self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class NumpyOutput:
    """The vectors alone, as an array; a row that was rejected is NaN. It is the file of vectors, with a header."""

    def __init__(self, vectors: Vectors, dimension: int) -> None:
        self._vectors, self._dimension = vectors, dimension
        self._rows = 0

    def blocks(self, reader: Reader) -> Iterator[tuple[list[Any], int]]:
        """Yield the texts, which are only counted."""
        return ((values, len(values)) for values in reader.values() if values)

    def write(self, first: int, _rows: list[Any], count: int) -> None:
        """Fill the places of rows that were rejected."""
        self._rows = first + count
        for row in range(first, first + count):
            if self._vectors.states[row] != 1:
                self._vectors.overwrite(row, np.full(self._dimension, np.nan, np.float32))

    def finish(self) -> Path:
        """Write the header."""
        with self._vectors.path.open("r+b") as file:
            shape = (self._rows, self._dimension)
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            if file.tell() != HEADER_BYTES:
                raise AssertionError(f"numpy's header takes {file.tell()} bytes")
            file.truncate(HEADER_BYTES + self._rows * self._dimension * 4)
            return _finished(file, self._vectors.path)

    def close(self) -> None:
        """Do nothing: the file is that of the vectors."""


def _finished(file: Any, path: Path) -> Path:
    file.flush()
    os.fsync(file.fileno())
    file.close()
    return path


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the paths of the columns as Parquet counts them: nested ones have several."""
    sink = pa.BufferOutputStream()
    pq.write_metadata(schema, sink)
    columns = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [columns.column(i).path for i in range(len(columns))]


def _as_json(value: Any) -> Any:
    """Return what JSON has no form for as text: numbers of many digits, bytes, spans of time."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
