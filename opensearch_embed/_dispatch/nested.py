"""Whether a thread is in the middle of a call already: then whatever embeds is a finaliser or the handler of a signal.

The call below it may hold any lock, and goes on only when it is done. So it does everything by itself: a worker, or a
call of another thread that it shared a request with, might wait for the one below, and it for them.
"""

import sys
import threading
from typing import Self

_here = threading.local()


class InACall:
    """A thread's being in a call, for a `with`.

    Attributes:
        nested: Whether it was in one before; or the interpreter is ending, and no other thread runs any more.
    """

    def __enter__(self) -> Self:
        self._before = getattr(_here, "busy", False)
        self.nested = self._before or sys.is_finalizing()
        _here.busy = True
        return self

    def __exit__(self, *_: object) -> None:
        _here.busy = self._before


def stays_in_a_call() -> None:
    """Let this thread, a worker, always be in one."""
    _here.busy = True
