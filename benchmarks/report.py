"""Prints the results as Markdown tables, so that they can be pasted where they are needed."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.goals import Results, best_async_peer, find, goals
from benchmarks.suites import BASETEN
from benchmarks.table import Row


def _ratio(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"{ratio:.1f}x"


_FORMATS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "side": ("side", str),
    "statement": ("statement", str),
    "trouble": ("trouble", str),
    "latency_ms": ("latency, ms", "{:g}".format),
    "window": ("window", str),
    "texts": ("texts", "{:,}".format),
    "wall": ("wall, s", "{:.2f}".format),
    "to_peer_sync": ("peer sync takes", _ratio),
    "to_peer_async": ("peer async takes", _ratio),
    "to_baseten": ("baseten takes", _ratio),
    "to_raw": ("of raw sockets", _ratio),
    "to_decoded": ("of raw, decoded", _ratio),
    "texts_per_second": ("texts/s", "{:,.0f}".format),
    "cpu_ms_per_request": ("CPU, ms per 32 texts", "{:.2f}".format),
    "memory_mb": ("peak over result, MB", "{:.0f}".format),
    "result_mb": ("result, MB", "{:.0f}".format),
    "sent": ("requests", "{:.0f}".format),
    "share": ("share of the quota", "{:.1%}".format),
    "filled": ("(N/qps + latency) / wall", "{:.1%}".format),
    "pace": ("admitted a second", "{:.1f}".format),
    "admitted": ("admitted", "{:.0f}".format),
    "rejected": ("rejected", "{:.0f}".format),
    "rejected_share": ("of all requests", "{:.1%}".format),
    "spread": ("one process over another", "{:.1%}".format),
    "worst": ("share in the worst two seconds", "{:.1%}".format),
    "alone_median_ms": ("alone: median, ms", "{:.1f}".format),
    "alone_p99_ms": ("99th, ms", "{:.1f}".format),
    "beside_median_ms": ("beside a job: median, ms", "{:.1f}".format),
    "beside_p99_ms": ("99th, ms", "{:.1f}".format),
    "median_longer_ms": ("longer: median, ms", "{:.1f}".format),
    "p99_longer_ms": ("99th, ms", "{:.1f}".format),
    "documents": ("documents' share of turns", "{:.1%}".format),
    "meanwhile": ("requests meanwhile", "{:.0f}".format),
    "full_after": ("full rate after, s", "{:.2f}".format),
    "peak": ("most in a second after it", "{:.0f}".format),
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
    "slow": "Defaults under 50 QPS, 200 requests, services of all speeds",
    "shared": "Two processes that share 50 QPS",
    "redis": "Four processes that share 50 QPS in Redis",
    "queries": "One query after another",
    "threads": "Eight threads of queries on one client, under 50 QPS",
    "beside": "A hundred queries, alone and beside a job that fills 50 QPS",
    "flood": "A job under a flood of queries, 50 QPS",
    "sharing": "Many queries at once, 50 QPS, 100 ms",
    "outage": "Trouble in mid-job, 50 QPS",
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


def throughput_tables(rows: list[Row]) -> str:
    """A table for each latency: the figures, and how each side stands to the peer's two ways and to the wire."""
    return "\n\n".join(
        f"At {latency:g} ms:\n\n"
        + rows_table([_with_ratios(row, rows) for row in rows if row["latency_ms"] == latency])
        for latency in sorted({row["latency_ms"] for row in rows})
    )


def _with_ratios(row: Row, rows: list[Row]) -> Row:
    latency, wall = row["latency_ms"], row["wall"]
    others = {
        "to_peer_sync": find(rows, "wall", side="peer sync", latency_ms=latency) / wall,
        "to_peer_async": best_async_peer(rows, latency) / wall,
        "to_baseten": find(rows, "wall", side=BASETEN.get(row["side"]), latency_ms=latency) / wall,
        "to_raw": wall / find(rows, "wall", side="raw sockets", latency_ms=latency),
        "to_decoded": wall / find(rows, "wall", side="raw sockets, decoded", latency_ms=latency),
    }
    kept = {name: figure for name, figure in row.items() if name not in ("latency_ms", "result_mb")}
    return kept | others


def goals_table(results: Results) -> str:
    """The goals of the project, next to what was measured."""
    return table(["goal", "wanted", "measured", "met"], (goal.cells() for goal in goals(results)))


def report(machine: dict[str, Any], results: Results) -> str:
    """All of it, as Markdown."""
    pinned = "client and server each on a core of its own" if machine["pinned"] else "not pinned"
    parts = [
        f"{machine['processor']}, {machine['cores']} cores, {pinned}; {machine['python']}; `{machine['command']}`",
    ]
    for suite, rows in results.items():
        if not rows:
            continue
        parts += [f"## {_TITLES[suite]}", (throughput_tables if suite == "throughput" else rows_table)(rows)]
    if goals(results):
        parts += ["## Goals", goals_table(results)]
    return "\n\n".join(parts)
