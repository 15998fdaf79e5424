"""`python -m benchmarks.simulation`: the real dispatcher in virtual time, against quotas that no test machine has.

    python -m benchmarks.simulation                        prints the table
    python -m benchmarks.simulation --real                 the same of real runs, where this machine can do them
    python -m benchmarks.simulation --late 20              a machine that is busy with other things
    python -m benchmarks.simulation --plot docs/scaling.png

A request here costs no CPU: what one process can do at 5,000 a second is another question (docs/scaling.md).
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.simulator import Caller, Service, Simulation
from benchmarks.windows import WINDOWS
from opensearch_embed._dispatch.dispatcher import Outcome
from opensearch_embed._dispatch.lanes import Lane

WARM_UP, END = 5.0, 35.0
"""Seconds: figures are of what happens between."""

QUERY_SHARE = 0.1
"""Queries a second, as a part of the quota."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One situation.

    Attributes:
        name: As it is printed.
        window: How the service counts.
        latency: Seconds until an answer is there.
        jitter: Seconds that a request is late on its way, at most.
        away: Seconds between which the service answers 503.
        foreign: What others take of the quota, at random moments.
    """

    name: str
    window: str = "sliding"
    latency: float = 0.1
    jitter: float = 0.004
    away: tuple[float, float] = (END, END)
    foreign: float = 0.0


SCENARIOS = (
    Scenario("fixed window", "fixed"),
    Scenario("sliding window"),
    Scenario("token bucket", "bucket"),
    Scenario("latency 1 s, jitter 50 ms", latency=1.0, jitter=0.05),
    Scenario("away for 10 s", away=(10.0, 20.0)),
    Scenario("others take 30%", foreign=0.3),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a scenario. Shares are of 1, waits are seconds.

    Attributes:
        share: Requests that were answered, of those that the quota had left for us while the service was there.
        refused: Requests that were answered with 429, of all that were sent.
        median: Wait of a query for its turn.
        worst: That of the 99th of a hundred.
    """

    qps: float
    scenario: str
    share: float
    refused: float
    median: float
    worst: float

    def __str__(self) -> str:
        waits = f"{1000 * self.median:.1f} ms | {1000 * self.worst:.1f} ms"
        return f"| {self.qps:,.0f} | {self.scenario} | {self.share:.1%} | {self.refused:.2%} | {waits} |"


HEADING = """| QPS | scenario | share of the quota | refused | a query waits: median | 99 of 100 |
| ---: | --- | ---: | ---: | ---: | ---: |"""


def service(scenario: Scenario, qps: float) -> Service:
    """Return a service that counts, is away, and is used by others."""
    window = WINDOWS[scenario.window](qps)
    chance = random.Random(3)
    stranger = 0.0

    def serve(at: float) -> Outcome:
        nonlocal stranger
        while scenario.foreign and stranger <= at:
            window.admit(stranger)
            stranger += chance.expovariate(scenario.foreign * qps)
        if scenario.away[0] <= at < scenario.away[1]:
            return "unavailable"
        return "success" if window.admit(at) else "throttled"

    return serve


def simulate(scenario: Scenario, qps: float, late: float) -> Finding:
    """Run a job that fills the quota, and queries beside it, from 0 to `END`; who waits wakes up to `late` s late."""
    simulation = Simulation(qps, service(scenario, qps), latency=scenario.latency, jitter=scenario.jitter, late=late)
    job = Caller(10**9)
    chance = random.Random(5)
    queries = [
        Caller(1, Lane.QUERY, begins=WARM_UP + chance.uniform(0, END - WARM_UP))
        for _ in range(int(QUERY_SHARE * qps * (END - WARM_UP)))
    ]
    simulation.run(job, *queries, until=END)
    seen = [one for one in simulation.departures if WARM_UP <= one.at < END]
    answered = sum(one.outcome == "success" for one in seen)
    there = END - WARM_UP - (scenario.away[1] - scenario.away[0])
    calm = [wait for query in queries for wait in query.waits[:1] if not _is_near(scenario.away, query.begins)]
    return Finding(
        qps,
        scenario.name,
        answered / (qps * (1 - scenario.foreign) * there),
        sum(one.outcome == "throttled" for one in seen) / len(seen),
        statistics.median(calm),
        statistics.quantiles(calm, n=100)[98],
    )


def _is_near(away: tuple[float, float], at: float) -> bool:
    """Say whether the service is away, or has just come back: a query cannot have a turn then."""
    return away[0] - 1 <= at < away[1] + 2


def measure(scenario: Scenario, qps: float) -> Finding:
    """Do the same for real: a client in this process, the benchmarks' server in another, small vectors."""
    from benchmarks.lab import open_lab
    from benchmarks.real import run_job_and_queries

    with open_lab(dimension=8) as lab:
        lab._control("POST", "/reset", {"latency_ms": 1000 * scenario.latency, "qps": qps, "window": scenario.window})
        waits = run_job_and_queries(lab.url, qps, QUERY_SHARE * qps, END, scenario.latency)
        counts = lab._control("GET", "/stats")
    admitted, rejected = (
        sum(WARM_UP <= at < END - 1 for at in counts[name]) for name in ("admitted_at", "rejected_at")
    )
    return Finding(
        qps,
        f"{scenario.name}, measured",
        admitted / (qps * (END - 1 - WARM_UP)),
        rejected / (admitted + rejected),
        statistics.median(waits),
        statistics.quantiles(waits, n=100)[98],
    )


def findings(rates: list[float], real: bool, late: float) -> Iterator[Finding]:
    """Yield what comes of each scenario at each rate."""
    for qps in rates:
        for scenario in SCENARIOS:
            if not real:
                yield simulate(scenario, qps, late)
            elif qps <= 500 and scenario.name in ("fixed window", "sliding window", "token bucket"):
                yield measure(scenario, qps)


def main() -> None:
    """Print, and draw if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--qps", type=float, action="append", help="a quota; may be repeated: 50, 500 and 5,000")
    parser.add_argument("--real", action="store_true", help="real runs instead, up to 500")
    parser.add_argument("--late", type=float, default=1.0, help="ms that who waits wakes late, at most: 1")
    parser.add_argument("--plot", type=Path, help="the picture's file")
    options = parser.parse_args()
    print(HEADING)
    found = []
    for finding in findings(options.qps or [50.0, 500.0, 5000.0], options.real, options.late / 1000):
        print(finding, flush=True)
        found.append(finding)
    if options.plot:
        from benchmarks.plots import draw_simulation

        draw_simulation(found, options.plot)
    print(f"{time.process_time():.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
