"""One process beside this one that decodes: what starts it, asks it, and what it runs.

The answer and its numbers are in memory that both share; what is asked goes through a pair of sockets.
"""

import contextlib
import mmap
import os
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from opensearch_embed._wire.numbers import as_array
from opensearch_embed._wire.refusal import Reply
from opensearch_embed._wire.reply import Embedded, decode_reply

ANSWER_SECONDS = 5.0
"""A thousand times what an answer takes: a helper that takes longer hangs."""

LOOK_SECONDS = 1.0
"""How often a helper that nobody asks looks whether its run is still there."""

START_SECONDS = 60.0
"""What does not say in this time that it decodes is no helper of ours; and a helper that is not asked in it ends."""

READY = b"ready"

NEEDED = ("PATH", "HOME", "LANG", "LC_", "LD_", "TMPDIR", "PYTHON", "COVERAGE", "MALLOC_")
"""What the names of variables begin with that a helper gets."""

ISOLATED = {"-I": "isolated", "-E": "ignore_environment", "-S": "no_site"}
"""Flags that are handed on to helpers, and what `sys.flags` calls them."""

PROGRAM = """
import sys
sys.path[:] = {path!r}
from opensearch_embed.bulk.helper import serve
serve({link}, {shared})
"""


def environment() -> dict[str, str]:
    """Return the environment of a helper: what an interpreter needs, and no secret; numpy starts no threads for it."""
    needed = {name: value for name, value in os.environ.items() if name.startswith(NEEDED)}
    return needed | {"OPENBLAS_NUM_THREADS": "1"}


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
            flags = [flag for flag, given in ISOLATED.items() if getattr(sys.flags, given)]
            program = PROGRAM.format(path=sys.path, link=theirs.fileno(), shared=file.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, *flags, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), file.fileno()),
                env=environment(),
                # Ctrl-C is for this process. In its session, so that a helper that is stopped ends with this process.
                process_group=0,
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
    started, parent, asked = time.monotonic(), os.getppid(), False
    with Connection(link) as asker, mmap.mmap(shared, size) as memory:
        asker.send_bytes(READY)
        with contextlib.suppress(EOFError, OSError):
            while True:
                # A child that its parent has forked may hold the other end open, whatever has become of the parent.
                while not asker.poll(LOOK_SECONDS):
                    if os.getppid() != parent or not (asked or time.monotonic() < started + START_SECONDS):
                        return
                asked = True
                length, complete, encoding, expected, dimension = asker.recv()
                reply = Reply(200, {"content-encoding": encoding}, memory[:length], complete)
                tokens = None
                with contextlib.suppress(Exception):  # whoever asked finds the same fault, and tells it
                    embedded = decode_reply(reply, expected=expected, dimension=dimension, read=as_array)
                    memory[: embedded.vectors.nbytes] = embedded.vectors.data.cast("B")
                    tokens = embedded.tokens
                asker.send(tokens)
