"""What is measured how often, and the rows that come of it: medians over the rounds."""

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.job import BATCH, Job, Outcome
from benchmarks.lab import Lab, WorkerFailed

Row = dict[str, Any]

QPS = 50
WAVE = QPS * BATCH * 2
"""Texts of two seconds at the quota."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `sides` narrows the throughput suite to these."""

    rounds: int = 3
    quick: bool = False
    texts: int = 3200
    latencies: tuple[float, ...] = (0, 30, 100)
    sides: tuple[str, ...] = ()


class Table:
    """Takes measurements under what is varied, and reduces each group to medians."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._groups: dict[str, list[Row]] = defaultdict(list)

    def measure(self, varied: Row, reduce: Callable[[list[Outcome]], Row], *jobs: Job, **settings: Any) -> None:
        """Measure once and keep the figures. A side that fails is told, and the others go on."""
        try:
            self.add(varied, reduce(self._lab.measure(*jobs, **settings)))
        except WorkerFailed as error:
            say(varied, f"FAILED: {error}")
            self._lab.failures.append(str(varied))

    def add(self, varied: Row, figures: Row) -> None:
        """Keep the figures of one measurement; show that something is going on."""
        self._groups[orjson.dumps(varied).decode()].append(figures)
        say(varied, ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def rows(self) -> list[Row]:
        """One row for each group: the medians, how many rounds, and the wall times they are the medians of."""
        rows = []
        for varied, group in self._groups.items():
            medians = {name: statistics.median(figures[name] for figures in group) for name in group[0]}
            walls = [round(figures["wall"], 4) for figures in group if "wall" in figures]
            rows.append(orjson.loads(varied) | {"rounds": len(group)} | medians | {"walls": walls})
        return rows


def say(varied: Row, what: str) -> None:
    """Tell how one measurement went, while the others go on."""
    print(f"  {' | '.join(str(value) for value in varied.values())}: {what}", file=sys.stderr, flush=True)


def quota_figures(outcomes: list[Outcome], texts: int, per_request: int = BATCH) -> Row:
    """Share of the quota: requests' worth of texts over what the quota allows in the time of the call.

    That time includes the last reply's latency. The pace is what the server saw, from the first request to the last.
    """
    begin = min(outcome.start for outcome in outcomes)
    wall = max(outcome.start + outcome.wall for outcome in outcomes) - begin
    server = outcomes[0].server
    admitted, rejected = server["admitted"], server["rejected"]
    return {
        "wall": wall,
        "share": texts / per_request / wall / QPS,
        "pace": (admitted - 1) / (server["admitted_at"][-1] - server["admitted_at"][0]),
        "admitted": admitted,
        "rejected": rejected,
        "rejected_share": rejected / (admitted + rejected),
    }
