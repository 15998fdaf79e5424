"""`python -m soak`: load, measure every minute, judge."""

import argparse
import platform
import random
import sys
import threading
import time

from soak.lab import Gate, Lab
from soak.loads import LOADS, Load
from soak.server import serving
from soak.watch import Sample, Watch

HEAD = "| minute | calls | failed, as told | vectors | wrong | RSS MB | heap MB | blocks | files | threads |"
RULE = "| ---: " * 10 + "|"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (30)")
    parser.add_argument("--every", type=float, default=60, help="seconds between two measurements (60)")
    parser.add_argument("--pause", type=float, default=20, help="ms that a load waits between two rounds (20)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and texts (1)")
    return parser.parse_args()


def _run_load(load: Load, lab: Lab, gate: Gate, chance: random.Random, pause: float) -> None:
    rounds = load(lab, chance)
    failed = False
    while gate.rest():
        try:
            None if failed else next(rounds)
        except Exception as error:  # noqa: BLE001 - whatever it is, it should not have come out
            lab.note(f"{load.__name__} ended with {error!r}")
            failed = True
        time.sleep(pause)
    rounds.close()


def _row(sample: Sample) -> str:
    tally = sample.tally
    counts = [tally.get(name, 0) for name in ("calls", "failed calls", "vectors", "wrong vectors")]
    figures = [
        f"{sample.minutes:.1f}",
        *(f"{count:,}" for count in counts),
        f"{sample.rss_mb:.1f}",
        f"{sample.heap_mb:.1f}",
    ]
    return f"| {' | '.join([*figures, f'{sample.blocks:,}', str(sample.files), str(sample.threads)])} |"


def _judge(watch: Watch, lab: Lab, outcomes: dict[str, int], idle: Sample, closed: Sample) -> bool:
    good = not lab.problems
    print("\n| | early | late | allowed | |\n| --- | ---: | ---: | ---: | --- |")
    for name, early, late, allowed, within in watch.growth():
        good &= within
        print(f"| {name} | {early:,.1f} | {late:,.1f} | {allowed:,.1f} | {'constant' if within else 'GROWS'} |")
    for name, before, after in (
        ("files", idle.files, closed.files),
        ("threads", idle.threads, closed.threads),
    ):
        good &= after <= before
        print(
            f"| {name}, with all closed | {before} | {after} | {before} | {'constant' if after <= before else 'LEFT'} |"
        )
    print("\nServer: " + ", ".join(f"{count:,} x {outcome}" for outcome, count in sorted(outcomes.items())))
    errors = {name: count for name, count in lab.tally.items() if name[0].isupper()}
    print(
        "Calls that ended with: " + (", ".join(f"{count:,} x {name}" for name, count in errors.items()) or "no error")
    )
    for problem in lab.problems:
        print(f"PROBLEM: {problem}")
    vectors, wrong = lab.tally["vectors"], lab.tally["wrong vectors"]
    print(f"\n{'PASSED' if good else 'FAILED'}: {vectors:,} vectors, {wrong} wrong, {watch.minutes:.1f} minutes.")
    return good


def main() -> int:
    """Run; 0 if all is constant and right, else 1."""
    options = _options()
    print(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}: {' '.join(sys.argv[1:])}\n")
    with serving(options.seed) as server:
        lab = Lab(server.url, server.api_key)
        watch = Watch(lab.note)
        gate = Gate(len(LOADS))
        idle = watch.measure(lab.tally)
        workers = [
            threading.Thread(
                target=_run_load,
                args=(load, lab, gate, random.Random(options.seed * 1000 + number), options.pause / 1000),
                name=f"soak-{load.__name__}",
            )
            for number, load in enumerate(LOADS)
        ]
        for worker in workers:
            worker.start()
        print(f"{HEAD}\n{RULE}")
        try:
            while (left := (options.minutes - watch.minutes) * 60) > 1:
                time.sleep(min(options.every, left))
                if not gate.close():
                    lab.note("a load does not come to rest")
                print(_row(watch.take(lab.tally)), flush=True)
                gate.open()
        finally:
            gate.open(over=True)
            for worker in workers:
                worker.join()
            lab.shared.close()
        closed = watch.measure(lab.tally)
        return 0 if _judge(watch, lab, server.stop(), idle, closed) else 1


if __name__ == "__main__":
    sys.exit(main())
