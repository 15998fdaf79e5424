"""One run over a file: read, embedded, written, all three at once, and gone on with after whatever ended it.

The texts are one stream, so that the quota is never idle; each answer is on disk as soon as it is there (`vectors`). A
second reader goes over the input behind it, and writes the output from the first row to the last, aside. It is begun
anew by each run, which costs no request, and so it is the same however often the work was broken off.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from opensearch_embed import __version__
from opensearch_embed._call.attach import attach
from opensearch_embed._call.stream import Stream
from opensearch_embed.bulk.arrivals import Arrivals
from opensearch_embed.bulk.decides import WHERE, in_metadata, what_decides
from opensearch_embed.bulk.decoders import UNHURRIED_QPS, Decoders, helpers_for
from opensearch_embed.bulk.inputs import STDIN_NAME, Inputs, content
from opensearch_embed.bulk.outputs import Reader, begin_output, check_output
from opensearch_embed.bulk.parts import (
    compare,
    empty,
    parts_of,
    put_in_place,
    read_manifest,
    rejected_of,
    remove,
    write_json,
    write_manifest,
)
from opensearch_embed.bulk.rejected import Rejections
from opensearch_embed.bulk.report import Progress, Report
from opensearch_embed.bulk.reporting import Reporter
from opensearch_embed.bulk.rows import RowCheck, numbered
from opensearch_embed.bulk.standing import standing
from opensearch_embed.bulk.vectors import EMBEDDED, OPEN, Vectors, marked
from opensearch_embed.bulk.writing import Writing
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import ConfigurationError, OpenSearchEmbedError
from opensearch_embed.models import InputType

VERSION = 2
"""Of what is in OUTPUT.parts."""

OF_TEXTS = re.compile(r" The request held texts\[[^.]*\.")
"""What the core's error says of its texts, which are counted in the order of their sending, and not as rows."""

CHUNK_BYTES = 32 << 20
"""Of texts, read ahead at once, at most: two chunks are under way."""


class Run:
    """One run over one file, by the process that holds its parts."""

    def __init__(
        self,
        client: EmbeddingClient,
        inputs: Inputs,
        reader: Reader,
        output: Path,
        column: str,
        output_column: str,
        input_type: InputType,
    ) -> None:
        self._client, self._inputs, self._reader, self._output = client, inputs, reader, output
        self._output_column, self._input_type = output_column, input_type
        self._form = check_output(output, output_column, reader)
        self._parts = parts_of(output)
        self._decoders = Decoders(helpers_for(client._options.qps), client.dimension)
        self._calls = client._tolerant_calls(self._decoders.decode)
        if client._options.qps is not None and client._options.qps > UNHURRIED_QPS:
            self._decoders.bound(self._calls.engine.threads.pool)
        self._options = self._calls.engine.options
        self._check = RowCheck(client, self._options, input_type)
        self._decides = what_decides(client, self._options, column, output_column, input_type)

    def work(self, restart: bool, progress: Callable[[Progress], object] | None, start: float) -> Report:
        """Embed what is not embedded yet, and put the output in its place."""
        inputs = self._inputs.fingerprint()
        manifest = {"version": VERSION, **self._decides, "inputs": inputs}
        made = in_metadata({**self._decides, "input": content(inputs), "version": __version__})
        found = None if restart else read_manifest(self._parts)
        if found is not None:
            # A wrong address that nothing came from need not be kept.
            mended = () if "done" in found or any(marked(self._parts)) else WHERE
            compare(found, {name: manifest[name] for name in manifest if name not in mended}, self._output)
            if "done" in found:
                if put_in_place(self._parts, self._output, found["done"]):
                    return self._report(found["done"], 0, 0, start)
                empty(self._parts, but=STDIN_NAME)  # somebody took the output away
                found = None
        if found is None:
            there = None if restart else standing(self._output, self._form, self._inputs, self._reader, made)
            if there is not None:
                remove(self._parts)
                return self._report(there, 0, 0, start)
            empty(self._parts, but=STDIN_NAME)
        write_manifest(self._parts, manifest)
        dimension = self._client.dimension
        with (
            closing(self._calls),
            closing(self._decoders),
            closing(Vectors(self._parts, dimension)) as vectors,
            Rejections(self._parts, vectors) as rejections,
        ):
            out = begin_output(
                self._form,
                self._parts,
                self._reader,
                vectors,
                column=self._output_column,
                dimension=dimension,
                metadata=made,
            )
            before = self._client.usage
            reporter = Reporter(progress, vectors, self._client, self._reader.rows, start)
            try:
                with Writing(out, self._reader, vectors) as writing, reporter:
                    rows = self._send(vectors, rejections, writing, reporter)
                    finished = writing.finish()
            except (OpenSearchEmbedError, KeyboardInterrupt, OSError) as error:
                self._tell_of_the_file(error, vectors.done)
                raise
            if self._inputs.fingerprint() != inputs:
                raise ConfigurationError("The input has changed while it was read. Run with --restart (restart=True).")
            done = {
                "rows": rows,
                "embedded": vectors.states.count(EMBEDDED),
                "output": finished.name,
                "rejected": rejections.finish(),
                "made": None if self._form == "parquet" else write_json(self._parts / "made.json", made).name,
            }
        write_manifest(self._parts, {**manifest, "done": done})
        put_in_place(self._parts, self._output, done)
        after = self._client.usage
        return self._report(
            done, after.requests - before.requests, after.tokens - before.tokens, start, kept=reporter.found
        )

    def _send(self, vectors: Vectors, rejections: Rejections, writing: Writing, reporter: Reporter) -> int:
        """Send all texts that are not done yet, and return how many rows there are."""
        waiting: deque[int] = deque()
        rows = 0

        def texts() -> Iterator[str]:
            nonlocal rows
            for first, values in numbered(self._reader.values()):
                writing.check()
                vectors.recall(first, len(values))
                reporter.recalled(first, len(values))
                for row, value in enumerate(values, first):
                    state = vectors.state(row)
                    problem = None if state == EMBEDDED else self._check.problem(value, row)
                    if problem is not None:
                        rejections.add(row, problem)
                    elif state == OPEN:
                        waiting.append(row)
                        yield value
                rows = first + len(values)

        def arrivals(count: int, dimension: int) -> Arrivals:
            return Arrivals(vectors, [waiting.popleft() for _ in range(count)], dimension)

        mean = self._reader.bytes // max(1, self._reader.rows) + 1
        most = max(self._options.batch_size, CHUNK_BYTES // mean)
        stream = Stream(self._calls, texts(), self._input_type, arrivals, progress=False, most=most)
        for _ in stream.run():
            writing.check()
        return rows

    def _tell_of_the_file(self, error: BaseException, done: int) -> None:
        """Let an error speak of the file, where the stream's speaks of texts in the order of their sending."""
        attach(error, {}, [])
        error.args = tuple(OF_TEXTS.sub("", part) if isinstance(part, str) else part for part in error.args)
        error.__notes__ = [
            f"{done:,} of {self._reader.rows:,} rows are done, and kept in {self._parts}: run the same again, and it "
            "goes on."
        ]

    def _report(
        self, done: Mapping[str, Any], requests: int, tokens: int, start: float, kept: int | None = None
    ) -> Report:
        told = rejected_of(self._output)
        rows, embedded = done["rows"], done["embedded"]
        return Report(
            rows,
            embedded,
            rows - embedded,
            requests,
            tokens,
            time.monotonic() - start,
            self._output,
            told if rows > embedded else None,
            rows if kept is None else kept,
        )
