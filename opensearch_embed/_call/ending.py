"""The interpreter's end: jobs of daemon threads send nothing more, and nobody waits for them."""

import atexit
import os
import threading
import time
import weakref
from typing import Any, Protocol

from opensearch_embed._dispatch.threads import workers

GRACE_SECONDS = 0.2
"""What workers get to let go in, before the interpreter is taken from under them."""


class _Work(Protocol):
    def cancel(self) -> None: ...


class Ending:
    """Cancels, at the interpreter's end, the jobs that are under way then."""

    def __init__(self) -> None:
        self._works: weakref.WeakSet[Any] = weakref.WeakSet()
        self._cancelled: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pid = 0

    def note(self, work: _Work) -> None:
        """Note a job that begins."""
        if self._pid != os.getpid():  # the first one in this process; what a forked child inherits is not its own
            self._pid = os.getpid()
            self._works = weakref.WeakSet()
            # Not earlier: threads that are no daemons come to their end first, with their jobs.
            atexit.unregister(self._end)
            atexit.register(self._end)
        self._works.add(work)

    def hold_if_over(self, work: _Work) -> None:
        """Stay here for ever, if a job was cancelled because the interpreter ends: only daemon threads are left."""
        if work in self._cancelled and threading.current_thread() is not threading.main_thread():
            threading.Event().wait()

    def _end(self) -> None:
        if self._pid != os.getpid():
            return
        for work in list(self._works):
            self._cancelled.add(work)
            work.cancel()
        until = time.monotonic() + GRACE_SECONDS
        while workers().busy and time.monotonic() < until:
            time.sleep(0.005)


ending = Ending()
