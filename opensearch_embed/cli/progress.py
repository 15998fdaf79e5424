"""How far a run is, on a terminal as a bar, in a log as a line now and then."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from opensearch_embed.bulk import Progress

LINE_SECONDS = 10.0

Show = Callable[["Progress"], object]


@contextmanager
def progress_shown(quiet: bool) -> Iterator[Show | None]:
    """Give what shows the progress on stderr; `None` if it is to be quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc="Embedding", unit="text", dynamic_ncols=True) as bar:
            yield lambda progress: _move(bar, progress)
    else:
        yield _Lines().show


def _move(bar: Any, progress: "Progress") -> None:
    bar.total, bar.initial, bar.n = progress.rows, progress.found, progress.done
    rejected = f", {progress.rejected:,} rejected" if progress.rejected else ""
    bar.set_postfix_str(f"{progress.tokens:,} tokens, {progress.retries:,} retries{rejected}")


class _Lines:
    """Prints a line every ten seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_SECONDS
        self._done = -1

    def show(self, progress: "Progress") -> None:
        """Print a line, if it is time."""
        if time.monotonic() < self._next:
            return
        self._next += LINE_SECONDS
        typer.echo(line(progress, since=self._done), err=True)
        self._done = progress.done


def line(progress: "Progress", since: int = -1) -> str:
    """Return what a log is told, where so many rows were done when it was last told."""
    rate = (progress.done - progress.found) / max(progress.seconds, 1e-9)
    left = f"{duration((progress.rows - progress.done) / rate)} left" if rate else "time left unknown"
    rejected = f", {progress.rejected:,} rejected" if progress.rejected else ""
    return (
        f"{progress.done:,} of {progress.rows:,} rows{rejected}, {rate:,.0f} texts/s, {progress.tokens:,} tokens, "
        f"{progress.retries:,} retries, {left if progress.done != since else 'none done since the last line'}"
    )


def duration(seconds: float) -> str:
    """Return a span of time as a person would say it: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"
