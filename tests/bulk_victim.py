"""Embeds a file again and again in children of this process, which its parent kills: one line in for each, one out.

All is imported before the first fork, so that a child is at work at once. A line says after how many seconds the child
is killed; the answer is what became of it.
"""

import os
import signal
import sys
import time
from typing import Any

import orjson

from opensearch_embed import EmbeddingClient
from opensearch_embed.bulk import embed_file, outputs  # type: ignore[attr-defined]


def work(job: dict[str, Any]) -> None:
    """Embed a file, with small row groups, so that there are many."""
    outputs.GROUP_BYTES = 0
    with EmbeddingClient(**job["settings"]) as client:
        embed_file(job["source"], job["output"], client=client)


def main() -> None:
    """Read the job from the command line, and the delays from stdin."""
    job = orjson.loads(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 1
            try:
                work(job)
                status = 0
            finally:
                os._exit(status)
        deadline = time.monotonic() + float(line)
        status = 0
        while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.001)
        if not ended[0]:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(ended[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
