"""Helpers that decode: processes beside this one, since one interpreter decodes some 300 large answers a second.

They only do what this process would do itself, and nothing depends on them. Where there is none yet, or one is gone,
hangs, or finds fault with an answer, the answer is decoded here, and here is where an error is raised.
"""

import contextlib
import os
import queue
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from opensearch_embed._call.one_by_one import LARGE_REPLY_BYTES, decode_in_turn
from opensearch_embed._dispatch.lanes import Pool
from opensearch_embed._dispatch.threads import workers
from opensearch_embed._wire.conceal import Conceal
from opensearch_embed._wire.numbers import as_array
from opensearch_embed._wire.refusal import Reply
from opensearch_embed._wire.reply import Embedded, max_reply_bytes
from opensearch_embed.bulk.helper import Helper
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST

UNHURRIED_QPS = 100
"""This process alone decodes twice as much beside all else."""

MOST = 4
"""Four decode over a thousand answers a second."""

MOST_WAITING, FEWEST_UNDER_WAY = 16, 64
"""While more answers wait to be decoded, no more are asked for, but for what keeps the decoders busy."""

ANSWER_BYTES, BYTES_OF_A_NUMBER = 48 << 20, 21
"""Of the answers that are asked for in the beginning, together; twice that where they are long in coming."""

ANSWERS_BEFORE = 100
"""Decoded here before a helper is started: a file that has no more is done by then."""

PATIENCE_SECONDS = 0.5
"""For a helper that is free. Who waits longer decodes here."""


def helpers_for(qps: float | None) -> int:
    """Return how many helpers a job at a rate has use for, beside this process: none where it can do it alone."""
    # Memory that is shared through a file would kill this process, were the disk full.
    possible = hasattr(os, "memfd_create") and sys.executable and not getattr(sys, "frozen", False)
    if not possible or (qps is not None and qps <= UNHURRIED_QPS):
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, processors - 1)


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
        with contextlib.suppress(Exception):  # whatever keeps a helper from its work, this process does that
            helper = Helper(self._size)
            self._all.append(helper)  # before it looks whether all are to end
            try:
                if not self._closed and helper.starts():
                    self._idle.put(helper)
            finally:
                if not helper.ready:
                    helper.end()
