"""From a file to a file: what is asked for is looked over, and the work held for this process alone."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from opensearch_embed.bulk.inputs import STDIN, STDIN_NAME, Source, find_inputs
from opensearch_embed.bulk.outputs import check_output, read_inputs
from opensearch_embed.bulk.parts import (
    locked,
    parts_of,
    read_manifest,
    remove,
)
from opensearch_embed.bulk.report import Progress, Report
from opensearch_embed.bulk.run import Run
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import ConfigurationError, InputError
from opensearch_embed.models import InputType


def embed_file(
    source: Source,
    output: str | os.PathLike[str],
    *,
    client: EmbeddingClient | None = None,
    column: str = "text",
    input_type: InputType = "document",
    output_column: str = "embedding",
    format: str | None = None,
    restart: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Report:
    """Embed a file into a file, in bounded memory, at the full rate of the client.

    What ends it, even `kill -9`, costs the requests under way: called again with the same arguments, it goes on. The
    output appears whole or not at all, and is byte for byte what an undisturbed run writes. Until then the work is in
    `OUTPUT.parts`. Rows that cannot be embedded have no vector, and are told in `OUTPUT.rejected.jsonl`.

    Args:
        source: A path, a glob, or several of these: `.parquet`, `.jsonl`, `.csv`, `.tsv`, `.txt`, packed with gzip or
            not. `-` is stdin, and needs `format`.
        output: `.parquet` (the input's columns and one of `fixed_size_list<float>[dimension]`), `.jsonl`, or `.npy`
            (float32 of shape (rows, dimension); rejected rows are NaN).
        client: What embeds. The default is a client with the environment's settings. Whatever its `on_error`, a text
            that the service refuses is a rejected row.
        column: The column with the texts. A text file has one column, which gets this name.
        input_type: `"document"` for texts to be found, `"query"` for texts that search.
        output_column: The column for the vectors.
        format: The input's format, where its name does not say it.
        restart: Throw away what an earlier run has done, and begin anew.
        progress: Called about twice a second, from another thread.

    Returns:
        What became of the rows, and what was spent.

    Raises:
        InputError: The input cannot be read, or has no such column.
        ConfigurationError: An option makes no sense, the input or a setting has changed since the work was begun, or
            another process is at work on this output.
        OpenSearchEmbedError: What trying again could not mend. What is done is kept.
        OSError: The disk is full, or another fault of the file system. What is done is kept.
    """
    start = time.monotonic()
    client = EmbeddingClient() if client is None else client
    place = Path(output)
    parts = parts_of(place)
    from_stdin = source == STDIN
    inputs = None if from_stdin else find_inputs(source, format)
    if inputs is not None and any(place.exists() and path.samefile(place) for path in inputs.paths):
        raise ConfigurationError(f"The output {place} is the input.")
    reader = None if inputs is None else read_inputs(inputs, column)
    if reader is not None:
        check_output(place, output_column, reader)
    with locked(parts):
        try:
            if inputs is None or reader is None:
                inputs = find_inputs(source, format, parts / STDIN_NAME)
                reader = read_inputs(inputs, column)
            run = Run(client, inputs, reader, place, column, output_column, input_type)
            return run.work(restart, progress, start)
        except (ConfigurationError, InputError):
            if read_manifest(parts) is None:
                remove(parts)
            raise
