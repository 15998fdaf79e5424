"""Helpers that decode: processes beside this one, since one interpreter decodes some 300 large answers a second.

They only do what this process would do itself, and nothing depends on them. Where there is none yet, or one is gone,
hangs, or finds fault with an answer, the answer is decoded here, and here is where an error is raised.
"""

import contextlib
import mmap
import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from opensearch_embed._call.one_by_one import LARGE_REPLY_BYTES, decode_in_turn
from opensearch_embed._dispatch.lanes import Pool
from opensearch_embed._dispatch.threads import workers
from opensearch_embed._wire.conceal import Conceal
from opensearch_embed._wire.numbers import as_array
from opensearch_embed._wire.refusal import Reply
from opensearch_embed._wire.reply import Embedded, decode_reply, max_reply_bytes
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST

UNHURRIED_QPS = 100
"""This process alone decodes twice as much beside all else."""

MOST = 4
"""Four decode over a thousand answers a second."""

MOST_WAITING, FEWEST_UNDER_WAY = 16, 32
"""While more answers wait to be decoded, no more are asked for, but for what keeps the decoders busy."""

ANSWER_BYTES, BYTES_OF_A_NUMBER = 48 << 20, 21
"""Of the answers that are asked for in the beginning, together; twice that where they are long in coming."""

ANSWERS_BEFORE = 100
"""Decoded here before a helper is started: a file that has no more is done by then."""

PATIENCE_SECONDS = 0.5
"""For a helper that is free. Who waits longer decodes here."""

ANSWER_SECONDS = 5.0
"""A thousand times what an answer takes: a helper that takes longer hangs."""

START_SECONDS = 60.0
"""What does not say in this time that it decodes is no helper of ours."""

READY = b"ready"

PROGRAM = """
import sys
sys.path[:] = {path!r}
from opensearch_embed.bulk.decoders import serve
serve({link}, {shared})
"""


def helpers_for(qps: float | None) -> int:
    """Return how many helpers a job at a rate has use for: none where this process can do it, or has one processor."""
    # Memory that is shared through a file would kill this process, were the disk full.
    possible = hasattr(os, "memfd_create") and sys.executable and not getattr(sys, "frozen", False)
    if not possible or (qps is not None and qps <= UNHURRIED_QPS):
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, processors) if processors > 1 else 0


def environment() -> dict[str, str]:
    """Return the environment of a helper: no key is its business, and numpy starts no threads for it."""
    return {name: value for name, value in os.environ.items() if "KEY" not in name} | {"OPENBLAS_NUM_THREADS": "1"}


class Decoders:
    """Some helpers, started when there is much to decode. Safe to share between threads; close it.

    Args:
        count: How many, at most.
        dimension: Of each vector.
    """

    def __init__(self, count: int, dimension: int) -> None:
        self._dimension = dimension
        self._pool = Pool(0)
        self._most = 0
        self._here: set[object] = set()
        self._size = max_reply_bytes(dimension)
        self._unstarted = deque(range(count))
        self._all: list[Helper] = []
        self._idle: queue.SimpleQueue[Helper] = queue.SimpleQueue()
        self._seen = 0
        self._closed = False

    def decode(
        self, reply: Reply, *, expected: int, dimension: int, read: Callable[..., Any], conceal: Conceal
    ) -> Embedded:
        """Return the vectors of a reply, as `decode_reply` does, and raise what it raises."""
        mark = object()
        self._here.add(mark)
        try:
            self._adjust()
            found = None
            if reply.status == 200 and LARGE_REPLY_BYTES <= len(reply.body) <= self._size and read is as_array:
                found = self._helped(reply, expected)
            if found is None:
                found = decode_in_turn(reply, expected=expected, dimension=dimension, read=read, conceal=conceal)
            return found
        finally:
            self._here.discard(mark)

    def bound(self, pool: Pool) -> None:
        """Let so many requests be under way as answers find room in memory: fewer while some wait to be decoded."""
        at_first = max(FEWEST_UNDER_WAY, ANSWER_BYTES // (MAX_TEXTS_PER_REQUEST * BYTES_OF_A_NUMBER * self._dimension))
        self._pool, self._most = pool, min(pool.limit, 2 * at_first)
        pool.limit = min(pool.limit, at_first)

    def _adjust(self) -> None:
        pool = self._pool
        if len(self._here) > MOST_WAITING:
            pool.limit = min(pool.limit, max(FEWEST_UNDER_WAY, len(pool.under_way) - 1))
        elif pool.full and pool.limit < self._most:
            pool.limit += 1

    def close(self) -> None:
        """End the helpers. What comes later is decoded here."""
        self._closed = True
        for helper in self._all:
            helper.end()

    def _helped(self, reply: Reply, expected: int) -> Embedded | None:
        self._seen += 1
        if self._seen > ANSWERS_BEFORE:
            with contextlib.suppress(IndexError):  # all are started: those that end are not replaced
                self._unstarted.pop()
                workers().run(self._start)
        if not any(helper.ready for helper in self._all):
            return None
        try:
            helper = self._idle.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            return None
        # An interrupt in here leaves the helper out for good, lest its answer be taken for that to the next question.
        try:
            found = helper.decode(reply, expected, self._dimension)
        except (OSError, EOFError):
            helper.end()
            return None
        self._idle.put(helper)
        return found

    def _start(self) -> None:
        with contextlib.suppress(OSError, EOFError, subprocess.SubprocessError):
            helper = Helper(self._size)
            self._all.append(helper)  # before it looks whether all are to end
            try:
                if not self._closed and helper.starts():
                    self._idle.put(helper)
            finally:
                if not helper.ready:
                    helper.end()


class Helper:
    """One process that decodes what is put into the memory it shares, when it is asked.

    Attributes:
        ready: Whether it can be asked.
    """

    def __init__(self, size: int) -> None:
        self.ready = False
        self._link, theirs = Pipe()
        with open(os.memfd_create("opensearch-embed"), "r+b") as file, theirs:
            file.truncate(size)
            self._shared = mmap.mmap(file.fileno(), size)
            program = PROGRAM.format(path=sys.path, link=theirs.fileno(), shared=file.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), file.fileno()),
                env=environment(),
                start_new_session=True,  # Ctrl-C is for this process
            )

    def starts(self) -> bool:
        """Wait until it says that it decodes."""
        self.ready = self._link.poll(START_SECONDS) and self._link.recv_bytes() == READY
        return self.ready

    def decode(self, reply: Reply, expected: int, dimension: int) -> Embedded | None:
        """Return the vectors of a reply, or `None` where it finds fault.

        Raises:
            OSError: It is gone, or does not answer in time.
            EOFError: It is gone.
        """
        self._shared[: len(reply.body)] = reply.body
        encoding = reply.headers.get("content-encoding", "")
        self._link.send((len(reply.body), reply.complete, encoding, expected, dimension))
        if not self._link.poll(ANSWER_SECONDS):
            raise TimeoutError
        tokens = self._link.recv()
        if tokens is None:
            return None
        vectors = np.frombuffer(self._shared[: 4 * expected * dimension], np.float32)
        return Embedded(vectors.reshape(expected, dimension), tokens)

    def end(self) -> None:
        """Let it end, at once."""
        self.ready = False
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()


def serve(link: int, shared: int) -> None:
    """Decode until nobody asks any more: what a helper runs. It takes the numbers of two open files."""
    size = os.fstat(shared).st_size
    with Connection(link) as asker, mmap.mmap(shared, size) as memory:
        asker.send_bytes(READY)
        with contextlib.suppress(EOFError, OSError):
            while True:
                length, complete, encoding, expected, dimension = asker.recv()
                reply = Reply(200, {"content-encoding": encoding}, memory[:length], complete)
                tokens = None
                with contextlib.suppress(Exception):  # whoever asked finds the same fault, and tells it
                    embedded = decode_reply(reply, expected=expected, dimension=dimension, read=as_array)
                    memory[: embedded.vectors.nbytes] = embedded.vectors.data.cast("B")
                    tokens = embedded.tokens
                asker.send(tokens)
