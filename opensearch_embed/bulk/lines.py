"""JSON lines, and text files with a text a line. See `tables` for the other forms."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from opensearch_embed.bulk.inputs import Inputs, opened
from opensearch_embed.bulk.tables import BATCH_ROWS
from opensearch_embed.errors import InputError


class TextInput:
    """Rows of text files: the lines, without what ends them.

    Attributes:
        rows: How many there are.
        bytes: What they take.
        schema: One column, which has the name that was asked for.
    """

    def __init__(self, inputs: Inputs, column: str) -> None:
        self._paths = inputs.paths
        self._column = column
        self.schema = pa.schema([pa.field(column, pa.string())])
        self.rows = self.bytes = 0
        for block in self._blocks():
            self.rows += len(block)
            self.bytes += sum(map(len, block))

    def values(self) -> Iterator[list[Any]]:
        """Yield the texts, block by block; a line that is not UTF-8 as bytes."""
        return ([_line(line) for line in block] for block in self._blocks())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the texts as a column, block by block."""
        for values in self.values():
            texts = [text if isinstance(text, str) else text.decode(errors="replace") for text in values]
            yield pa.record_batch([pa.array(texts, pa.string())], schema=self.schema)

    def records(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the texts as objects, block by block."""
        return (batch.to_pylist() for batch in self.batches())

    def _blocks(self) -> Iterator[list[bytes]]:
        for path in self._paths:
            yield from _blocks(path)


class JsonInput:
    """Rows of JSON lines: objects, which need not all have the same keys.

    All lines are read once before anything is sent, so that a line that is not JSON costs nothing. Strings stay
    strings, also those that look like times. A column that holds several kinds of values is JSON text in Parquet.
    """

    def __init__(self, inputs: Inputs, column: str) -> None:
        self._paths = inputs.paths
        self._column = column
        self.rows = self.bytes = 0
        self._schema: pa.Schema | None = None
        names: dict[str, None] = {}
        kinds: dict[str, str] = {}
        for block in self._blocks():
            self.rows += len(block)
            for record in block:
                names.update(dict.fromkeys(record))
                if isinstance(value := record.get(column), str):
                    kinds["text"] = "str"
                    self.bytes += len(value)
                elif value is not None:
                    kinds["other"] = type(value).__name__
        self._names = list(names)
        there = f"The columns: {', '.join(self._names)}."
        if self.rows and column not in names:
            raise InputError(f"There is no column {column!r}: name the one with the texts (--column). {there}")
        if "other" in kinds and "text" not in kinds:
            raise InputError(
                f"The column {column!r} holds no text, but {kinds['other']}: name another (--column). {there}"
            )
        if not self.rows:
            self._names = [column]

    @property
    def names(self) -> list[str]:
        """The keys, in the order in which they first appear."""
        return self._names

    @property
    def schema(self) -> pa.Schema:
        """Columns and types that hold all rows."""
        if self._schema is None:
            self._schema = self._find_schema()
        return self._schema

    def values(self) -> Iterator[list[Any]]:
        """Yield the texts, block by block; what is not a text as what it is."""
        column = self._column
        return ([record.get(column) for record in block] for block in self._blocks())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all columns, block by block."""
        schema = self.schema
        for block in self._blocks():
            columns = [_column([record.get(field.name) for record in block], field.type) for field in schema]
            yield pa.record_batch(columns, schema=schema)

    def records(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the objects, block by block."""
        return self._blocks()

    def _blocks(self) -> Iterator[list[dict[str, Any]]]:
        for path in self._paths:
            number = 0
            for block in _blocks(path):
                yield [_record(line, path, number + i) for i, line in enumerate(block, 1) if line.strip()]
                number += len(block)

    def _find_schema(self) -> pa.Schema:
        types: dict[str, pa.DataType] = dict.fromkeys(self._names, pa.null())
        types[self._column] = pa.string()
        for block in self._blocks():
            for name, so_far in types.items():
                if so_far != pa.string():
                    types[name] = _wider(so_far, [record.get(name) for record in block])
        return pa.schema(types.items())


def _blocks(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a file, some thousands at a time."""
    with opened(path) as file:
        block: list[bytes] = []
        try:
            for line in file:
                block.append(line)
                if len(block) == BATCH_ROWS:
                    yield block
                    block = []
        except (OSError, EOFError) as error:
            raise InputError(f"{path.name} cannot be read: {error}") from error
        if block:
            yield block


def _line(line: bytes) -> str | bytes:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return line


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path.name}, line {number}, is not JSON: {error}.") from error
    if not isinstance(record, dict):
        raise InputError(f"{path.name}, line {number}, is not a JSON object but {type(record).__name__}.")
    return record


def _wider(so_far: pa.DataType, values: list[Any]) -> pa.DataType:
    """Return a type that holds what was seen so far, and these values."""
    try:
        found = pa.infer_type(values)
        merged = pa.unify_schemas([pa.schema([("x", so_far)]), pa.schema([("x", found)])], promote_options="permissive")
        kind = merged.field("x").type
        pa.array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.string()
    return kind


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    make: Callable[[Any], Any]
    if kind == pa.string():
        make = _as_text
    elif pa.types.is_floating(kind):
        make = float
    else:
        return pa.array(values, kind)
    return pa.array([None if value is None else make(value) for value in values], kind)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
