"""`python -m benchmarks.processes`: what one process does at several rates, and what two do.

The server takes as much CPU as it needs for its replies, and shares the machine's cores with the clients. Medians over
the rounds; texts of 500 characters, dimension 1024, latency 30 ms, arrays.
"""

import argparse
import statistics
from dataclasses import replace

from benchmarks.job import BATCH
from benchmarks.lab import Lab, open_lab

RATES: tuple[float | None, ...] = (50, 500, 1000, None)
SECONDS = 6.0
MOST_TEXTS = 16_000


def measure(lab: Lab, qps: float | None, processes: int) -> tuple[float, float]:
    """Return texts a second over all processes, and ms of CPU that a request costs its client."""
    texts = MOST_TEXTS if qps is None else min(MOST_TEXTS, int(BATCH * qps * SECONDS))
    part = None if qps is None else qps / processes
    jobs = [replace(lab.job("embed_array", texts // processes, qps=part), core=None) for _ in range(processes)]
    outcomes = lab.measure(*jobs, latency_ms=30)
    begin = min(outcome.start for outcome in outcomes)
    end = max(outcome.start + outcome.wall for outcome in outcomes)
    cpu = sum(outcome.cpu for outcome in outcomes)
    return texts / (end - begin), 1000 * cpu / (texts / BATCH)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print("| qps | processes | texts a second | share of the rate | CPU a request |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with open_lab() as lab:
        for qps in RATES:
            for processes in (1, 2):
                rounds = [measure(lab, qps, processes) for _ in range(options.rounds)]
                speed, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
                share = "" if qps is None else f"{speed / (BATCH * qps):.1%}"
                print(f"| {qps or 'none'} | {processes} | {speed:,.0f} | {share} | {cpu:.1f} ms |", flush=True)


if __name__ == "__main__":
    main()
