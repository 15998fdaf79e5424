"""The emulator in a process of its own, so that its memory is not measured: `python -m soak.server`.

It prints its address, serves until its input ends, and prints what became of the requests.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from opensearch_embed.emulator import Emulator

FAULT_RATE = 0.06
FAULTS = (*("429", "500", "502", "503", "drop", "cut", "short", "garbled") * 3, "hang", "trickle", "400", "403")
"""One of these for each faulty request, all equally likely: those that a retry mends are met more often."""
LATENCY_MS = 15


class Server:
    """What the parent process knows of it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.url, self.api_key = json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def stop(self) -> dict[str, int]:
        """End it; return how often each status was answered, and each fault done instead."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        outcomes: dict[str, int] = json.loads(self._line())
        return outcomes


@contextmanager
def serving(seed: int) -> Iterator[Server]:
    """Start a server, and see to its end."""
    command = [sys.executable, "-m", "soak.server", str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()


def main() -> None:
    """Serve."""
    settings = {"shuffle": True, "latency_ms": LATENCY_MS, "fault_rate": FAULT_RATE, "faults": FAULTS}
    with Emulator(**settings, seed=int(sys.argv[1]), keep_requests=10) as emulator:
        print(json.dumps([emulator.url, emulator.api_key]), flush=True)
        sys.stdin.read()
        print(json.dumps({str(outcome): count for outcome, count in emulator.usage.outcomes.items()}), flush=True)


if __name__ == "__main__":
    main()
