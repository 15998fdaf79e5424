"""A progress bar, which costs no vector: not where there is nowhere to show it, and not where it is cut short."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Progress = Callable[[int], Any] | None

NOWHERE = (OSError, ValueError, AttributeError)
"""What a bar meets where standard error is `None`, as in services and under pythonw, or closed."""

PATIENCE_SECONDS = 0.1


class _Lock:
    """Keeps bars from writing into each other, but never for long.

    tqdm's own is left locked for good by whoever is interrupted while a bar is drawn, by Ctrl-C or by a broken
    terminal; and in a child that is forked meanwhile. Then every bar of the process would wait for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def acquire(self, *_: object, **__: object) -> bool:
        return self._lock.acquire(timeout=PATIENCE_SECONDS)

    def release(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was not waited for
            self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@cache
def _kind_of_bar() -> Any:
    from tqdm.auto import tqdm

    kind: Any = type("Bar", (tqdm,), {})
    kind.set_lock(_Lock())
    return kind


@contextlib.contextmanager
def progress_bar(total: int | None, show: bool) -> Iterator[Progress]:
    """Show a progress bar, or none; give what is to be called with the number of texts done.

    It moves with each request.
    """
    bar = _new_bar(total) if show else None
    if bar is None:
        yield None
        return
    lock = _Lock()

    def advance(texts: int) -> None:
        with lock, contextlib.suppress(*NOWHERE):
            bar.update(texts)

    try:
        yield advance
    finally:
        with contextlib.suppress(*NOWHERE):
            bar.close()


def _new_bar(total: int | None) -> Any:
    try:
        return _kind_of_bar()(total=total, desc="Embedding", unit="text", miniters=1, mininterval=0.01)
    except NOWHERE:
        return None
