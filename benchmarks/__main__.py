"""`python -m benchmarks`: measure, print, write, draw."""

import argparse
import sys
import time
from pathlib import Path

import orjson

from benchmarks.lab import ROOT, open_lab
from benchmarks.machine import describe
from benchmarks.report import report
from benchmarks.sides import SIDES
from benchmarks.suites import SUITES
from benchmarks.table import Plan


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Peer and project, measured in one run.")
    parser.add_argument("--quick", action="store_true", help="one round, fewer and smaller loads: about ten minutes")
    parser.add_argument("--only", choices=list(SUITES), action="append", help="this suite alone; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of which the medians are taken: 3, or 1 with --quick")
    parser.add_argument("--texts", type=int, default=3200, help="texts of the throughput suite")
    parser.add_argument("--latency", type=float, action="append", help="ms, of the throughput suite; may be repeated")
    parser.add_argument("--side", choices=list(SIDES), action="append", help="this side alone; may be repeated")
    parser.add_argument("--dimension", type=int, default=1024, help="numbers in each vector")
    parser.add_argument("--json", type=Path, help="where results go: benchmarks/results.json for a full run")
    parser.add_argument("--plots", type=Path, help="folder of the two pictures: docs/ for a full run")
    return parser.parse_args()


def main() -> int:
    """Run the suites asked for. Progress goes to stderr, the tables to stdout; 1 if a side failed, 0 however slow."""
    options = _options()
    full = not (options.quick or options.only or options.side)
    plan = Plan(
        rounds=options.rounds or (1 if options.quick else 3),
        quick=options.quick,
        texts=options.texts,
        latencies=tuple(options.latency or (0, 30, 100)),
        sides=tuple(options.side or ()),
    )
    machine = describe()
    results = {}
    with open_lab(options.dimension) as lab:
        for name in options.only or (["throughput"] if options.side else SUITES):
            began = time.monotonic()
            print(f"{name}:", file=sys.stderr, flush=True)
            results[name] = SUITES[name](lab, plan)
            print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(report(machine, results))
    if path := options.json or (ROOT / "benchmarks" / "results.json" if full else None):
        path.write_bytes(orjson.dumps({"machine": machine, "results": results}, option=orjson.OPT_INDENT_2) + b"\n")
    if folder := options.plots or (ROOT / "docs" if full else None):
        from benchmarks.plots import draw

        for path in draw(results, folder):
            print(f"drew {path.name}", file=sys.stderr)
    for failure in lab.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if lab.failures else 0


if __name__ == "__main__":
    sys.exit(main())
