"""What was to be reached, and what was. Pure: rows of `benchmarks.suites` in, lines of a table out."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.suites import ADAPTERS, BASETEN, PEERS
from benchmarks.table import Row

Results = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class Goal:
    """One line: a figure, and the bound it was to stay above or below."""

    name: str
    bound: float
    figure: float
    at_least: bool = True
    unit: str = ""
    digits: int = 1

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side of the bound."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def cells(self) -> list[str]:
        """As the table shows it."""
        sign = "at least" if self.at_least else "at most"
        figure = f"{self.figure:.{self.digits}f}{self.unit}"
        return [self.name, f"{sign} {self.bound:g}{self.unit}", figure, "yes" if self.met else "no"]


def find(rows: list[Row], figure: str, **wanted: Any) -> float:
    """The figure in the row with these values; not a number where that was not measured."""
    found = (float(row[figure]) for row in rows if all(row.get(name) == value for name, value in wanted.items()))
    return next(found, math.nan)


def best_async_peer(rows: list[Row], latency: float) -> float:
    """Wall time of the peer's better async way at this latency: 32 at once, or all at once."""
    return min(find(rows, "wall", side=side, latency_ms=latency) for side in PEERS[1:])


def _throughput(rows: list[Row]) -> Iterator[Goal]:
    latencies = {row["latency_ms"] for row in rows}

    def wall(side: str, latency: float) -> float:
        return find(rows, "wall", side=side, latency_ms=latency)

    def goals(bounds: dict[int, float]) -> Iterator[tuple[int, float]]:
        return ((latency, bound) for latency, bound in bounds.items() if latency in latencies)

    for latency, bound in goals({0: 6, 30: 12, 100: 18}):
        figure = wall("peer sync", latency) / wall("embed", latency)
        yield Goal(f"`embed` to peer sync, {latency} ms", bound, figure, unit="x")
    for latency, bound in goals({30: 4, 100: 3.5}):
        figure = best_async_peer(rows, latency) / wall("aembed", latency)
        yield Goal(f"`aembed` to peer's best async, {latency} ms", bound, figure, unit="x")
    for latency, bound in goals({100: 22}):
        figure = wall("peer sync", latency) / wall("embed_array", latency)
        yield Goal(f"`embed_array` to peer sync, {latency} ms", bound, figure, unit="x")
    for side, other in BASETEN.items():
        for latency, bound in goals({30: 1, 100: 1}):
            yield Goal(
                f"`{side}` to {other}, {latency} ms",
                bound,
                wall(other, latency) / wall(side, latency),
                unit="x",
                digits=2,
            )
    for side in ("embed", "aembed", "embed_array", "aembed_array"):
        for latency, bound in goals({30: 1.3, 100: 1.25}):
            figure = wall(side, latency) / wall("raw sockets", latency)
            yield Goal(f"`{side}` to raw sockets, {latency} ms", bound, figure, at_least=False, unit="x", digits=2)
    for side in ("embed", "aembed"):
        for latency in sorted(latencies):
            figure = find(rows, "cpu_ms_per_request", side=side, latency_ms=latency)
            yield Goal(f"CPU of `{side}` for 32 x 1024, {latency:g} ms", 4, figure, at_least=False, unit=" ms")
    for side in ADAPTERS:
        core = "aembed" if side.endswith("async") else "embed"
        for latency in sorted(latencies):
            figure = (wall(side, latency) / wall(core, latency) - 1) * 100
            yield Goal(f"{side} over `{core}`, {latency:g} ms", 10, figure, at_least=False, unit="%")


def _quota(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        if row["side"] in ("embed", "aembed"):
            name = f"`{row['side']}`, 50 QPS, {row['window']}"
            yield Goal(f"{name}: share of the quota", 97, row["share"] * 100, unit="%")
            yield Goal(f"{name}: rejected", 0.5, row["rejected_share"] * 100, at_least=False, unit="%", digits=2)


def _slow(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        name = f"defaults, `{row['side']}`, {row['latency_ms']:g} ms, {row['window']}"
        yield Goal(f"{name}: filled", 97, row["filled"] * 100, unit="%")
        yield Goal(f"{name}: rejected", 0.5, row["rejected_share"] * 100, at_least=False, unit="%", digits=2)


def _beside(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        name = f"{row['side']}, beside a job"
        yield Goal(f"{name}: longer, median", 20, row["median_longer_ms"], at_least=False, unit=" ms")
        yield Goal(f"{name}: longer, 99th percentile", 60, row["p99_longer_ms"], at_least=False, unit=" ms")


def _flood(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        yield Goal(f"{row['side']}: documents' share of turns", 24, row["documents"] * 100, unit="%")


def _sharing(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        name = f"{row['texts']:,} {row['side']}"
        at_once = row["side"] == "queries at once, async"
        yield Goal(f"{name}: wall", 1.6 if at_once else 1.2, row["wall"], at_least=False, unit=" s", digits=2)
        if at_once:
            yield Goal(f"{name}: requests", 60, row["sent"], at_least=False, digits=0)


def _outage(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        name, away = f"{row['trouble']}, `{row['side']}`", row["trouble"].startswith("503")
        if away:
            yield Goal(f"{name}: requests meanwhile", 30, row["meanwhile"], at_least=False, digits=0)
        yield Goal(f"{name}: full rate after", 2 if away else 3, row["full_after"], at_least=False, unit=" s", digits=2)
        yield Goal(f"{name}: most in a second after it", 50, row["peak"], at_least=False, digits=0)


def _shared(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        name = f"two processes, `{row['side']}`, {row['window']}"
        yield Goal(f"{name}: share of the quota", 85, row["share"] * 100, unit="%")
        yield Goal(f"{name}: rejected", 15, row["rejected_share"] * 100, at_least=False, unit="%")


def _redis(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        name = f"Redis, {row['side']}, {row['window']}"
        yield Goal(f"{name}: share of the quota", 97, row["share"] * 100, unit="%")
        yield Goal(f"{name}: rejected", 0.5, row["rejected_share"] * 100, at_least=False, unit="%", digits=2)
        yield Goal(f"{name}: one process over another", 20, row["spread"] * 100, at_least=False, unit="%")
        yield Goal(f"{name}: share in the worst two seconds", 90, row["worst"] * 100, unit="%")


def _queries(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        if row["side"] not in ("raw query", "peer query"):
            yield Goal(f"{row['side']}: added to the latency", 3, row["added_ms"], at_least=False, unit=" ms", digits=2)


def _threads(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        yield Goal(f"8 threads, {row['window']}: share of the quota", 97, row["share"] * 100, unit="%")


def _memory(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        if row["side"] == "iter_embed":
            continue
        name = f"peak of `{row['side']}` over its result, {row['texts']:,} texts"
        yield Goal(name, 60, row["memory_mb"], at_least=False, unit=" MB", digits=0)


def _imports(rows: list[Row]) -> Iterator[Goal]:
    for row in rows:
        yield Goal("first `import opensearch_embed`", 10, row["milliseconds"], at_least=False, unit=" ms")
        yield Goal("heavy libraries it loads", 0, len(row["loaded"]), at_least=False, digits=0)


_OF_SUITE: dict[str, Callable[[list[Row]], Iterator[Goal]]] = {
    "throughput": _throughput,
    "quota": _quota,
    "slow": _slow,
    "shared": _shared,
    "redis": _redis,
    "queries": _queries,
    "threads": _threads,
    "beside": _beside,
    "flood": _flood,
    "sharing": _sharing,
    "outage": _outage,
    "memory": _memory,
    "imports": _imports,
}


def goals(results: Results) -> list[Goal]:
    """Every goal that the results speak to."""
    found = (goal for suite, rows in results.items() if suite in _OF_SUITE for goal in _OF_SUITE[suite](rows))
    return [goal for goal in found if not math.isnan(goal.figure)]
