"""One thread at a time does what keeps the interpreter busy for milliseconds."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from opensearch_embed._wire.refusal import Reply
from opensearch_embed._wire.reply import Embedded, decode_reply

PATIENCE_SECONDS = 0.5
"""Longer than a wave of answers takes to be understood."""

LARGE_REPLY_BYTES = 1 << 16
"""Understanding a smaller one takes less than a tenth of a millisecond, and waits for nobody."""


class OneByOne:
    """Lets threads understand large answers one by one. A courtesy: nothing depends on it.

    Threads that all want the interpreter at once get it by turns, so that all end late, and with them what would send
    the next requests. Whoever has waited for long goes on all the same: the one before may wait for this very thread (a
    finaliser that runs meanwhile may embed), or be gone (after a fork, or Ctrl-C between two lines).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def run(self, size: int, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on an answer of so many bytes, when nobody else does such a thing, and return what it does."""
        if size < LARGE_REPLY_BYTES:
            return function(*args)
        lock = self._lock
        mine = lock.acquire(timeout=PATIENCE_SECONDS)
        try:
            if not mine and self._lock is lock:
                self._lock = threading.Lock()
            return function(*args)
        finally:
            if mine:
                lock.release()


one_by_one = OneByOne()
"""Of the process, as its interpreter is."""


def decode_in_turn(reply: Reply, **settings: Any) -> Embedded:
    """Do what `decode_reply` does, when no other thread does it."""
    decoded: Embedded = one_by_one.run(len(reply.body), partial(decode_reply, reply, **settings))
    return decoded
