"""What embedding a file will cost, found by going through all of it but the sending."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from opensearch_embed._texts.batches import plan
from opensearch_embed._texts.length import estimate_tokens
from opensearch_embed.bulk.decides import WHERE, in_metadata, what_decides
from opensearch_embed.bulk.inputs import Inputs, Source, content, find_inputs
from opensearch_embed.bulk.outputs import Reader, check_output, read_inputs
from opensearch_embed.bulk.parts import compare, parts_of, read_manifest
from opensearch_embed.bulk.rows import RowCheck, numbered
from opensearch_embed.bulk.standing import standing
from opensearch_embed.bulk.vectors import marked
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.models import InputType

CHUNK_REQUESTS = 32


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take.

    Attributes:
        rows: Rows of the input.
        rejected: Rows whose text cannot be sent.
        requests: Requests, if none has to be repeated.
        tokens: Tokens, by our estimate or the client's own counter.
        seconds: At the client's rate; `None` where it has none.
        kept: Rows that an earlier run has done: requests, tokens and seconds are for the others.
    """

    rows: int
    rejected: int
    requests: int
    tokens: int
    seconds: float | None
    kept: int = 0


def estimate_file(
    source: Source,
    *,
    client: EmbeddingClient | None = None,
    column: str = "text",
    input_type: InputType = "document",
    format: str | None = None,
    output: str | os.PathLike[str] | None = None,
    output_column: str = "embedding",
) -> Estimate:
    """Say what `embed_file` will take for a file. Nothing is sent, and nothing is written.

    Args:
        source: As for `embed_file`.
        client: What would embed; its endpoint and key are not used.
        column: The column with the texts.
        input_type: The role of the texts.
        format: The input's format, where its name does not say it.
        output: What would be written: rows that an earlier run on it has done are not counted again.
        output_column: The column for the vectors.

    Raises:
        InputError: The input cannot be read, or has no such column.
        ConfigurationError: An option makes no sense, or something else was made of the output.
    """
    client = EmbeddingClient() if client is None else client
    with tempfile.TemporaryDirectory() as folder:
        inputs = find_inputs(source, format, Path(folder, "stdin"))
        reader = read_inputs(inputs, column)
        calls = client._tolerant_calls()
        options = calls.engine.options
        check = RowCheck(client, options, input_type)
        done = bytearray()
        if output is not None:
            decides = what_decides(client, options, column, output_column, input_type)
            done = done_before(Path(output), output_column, inputs, reader, decides)
        rejected = requests = tokens = kept = 0

        def texts() -> Iterator[str]:
            nonlocal rejected, kept
            for first, values in numbered(reader.values()):
                for row, value in enumerate(values, first):
                    if check.problem(value, row) is not None:
                        rejected += 1
                    elif row < len(done) and done[row]:
                        kept += 1
                    else:
                        yield value

        count = options.length_function or estimate_tokens
        source_texts = texts()
        while chunk := list(islice(source_texts, options.batch_size * CHUNK_REQUESTS)):
            _, composition = calls.compose(chunk, input_type)
            for batch in plan(composition.items, composition.sizes, options.batch_size):
                requests += 1
                tokens += sum(map(count, batch.texts))
    seconds = None if options.qps is None else requests / options.qps
    return Estimate(reader.rows, rejected, requests, tokens, seconds, kept)


def done_before(output: Path, column: str, inputs: Inputs, reader: Reader, decides: Mapping[str, str]) -> bytearray:
    """Return a byte for each row, 1 where earlier runs on an output have done it.

    Raises:
        ConfigurationError: They were of another input, or had other settings. (The endpoint is not looked at.)
    """
    form, parts, fingerprint = check_output(output, column, reader), parts_of(output), inputs.fingerprint()
    everything = bytearray(b"\1") * reader.rows
    wanted = {name: value for name, value in decides.items() if name not in WHERE}
    made = in_metadata({**wanted, "input": content(fingerprint)})
    manifest = read_manifest(parts)
    if manifest is None:
        return bytearray() if standing(output, form, inputs, reader, made) is None else everything
    compare(manifest, {**wanted, "inputs": fingerprint}, output)
    return everything if "done" in manifest else marked(parts)
