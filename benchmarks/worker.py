"""One measurement in a process of its own, so that imports, caches and memory are every side's alike.

Makes the side's client, sends one request to warm it up, prints `ready`, waits for a line on stdin (so that two workers
can start together), measures, and prints the outcome as JSON.
"""

import gc
import os
import resource
import sys
import time
from typing import Any

import orjson

from benchmarks.job import BATCH, Job, Outcome
from benchmarks.sides import SIDES


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_bytes() -> int:
    """The most memory this process ever held.

    `ru_maxrss` starts from the parent's peak on Linux, so the kernel's figure for this program alone is read there.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_bytes() -> int:
    """The memory this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def result_bytes(result: Any) -> int:
    """Size of the vectors: an array's bytes, or lists of floats (24 bytes each, for which the allocator takes 32)."""
    if isinstance(result, int):
        return 0
    if hasattr(result, "nbytes"):
        return int(result.nbytes)
    return sum(sys.getsizeof(vector) + 32 * len(vector) for vector in result) + sys.getsizeof(result)


def check(result: Any, job: Job) -> None:
    """Every text has its vector; where the server marked them, its own."""
    if isinstance(result, int):
        wrong = job.texts - result
    else:
        wrong = abs(len(result) - job.texts) + sum(len(vector) != job.dimension for vector in result)
        if job.marked:
            wrong += sum(int(vector[0]) != number for number, vector in enumerate(result))
    if wrong:
        raise SystemExit(f"{job.side}: {wrong} of {job.texts} vectors are missing or not the text's own")


def measure(job: Job) -> Outcome:
    """Warm up, wait for the start, run the side once."""
    notes: dict[str, float] = {}
    texts = job.make_texts()
    call = SIDES[job.side](job, notes)
    call(texts[: 1 if "quer" in job.side else BATCH])
    notes.clear()
    gc.collect()
    held = held_bytes()
    print("ready", flush=True)
    sys.stdin.readline()
    time.sleep(job.begins)
    start, cpu, begin = time.monotonic(), cpu_seconds(), time.perf_counter()
    result = call(texts)
    wall = time.perf_counter() - begin
    cpu = cpu_seconds() - cpu
    peak = peak_bytes()
    check(result, job)
    size = result_bytes(result)
    return Outcome(wall, cpu, start - job.clock, (peak - held - size) / 1e6, size / 1e6, notes)


def set_clocks_wrong(seconds: float) -> None:
    """Let this process's clocks be wrong. What is imported later sees nothing else."""
    right, steady = time.time, time.monotonic
    time.time = lambda: right() + seconds
    time.monotonic = lambda: steady() + seconds


def main() -> None:
    """Read the job from the command line."""
    job = Job(**orjson.loads(sys.argv[1]))
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    if job.clock:
        set_clocks_wrong(job.clock)
    outcome = measure(job)
    print(orjson.dumps(outcome).decode(), flush=True)
    sys.stdout.flush()
    os._exit(0)  # a result of millions of floats takes seconds to give back


if __name__ == "__main__":
    main()
