"""Whether an output that is there already is what this run would write. Nothing is paid for twice."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from opensearch_embed.bulk.decides import from_metadata
from opensearch_embed.bulk.inputs import Inputs
from opensearch_embed.bulk.outputs import Reader
from opensearch_embed.bulk.parts import AGAIN, made_of, parts_of, rejected_of
from opensearch_embed.bulk.rejected import count_rejected
from opensearch_embed.errors import ConfigurationError


def standing(output: Path, form: str, inputs: Inputs, reader: Reader, made: Mapping[str, str]) -> dict[str, int] | None:
    """Return how many rows an output that is finished has, and how many embedded; `None` where there is none.

    Raises:
        ConfigurationError: It was made of something else, and is not overwritten unasked.
    """
    if not output.exists():
        return None
    written = output.stat().st_mtime_ns
    why = None
    if any(path.parent == parts_of(output) or path.stat().st_mtime_ns > written for path in inputs.paths):
        why = "the input is newer"
    else:
        why = _difference(output, form, reader, from_metadata(made))
    if why is not None:
        raise ConfigurationError(f"{output} is there already, and {why}. {AGAIN}")
    return {"rows": reader.rows, "embedded": reader.rows - count_rejected(rejected_of(output))}


def _difference(output: Path, form: str, reader: Reader, wanted: Mapping[str, str]) -> str | None:
    """Return in words what the output was made of that is not wanted, `None` where it is what this run would write."""
    unknown = "it was made from another input, or with other settings: it does not say which"
    try:
        if form == "parquet":
            with pq.ParquetFile(output) as file:
                found = from_metadata(file.schema_arrow.metadata)
                rows = file.metadata.num_rows
        else:
            found = from_metadata(orjson.loads(made_of(output).read_bytes()))
            if form == "npy":
                rows, dimension = np.load(output, mmap_mode="r").shape
                if dimension != int(found["dimension"]):
                    return unknown
            else:
                with output.open("rb") as lines:
                    rows = sum(1 for _ in lines)
    except (ValueError, KeyError, AttributeError, OSError, pa.ArrowException):
        return unknown
    changed = [name for name in wanted if name != "version" and found.get(name) != wanted[name]]
    if "input" in changed or rows != reader.rows:
        return "it was made from another input"
    told = [f"{name} ({found.get(name, 'unknown')!r} then, {wanted[name]!r} now)" for name in changed]
    return f"it was made from the same with other settings: {', '.join(told)}" if told else None
