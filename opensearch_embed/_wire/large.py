"""Large answers, read without an object for each number: by simdjson, where it is installed (extra `fast`).

Arrays of numbers come as buffers of doubles, the same numbers to the last bit. Whatever is unusual about an answer is
left to orjson, so that there is one place which says what is wrong with it.
"""

from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

from opensearch_embed._loading import load

if TYPE_CHECKING:
    import simdjson

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

LARGE_BYTES = 1 << 14
"""A smaller answer gains less than a twentieth of a millisecond."""

MOST_IDLE = 4
"""Parsers that are kept, with their memory: as many as read at a time, which one thread after another does."""

MOST_NAMES = 50
"""In one object. Each is looked for from the first on, so that many would take for ever; an answer has four."""

_idle: "deque[simdjson.Parser]" = deque(maxlen=MOST_IDLE)
"""Its ends need no lock: a finaliser that embeds, or a forked child, takes another one."""


class Unusual(Exception):
    """Not for this room to understand."""


@cache
def _simdjson() -> Any:
    """Return the library, if what goes by its name is it: a folder may, and a broken installation raises anything."""
    try:
        library: Any = load("simdjson")
        array = library.Parser().parse(b"[0.5]")
        return library if isinstance(array, library.Array) and len(bytes(array.as_buffer(of_type="d"))) == 8 else None
    except Exception:  # noqa: BLE001 - whatever it is, orjson reads everything without it
        return None


def read_large(body: bytes) -> Any:
    """Return what a body of JSON says, with a memoryview of doubles for each array of numbers.

    Raises:
        Unusual: It is small, or broken, or has what two readers could understand differently; or there is no simdjson.
    """
    simdjson = _simdjson() if len(body) >= LARGE_BYTES else None
    if simdjson is None or body.startswith(BYTE_ORDER_MARK):  # which it passes over
        raise Unusual
    try:
        parser = _idle.pop()
    except IndexError:
        parser = simdjson.Parser()
    try:
        reading = _Reading(simdjson)
        content = reading.plain(parser.parse(body))
    except Exception as error:  # whatever it stumbles over, orjson has still to read
        raise Unusual from error
    # It runs arrays in arrays together, [[1, 2]] into 1, 2. If each bracket belongs to an array that was met, none was.
    if not _are_all_brackets(body, reading.arrays):
        raise Unusual
    _idle.append(parser)
    return content


def _are_all_brackets(body: bytes, number: int) -> bool:
    """Tell whether `body.count(b"[") == number`, in a third of the time where they are few."""
    at = 0
    for _ in range(number):
        at = body.find(b"[", at) + 1
    return body.find(b"[", at) < 0


class _Reading:
    def __init__(self, simdjson: Any) -> None:
        self._array, self._object = simdjson.Array, simdjson.Object
        self.arrays = 0

    def plain(self, value: Any) -> Any:
        if isinstance(value, self._array):
            self.arrays += 1
            return self._items(value)
        if isinstance(value, self._object):
            names = list(value)
            # Of two with one name, simdjson finds the first, and orjson the last; and it looks no further than a NUL.
            if len(set(names)) < len(names) or len(names) > MOST_NAMES or any("\0" in name for name in names):
                raise Unusual
            return {name: self.plain(value[name]) for name in names}
        return value

    def _items(self, array: Any) -> Any:
        first = array[0] if len(array) else None
        if type(first) in (float, int):
            return memoryview(array.as_buffer(of_type="d")).cast("d")
        return [self.plain(item) for item in array]
