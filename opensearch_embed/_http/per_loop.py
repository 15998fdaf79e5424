"""What belongs to one owner in one event loop, and ends with either of them.

It hangs on the loop itself: a table of ours, whose values know their loop, would keep every loop for ever.
"""

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

ATTRIBUTE = "_opensearch_embed"

T = TypeVar("T")

_elsewhere: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, Any]] = weakref.WeakKeyDictionary()
"""For loops that take no attributes."""


class PerLoop(Generic[T]):
    """Keeps one value for each event loop. When it is collected, so are its values."""

    def __init__(self) -> None:
        self._key = object()
        self._loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        weakref.finalize(self, _forget, self._key, self._loops).atexit = False

    def get(self) -> T | None:
        """Return the value of the running loop, if there is one."""
        found: T | None = _values_of(asyncio.get_running_loop()).get(self._key)
        return found

    def setdefault(self, make: Callable[[], T]) -> T:
        """Return the value of the running loop, made if there is none."""
        found = self.get()
        if found is None:
            loop = asyncio.get_running_loop()
            self._loops.add(loop)
            found = _values_of(loop)[self._key] = make()
        return found

    def pop(self) -> T | None:
        """Forget the value of the running loop, and return it."""
        found: T | None = _values_of(asyncio.get_running_loop()).pop(self._key, None)
        return found


def _values_of(loop: asyncio.AbstractEventLoop) -> dict[object, Any]:
    values: dict[object, Any] | None = getattr(loop, ATTRIBUTE, None)
    if values is None:
        values = {}
        try:
            setattr(loop, ATTRIBUTE, values)
        except AttributeError:
            values = _elsewhere.setdefault(loop, values)
    return values


def _forget(key: object, loops: "weakref.WeakSet[asyncio.AbstractEventLoop]") -> None:
    for loop in list(loops):
        _values_of(loop).pop(key, None)
