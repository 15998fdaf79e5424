"""Processes that share one quota in a real Redis: how much of it they use, how fairly, and what joining and leaving do.

Needs `redis-server` (`apt-get install redis-server`) and redis-py (`pip install redis`).
"""

import shutil
import socket
import subprocess
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.job import Job, Outcome
from benchmarks.lab import Lab
from benchmarks.table import QPS, WAVE, Plan, Row, Table, quota_figures
from benchmarks.windows import WINDOWS

STRETCH = 2.0
"""Seconds within which others must have what a process leaves, and room be made for one that joins."""


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a Redis on a free port of this machine; give its URL."""
    if shutil.which("redis-server") is None:
        raise SystemExit("The suite `redis` needs redis-server: apt-get install redis-server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder, "--bind", "127.0.0.1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _figures(outcomes: list[Outcome], jobs: list[Job]) -> Row:
    """What all used together; how much faster the fastest of equal jobs was; the worst stretch with all that it had."""
    figures = quota_figures(outcomes, sum(job.texts for job in jobs))
    walls = [outcome.wall for outcome, job in zip(outcomes, jobs, strict=True) if job.texts == jobs[0].texts]
    at = outcomes[0].server["admitted_at"]
    begins = [moment for moment in at if 1.0 <= moment <= at[-1] - STRETCH]
    fewest = min(bisect_left(at, begin + STRETCH) - bisect_left(at, begin) for begin in begins)
    return {**figures, "spread": max(walls) / min(walls) - 1, "worst": fewest / (QPS * STRETCH)}


def redis(lab: Lab, plan: Plan) -> list[Row]:
    """Four equal processes; then two that stay, one that leaves soon, one that joins late, and two wrong clocks."""
    table = Table(lab)
    with redis_server() as url:
        for number in range(plan.rounds):
            for window in WINDOWS:
                for side in ("embed",) if plan.quick else ("embed", "aembed"):
                    # Another Redis database each time, so that no measurement knows of the one before.
                    limiter = url.removesuffix("0") + str(number % 16)
                    alike = [lab.job(side, 3 * WAVE, qps=QPS, limiter=limiter)] * 4
                    wrong = lab.job(side, 5 * WAVE, qps=QPS, limiter=limiter, clock=60.0)
                    leaves = lab.job(side, WAVE, qps=QPS, limiter=limiter)
                    joins = lab.job(side, 2 * WAVE, qps=QPS, limiter=limiter, begins=8.0, clock=60.0)
                    right = lab.job(side, 5 * WAVE, qps=QPS, limiter=limiter)
                    for case, jobs in {"alike": alike, "joining, leaving": [right, wrong, leaves, joins]}.items():
                        varied = {"side": f"{side}, {case}", "window": window}
                        figures = partial(_figures, jobs=jobs)
                        table.measure(varied, figures, *jobs, latency_ms=100, quota=QPS, window=window)
    return table.rows()
