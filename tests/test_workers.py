"""Worker threads: each task that is handed over is run, once, however late or interrupted whoever hands it over is."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from opensearch_embed._dispatch import threads
from opensearch_embed._dispatch.threads import Workers


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle threads end at once."""
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.01)


class Late(deque[Any]):
    """The idle workers, from which one comes only when `meanwhile` is over."""

    meanwhile: Callable[[Any], object] = staticmethod(lambda _: None)

    def pop(self) -> Any:
        """Take one."""
        worker = super().pop()
        self.meanwhile(worker)
        return worker


def gone(before: set[threading.Thread]) -> None:
    """Wait until all threads but these have ended."""
    for thread in set(threading.enumerate()) - before:
        thread.join(30)


def once_idle(workers: Workers, before: set[threading.Thread]) -> None:
    """Run a task, and wait until its worker is idle."""
    done = threading.Event()
    assert workers.run(done.set)
    assert done.wait(30)
    while not workers.idle and set(threading.enumerate()) - before:
        threading.Event().wait(0.0001)


def test_a_task_is_run_though_its_thread_has_ended_meanwhile() -> None:
    """As on a machine that stood still between two lines."""
    before = set(threading.enumerate())
    workers = Workers()
    workers.idle = late = Late()
    late.meanwhile = lambda _: gone(before)
    for _ in range(20):
        once_idle(workers, before)
        ran = threading.Event()
        assert workers.run(ran.set)
        assert ran.wait(30)
    gone(before)


def test_a_thread_that_was_taken_and_given_nothing_ends() -> None:
    """As when Ctrl-C comes between two lines."""
    before = set(threading.enumerate())
    workers = Workers()
    workers.idle = late = Late()

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    interrupted = 0
    for _ in range(20):
        late.meanwhile = lambda _: None
        once_idle(workers, before)
        late.meanwhile = interrupt
        try:
            workers.run(lambda: None)
        except KeyboardInterrupt:
            interrupted += 1
    gone(before)
    assert set(threading.enumerate()) <= before
    assert interrupted


def test_each_task_is_run_once() -> None:
    """Also where threads end just as they are given something."""
    before, ran = set(threading.enumerate()), deque[int]()
    workers = Workers()

    def give(first: int) -> None:
        for number in range(first, first + 300):
            assert workers.run(lambda number=number: ran.append(number))
            threading.Event().wait(0.0101 if number % 7 == 0 else 0)

    givers = [threading.Thread(target=give, args=(first,)) for first in (0, 1000, 2000)]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join(60)
    gone(before)
    assert sorted(ran) == [*range(300), *range(1000, 1300), *range(2000, 2300)]


def test_retired_threads_end() -> None:
    """And the next task starts a new one."""
    before = set(threading.enumerate())
    workers = Workers()
    once_idle(workers, before)
    workers.retire()
    gone(before)
    assert set(threading.enumerate()) <= before
    once_idle(workers, before)
    gone(before)
