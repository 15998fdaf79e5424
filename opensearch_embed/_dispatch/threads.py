"""How a thread waits, and the threads that send. Of a caller's own, `tasks` is the twin.

Worker threads belong to the process and hold nothing of a client while they are idle. They are started when none is
idle, and end when they have been idle for a while; where none can be started, the caller does the work.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from opensearch_embed._dispatch.dispatcher import ASK_LIMITER, LEAVES_NOW
from opensearch_embed._dispatch.lanes import Host, Turn
from opensearch_embed._dispatch.limiter import ask
from opensearch_embed._dispatch.nested import in_a_call

if TYPE_CHECKING:
    from opensearch_embed._dispatch.turnstile import Turnstile

SLICE_SECONDS = 0.5
"""How long a thread waits at a time: on Windows Ctrl-C does not wake a wait."""

LOOK_AGAIN_SECONDS = 1.0
"""Whoever waits for a turn looks again after so long: a wake-up may have been cut short, or an abandoned loop's."""

IDLE_SECONDS = 1.0
"""After which an idle worker ends. Starting one takes a tenth of a millisecond."""


class Signal:
    """Wakes one thread. Setting it takes no lock, so finalisers may."""

    def __init__(self) -> None:
        self.host = Host()
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> bool:
        """Wake the thread, or let its next wait be over at once."""
        try:
            self._lock.release()
        except RuntimeError:  # it is set already
            return True
        return True

    def wait(self, seconds: float) -> None:
        """Wait until it is set, or for so long."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if self._lock.acquire(timeout=min(left, SLICE_SECONDS)):
                return
        self._lock.acquire(blocking=False)


def try_turn(turnstile: "Turnstile", turn: Turn, deadline: float) -> float:
    """Take a turn, if it is due; return the seconds to wait, 0 if it was taken. Asks the user's limiter, if need be."""
    while (wait := turnstile.take(turn)) == ASK_LIMITER:
        granted = False
        try:
            granted = ask(turnstile.limiter, deadline - monotonic())
        finally:
            turnstile.permit(granted)
        if not granted:
            return 1e-4
    return wait


def wait_for_turn(
    turnstile: "Turnstile", turn: Turn, signal: Signal, deadline: float, halted: Callable[[], bool]
) -> bool:
    """Wait for a turn; return `False`, and drop it, if there is none before the deadline, or its job halts."""
    try:
        while not halted() and monotonic() < deadline:
            wait = try_turn(turnstile, turn, deadline)
            if wait == LEAVES_NOW:
                return True
            signal.wait(min(wait, deadline - monotonic(), LOOK_AGAIN_SECONDS))
    except BaseException:
        turnstile.drop(turn)
        raise
    turnstile.drop(turn)
    return False


class _Worker:
    def __init__(self, workers: "Workers", task: Callable[[], None]) -> None:
        self._workers = workers
        self._tasks = deque([task])
        self._signal = Signal()
        self._ended = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="opensearch-embed", daemon=True).start()

    def give(self, task: Callable[[], None]) -> bool:
        """Hand a task over; return `False` if the thread has ended meanwhile, however long ago it was idle."""
        self._tasks.append(task)
        self._signal.set()
        if self._ended:
            try:
                self._tasks.pop()
            except IndexError:  # it has been taken all the same
                return True
            return False
        return True

    def end(self) -> None:
        """Let the thread end, if it has nothing to do."""
        self._ended = True
        self._signal.set()

    @in_a_call
    def _run(self) -> None:
        workers = self._workers
        # Whoever gives looks whether it has ended after giving, and it looks for a task after it has ended: one of both
        # sees the other.
        while self._tasks or not self._ended:
            try:
                task = self._tasks.popleft()
            except IndexError:
                task = None
            if task is not None:
                workers.busy.add(self)
                try:
                    task()
                finally:
                    workers.busy.discard(self)
                del task
                if self._ended:
                    continue
                workers.idle.append(self)
            self._signal.wait(IDLE_SECONDS)
            if not self._tasks:
                with contextlib.suppress(ValueError, IndexError):  # somebody has just taken it
                    workers.idle.remove(self)
                self._ended = True


class Workers:
    """The worker threads of this process."""

    def __init__(self) -> None:
        self.idle: deque[_Worker] = deque()
        self.busy: set[_Worker] = set()
        self.pid = os.getpid()

    def run(self, task: Callable[[], None]) -> bool:
        """Run a task on a worker thread; return `False` if there is none, and none can be started."""
        given = False
        while self.idle and not given:
            with contextlib.suppress(IndexError):
                given = self.idle.pop().give(task)
        if not given:
            try:
                _Worker(self, task).start()
            except (RuntimeError, MemoryError):
                return False
        return True

    def retire(self) -> None:
        """Let idle threads end. The next task starts new ones."""
        while True:
            try:
                self.idle.pop().end()
            except IndexError:
                return


_workers = Workers()


def workers() -> Workers:
    """Return the workers of this process: after a fork there are none."""
    global _workers
    if _workers.pid != os.getpid():
        _workers = Workers()
    return _workers
