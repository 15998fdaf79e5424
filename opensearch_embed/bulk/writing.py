"""The output is written by a thread of its own, behind what arrives: a row group at a time, when its rows are done.

Where no thread is to be had, it is written when all has arrived.
"""

import contextlib
import threading
from pathlib import Path
from typing import Self

from opensearch_embed.bulk.outputs import Output, Reader
from opensearch_embed.bulk.vectors import Vectors


class Writing:
    """Writes an output while its rows arrive. Use it in a `with`: leaving early gives the output up."""

    def __init__(self, out: Output, reader: Reader, vectors: Vectors) -> None:
        self._out, self._reader, self._vectors = out, reader, vectors
        self._thread = threading.Thread(target=self._run, name="opensearch-embed writer", daemon=True)
        self._given_up = False
        self._error: BaseException | None = None
        self._finished: Path | None = None

    def check(self) -> None:
        """Raise what went wrong, if something did."""
        if self._error is not None:
            raise self._error

    def finish(self) -> Path:
        """Return the file, when it is complete and on the disk."""
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._run()
        self.check()
        if self._finished is None:
            raise AssertionError("The writer ended without its file.")
        return self._finished

    def __enter__(self) -> Self:
        with contextlib.suppress(RuntimeError):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up = True
        with self._vectors.changed:
            self._vectors.changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        elif self._finished is None:
            with contextlib.suppress(Exception):
                self._out.close()

    def _run(self) -> None:
        first = 0
        try:
            for rows, count in self._out.blocks(self._reader):
                if not self._vectors.wait_for(first + count, lambda: self._given_up):
                    break
                self._out.write(first, rows, count)
                first += count
            else:
                self._finished = self._out.finish()
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            self._error = error
        finally:
            with contextlib.suppress(Exception):  # what is given up need not be complete
                self._out.close()
