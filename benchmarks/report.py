"""Prints the results as Markdown tables, so that they can be pasted where they are needed."""

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.goals import Results, Row, best_async_peer, find, goals

_FORMATS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "side": ("side", str),
    "statement": ("statement", str),
    "latency_ms": ("latency, ms", "{:g}".format),
    "window": ("window", str),
    "texts": ("texts", "{:,}".format),
    "wall": ("wall, s", "{:.2f}".format),
    "texts_per_second": ("texts/s", "{:,.0f}".format),
    "cpu_ms_per_request": ("CPU, ms per 32 texts", "{:.2f}".format),
    "memory_mb": ("peak over result, MB", "{:.0f}".format),
    "result_mb": ("result, MB", "{:.0f}".format),
    "share": ("share of the quota", "{:.1%}".format),
    "admitted": ("admitted", "{:.0f}".format),
    "rejected": ("rejected", "{:.0f}".format),
    "rejected_share": ("of all requests", "{:.1%}".format),
    "median_ms": ("median, ms", "{:.2f}".format),
    "added_ms": ("over the latency, ms", "{:.2f}".format),
    "milliseconds": ("ms", "{:.1f}".format),
    "loaded": ("heavy libraries loaded", lambda names: ", ".join(names) or "none"),
    "rounds": ("rounds", "{:d}".format),
}

_TITLES = {
    "throughput": "Throughput, no quota",
    "scaling": "How it scales, 30 ms",
    "quota": "Under 50 QPS, 100 ms",
    "shared": "Two processes that share 50 QPS",
    "queries": "One query after another",
    "threads": "Eight threads of queries on one client, under 50 QPS",
    "memory": "Memory, no latency",
    "imports": "First import",
}


def table(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table with its columns aligned."""
    cells = [list(header), *(list(line) for line in lines)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    padded = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(f"| {line} |" for line in padded)


def rows_table(rows: list[Row]) -> str:
    """Everything that was measured, a column for each figure."""
    columns = [name for name in _FORMATS if name in rows[0]]
    return table(
        (_FORMATS[name][0] for name in columns),
        ([_FORMATS[name][1](row[name]) for name in columns] for row in rows),
    )


def ratios_table(rows: list[Row]) -> str:
    """How many times faster each side is than the peer's, and how far it is from the wire."""
    sides = dict.fromkeys(row["side"] for row in rows)
    latencies = sorted({row["latency_ms"] for row in rows})
    lines = []
    for side in sides:
        line = [side]
        for latency in latencies:
            wall = find(rows, side=side, latency_ms=latency)["wall"]
            others = (
                find(rows, side="peer sync", latency_ms=latency)["wall"] / wall,
                best_async_peer(rows, latency) / wall,
                wall / find(rows, side="raw sockets", latency_ms=latency)["wall"],
            )
            line += [f"{wall:.2f} s", *(f"{ratio:.1f}x" for ratio in others)]
        lines.append(line)
    header = ["side"]
    for latency in latencies:
        header += [f"{latency:g} ms", "to peer sync", "to peer async", "of raw sockets"]
    return table(header, lines)


def goals_table(results: Results) -> str:
    """The goals of the project, next to what was measured."""
    return table(["goal", "wanted", "measured", "met"], (goal.cells() for goal in goals(results)))


def report(machine: dict[str, Any], results: Results, *, compare: bool = True) -> str:
    """All of it, as Markdown; without `compare`, no ratios and no goals, which need every side."""
    pinned = "client and server each on a core of its own" if machine["pinned"] else "not pinned"
    parts = [
        f"{machine['processor']}, {machine['cores']} cores, {pinned}; {machine['python']}; `{machine['command']}`",
    ]
    for suite, rows in results.items():
        parts += [f"## {_TITLES[suite]}", rows_table(rows)]
        if suite == "throughput" and compare:
            parts.append(ratios_table(rows))
    if compare and goals(results):
        parts += ["## Goals", goals_table(results)]
    return "\n\n".join(parts)
