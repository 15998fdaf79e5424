"""Starts the server and the workers, and takes one measurement at a time."""

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from benchmarks.job import Job, Outcome
from benchmarks.machine import choose_cores

ROOT = Path(__file__).parent.parent


class WorkerFailed(RuntimeError):
    """A worker ended without an outcome; what it said is on stderr."""


def _environment() -> dict[str, str]:
    """No proxy, no settings of the user's own, one thread in numpy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("OPENSEARCH_", "AISEARCH_"))
    }
    return kept | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(*command: str) -> subprocess.Popen[str]:
    """Start this interpreter, with pipes to talk through."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=_environment(),
    )


def _read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise WorkerFailed(f"it ended with {process.wait()}; its error is above")
    return line.strip()


def run_script(script: str) -> str:
    """What a short script prints, in a fresh interpreter on the clients' core."""
    core, _ = choose_cores()
    pin = f"import os; os.sched_setaffinity(0, {{{core}}})\n" if core is not None else ""
    with start("-c", pin + script) as process:
        return process.communicate()[0].strip()


class Lab:
    """One server, and measurements against it."""

    def __init__(self, port: int, dimension: int, core: int | None) -> None:
        self._port = port
        self._core = core
        self.url = f"http://127.0.0.1:{port}"
        self.dimension = dimension
        self.failures: list[str] = []

    def control(self, method: str, path: str, settings: dict[str, Any] | None = None) -> Any:
        """Ask or set something of the server: `GET /stats`, `POST /reset`."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request(method, path, body=None if settings is None else orjson.dumps(settings))
        answer = orjson.loads(connection.getresponse().read())
        connection.close()
        return answer

    def job(self, side: str, texts: int, **settings: Any) -> Job:
        """A job against this server."""
        return Job(side, self.url, texts, dimension=self.dimension, core=self._core, **settings)

    def measure(
        self,
        *jobs: Job,
        latency_ms: float = 0,
        quota: float | None = None,
        window: str = "fixed",
        outage: dict[str, float] | None = None,
    ) -> list[Outcome]:
        """Run the jobs at once, each in a process of its own, against the server with these settings.

        The quota holds from the moment they start: warming up is free. So does the outage (`benchmarks.server.Outage`).
        """
        settings = {"latency_ms": latency_ms, "marked": any(job.marked for job in jobs)}
        self.control("POST", "/reset", settings)
        workers = [start("-m", "benchmarks.worker", orjson.dumps(job.as_dict()).decode()) for job in jobs]
        try:
            for worker in workers:
                self._await_ready(worker)
            self.control("POST", "/reset", {**settings, "qps": quota, "window": window, "outage": outage})
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            outcomes = [Outcome(**orjson.loads(_read_line(worker))) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
        counts = self.control("GET", "/stats")
        return [replace(outcome, server=counts) for outcome in outcomes]

    def check(self, job: Job) -> None:
        """Run a job whose vectors the server marks, for its check alone."""
        try:
            self.measure(job)
        except WorkerFailed as error:
            print(f"  {job.side}: CHECK FAILED: {error}", file=sys.stderr, flush=True)
            self.failures.append(f"check of {job.side}")

    @staticmethod
    def _await_ready(worker: subprocess.Popen[str]) -> None:
        while _read_line(worker) != "ready":
            pass


@contextmanager
def open_lab(dimension: int = 1024) -> Iterator[Lab]:
    """Start a server on a core of its own; stop it at the end."""
    client_core, server_core = choose_cores()
    pinned = [] if server_core is None else ["--core", str(server_core)]
    server = start("-m", "benchmarks.server", "--dimension", str(dimension), *pinned)
    try:
        yield Lab(int(_read_line(server)), dimension, client_core)
    finally:
        server.kill()
        server.communicate()
