"""Three pictures of the results. The only file here that needs matplotlib."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt

from benchmarks.goals import Results, find
from benchmarks.simulation import Finding
from benchmarks.table import Row

_INK, _MUTED, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_LINES = {  # side: label, colour, dashes, marker
    "raw sockets": ("the wire, nothing read", "#9aa5b1", (1, 2), ""),
    "raw sockets, decoded": ("the wire, read by orjson", "#5f6b7a", (1, 2), ""),
    "embed_array": ("opensearch-embed, array", "#0b6e4f", (), "o"),
    "aembed": ("opensearch-embed, async", "#2a9d8f", (), "s"),
    "embed": ("opensearch-embed, sync", "#264fa8", (), "D"),
    "peer async": ("peer, best async", "#e07a3f", (4, 2), "s"),
    "peer sync": ("peer, sync", "#b23a48", (4, 2), "D"),
}
_BARS = {
    "embed": ("opensearch-embed, sync", "#264fa8"),
    "aembed": ("opensearch-embed, async", "#2a9d8f"),
    "peer async, 32 at once": ("peer, async", "#e07a3f"),
    "peer sync": ("peer, sync", "#b23a48"),
}


def _style() -> None:
    plt.rcParams.update(
        {
            "font.size": 10,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _MUTED,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": _GRID,
            "axes.axisbelow": True,
        }
    )


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    plt.close(figure)


def draw_throughput(rows: list[Row], path: Path) -> None:
    """Texts per second over latency, on a logarithmic scale: ratios are distances."""
    latencies = sorted({row["latency_ms"] for row in rows})

    def speed(side: str, latency: float) -> float:
        sides = ("peer async, 32 at once", "peer async, all at once") if side == "peer async" else (side,)
        return max(find(rows, "texts_per_second", side=name, latency_ms=latency) for name in sides)

    figure, axes = plt.subplots(figsize=(7.4, 4.2))
    ends = []
    for side, (label, colour, dashes, marker) in _LINES.items():
        speeds = [speed(side, latency) for latency in latencies]
        axes.plot(latencies, speeds, color=colour, dashes=dashes or (None, None), marker=marker, lw=2, ms=5)
        ends.append((speeds[-1], label, colour))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    _label_ends(axes, latencies[-1], ends)
    axes.set_xticks(latencies, [f"{latency:g} ms" for latency in latencies])
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("latency of the service")
    axes.set_title("Texts per second (500 characters, 1,024 numbers each), no quota", loc="left", fontsize=11)
    _save(figure, path)


def _label_ends(axes: Any, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Write each line's name beside its end, moved apart where two would touch."""
    low, high = axes.get_ylim()
    least = (high / low) ** 0.055  # the ratio of one label's height to the next
    at = 0.0
    for value, label, colour in sorted(ends):
        at = max(value, at * least)
        axes.annotate(label, (x, at), xytext=(9, 0), textcoords="offset points", va="center", color=colour, fontsize=9)


def draw_quota(rows: list[Row], path: Path) -> None:
    """Share of the quota, and share of requests turned away, over how the service counts."""
    windows = list(dict.fromkeys(row["window"] for row in rows))
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6))
    titles = {"share": "Share of the quota used", "rejected_share": "Share of requests rejected"}
    width = 0.8 / len(_BARS)
    for axes, (figure_name, title) in zip(panels, titles.items(), strict=True):
        for place, (side, (label, colour)) in enumerate(_BARS.items()):
            shares = [100 * find(rows, figure_name, side=side, window=window) for window in windows]
            places = [number + (place - (len(_BARS) - 1) / 2) * width for number in range(len(windows))]
            bars = axes.bar(places, shares, width * 0.9, color=colour, label=label)
            axes.bar_label(bars, [f"{share:.0f}" for share in shares], fontsize=8, padding=1, color=_MUTED)
        axes.set_xticks(
            range(len(windows)), ["token bucket" if window == "bucket" else f"{window} window" for window in windows]
        )
        axes.set_ylim(0, 112)
        axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(decimals=0))
        axes.set_title(f"{title}, 50 QPS", loc="left", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(_BARS), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    _save(figure, path)


_MOST = {"Share of the quota, %": 100, "Refused, %": 3, "A query waits, turns (99 of 100)": 12}
"""Where an axis ends: bars that go on have their figure at its end."""


def draw_simulation(found: list[Finding], path: Path) -> None:
    """Share of the quota and share of refusals for each scenario, a bar for each quota; queries' waits in turns."""
    _style()
    scenarios = list(dict.fromkeys(finding.scenario for finding in found))
    rates = sorted({finding.qps for finding in found})
    colours = ("#2a9d8f", "#264fa8", "#e07a3f")
    panels: dict[str, Callable[[Finding], float]] = {
        "Share of the quota, %": lambda finding: 100 * finding.share,
        "Refused, %": lambda finding: 100 * finding.refused,
        "A query waits, turns (99 of 100)": lambda finding: finding.worst * finding.qps,
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(9.6, 3.6), sharey=True)
    height = 0.8 / len(rates)
    for panel, (title, figure_of) in zip(axes, panels.items(), strict=True):
        for place, (qps, colour) in enumerate(zip(rates, colours, strict=False)):
            mine = {finding.scenario: figure_of(finding) for finding in found if finding.qps == qps}
            places = [number + (place - (len(rates) - 1) / 2) * height for number in range(len(scenarios))]
            values = [mine[scenario] for scenario in scenarios]
            lengths = [min(value, _MOST[title]) for value in values]
            bars = panel.barh(places, lengths, height * 0.9, color=colour, label=f"{qps:,.0f} QPS")
            panel.bar_label(bars, [f"{value:,.1f}" for value in values], fontsize=7, padding=2, color=_MUTED)
        panel.set_yticks(range(len(scenarios)), scenarios)
        panel.grid(visible=False)
        panel.set_xlim(0, 1.18 * min(max(map(figure_of, found)), _MOST[title]))
        panel.set_title(title, loc="left", fontsize=10)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(rates), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    _save(figure, path)


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what the results allow; the files drawn."""
    _style()
    drawn = []
    for suite, draw_one in {"throughput": draw_throughput, "quota": draw_quota}.items():
        if suite in results:
            path = folder / f"{suite}.png"
            draw_one(results[suite], path)
            drawn.append(path)
    return drawn
