"""The suites about turns: whether the defaults fill the quota, who waits for whom, and what trouble does to the pace.

As in `benchmarks.suites`, each returns rows, and in each round all sides take their turn. All are under 50 QPS, with
the client's default concurrency; where nothing else is said the server counts by sliding window, the strictest.
"""

from bisect import bisect_left
from functools import partial

from benchmarks.job import BATCH, Job, Outcome
from benchmarks.lab import Lab
from benchmarks.table import QPS, WAVE, Plan, Row, Table
from benchmarks.windows import WINDOWS

BESIDE = (
    "query, same client",
    "query, same client, async",
    "query, another client",
    "query, LangChain",
    "query, LlamaIndex",
)
SLOW = (5, 100, 1000, 2500, 5000)
"""Latencies in ms, of which windows other than the sliding one are measured at `SLOW_ELSEWHERE` alone."""
SLOW_ELSEWHERE = (100, 2500)
TROUBLES = {"503 for 6 s": {"status": 503, "seconds": 6.0}, "429 for 9 s": {"status": 429, "seconds": 9.0}}
TROUBLE_AFTER = 3.0
"""Seconds of the job before the trouble."""
FULL = 0.95
"""The full rate is back from when a second has so much of it: the client keeps to 98.5%."""


def _job(lab: Lab, side: str, texts: int) -> Job:
    return lab.job(side, texts, qps=QPS, max_concurrency=None)


def _slow_figures(outcomes: list[Outcome], latency_ms: float) -> Row:
    [outcome] = outcomes
    admitted, rejected = outcome.server["admitted"], outcome.server["rejected"]
    return {
        "wall": outcome.wall,
        "filled": (admitted / QPS + latency_ms / 1000) / outcome.wall,
        "admitted": admitted,
        "rejected": rejected,
        "rejected_share": rejected / (admitted + rejected),
    }


def slow(lab: Lab, plan: Plan) -> list[Row]:
    """200 requests at latencies from 5 ms to 5 s: as many are under way as the quota needs, with no setting."""
    table = Table(lab)
    latencies = SLOW_ELSEWHERE if plan.quick else SLOW
    cases = [("sliding", latency) for latency in latencies]
    cases += [(name, latency) for name in WINDOWS if name != "sliding" for latency in SLOW_ELSEWHERE if not plan.quick]
    for _ in range(plan.rounds):
        for window, latency in cases:
            for side in ("embed", "aembed"):
                job, varied = _job(lab, side, 2 * WAVE), {"side": side, "latency_ms": latency, "window": window}
                figures = partial(_slow_figures, latency_ms=latency)
                table.measure(varied, figures, job, latency_ms=latency, quota=QPS, window=window)
    return table.rows()


def _beside_figures(outcomes: list[Outcome], queries: int) -> Row:
    """The pace is that of queries and documents together, while the queries are asked beside the job."""
    [outcome] = outcomes
    notes, admitted = outcome.notes, outcome.server["admitted_at"]
    begin, end = outcome.server["queries_at"][queries], outcome.server["queries_at"][-1]
    return {
        **notes,
        "median_longer_ms": notes["beside_median_ms"] - notes["alone_median_ms"],
        "p99_longer_ms": notes["beside_p99_ms"] - notes["alone_p99_ms"],
        "pace": (bisect_left(admitted, end) - bisect_left(admitted, begin)) / (end - begin),
    }


def beside(lab: Lab, plan: Plan) -> list[Row]:
    """A hundred queries, five a second, alone and then beside a job that fills the quota."""
    table = Table(lab)
    queries = 20 if plan.quick else 100
    for _ in range(plan.rounds):
        for side in BESIDE:
            figures = partial(_beside_figures, queries=queries)
            job = _job(lab, side, queries)
            table.measure({"side": side}, figures, job, latency_ms=100, quota=QPS, window="sliding")
    return table.rows()


def _flood_figures(outcomes: list[Outcome]) -> Row:
    """From the first query to the last, which is as long as both kinds wait."""
    server = outcomes[0].server
    admitted, queries = server["admitted_at"], server["queries_at"]
    turns = bisect_left(admitted, queries[-1]) + 1 - bisect_left(admitted, queries[0])
    return {"documents": 1 - len(queries) / turns, "pace": (turns - 1) / (queries[-1] - queries[0])}


def flood(lab: Lab, plan: Plan) -> list[Row]:
    """Documents beside more queries than the quota admits: they keep their share of the turns."""
    table = Table(lab)
    texts = BATCH * QPS * (4 if plan.quick else 8)
    for _ in range(plan.rounds):
        for side in ("flood of queries", "flood of queries, async"):
            job = _job(lab, side, texts)
            table.measure({"side": side}, _flood_figures, job, latency_ms=100, quota=QPS, window="sliding")
    return table.rows()


def _sharing_figures(outcomes: list[Outcome]) -> Row:
    [outcome] = outcomes
    server = outcome.server
    return {
        "wall": outcome.wall,
        "sent": server["admitted"] + server["rejected"],
        "rejected": server["rejected"],
    }


def sharing(lab: Lab, plan: Plan) -> list[Row]:
    """Many different queries, each a call of its own, share requests. What a lone one waits is in suite `queries`."""
    table = Table(lab)
    for _ in range(plan.rounds):
        for side, texts in {"queries at once, async": 1600, "queries from 64 threads": 640}.items():
            job, varied = _job(lab, side, texts), {"side": side, "texts": texts}
            table.measure(varied, _sharing_figures, job, latency_ms=100, quota=QPS, window="sliding")
    return table.rows()


def _outage_figures(outcomes: list[Outcome], seconds: float) -> Row:
    """The peak is of all that arrives, rejected or not; times of the server."""
    [outcome] = outcomes
    server, end = outcome.server, TROUBLE_AFTER + seconds
    admitted = [at for at in server["admitted_at"] if at >= end]
    arrived = sorted(admitted + [at for at in server["rejected_at"] if at >= end])

    def in_a_second(times: list[float], at: float) -> int:
        return bisect_left(times, at + 1) - bisect_left(times, at)

    full = [at for at in admitted if in_a_second(admitted, at) >= FULL * QPS]
    return {
        "wall": outcome.wall,
        "meanwhile": len(server["down_at"]),
        "full_after": full[0] - end if full else float("inf"),
        "peak": max(in_a_second(arrived, at) for at in arrived),
    }


def outage(lab: Lab, plan: Plan) -> list[Row]:
    """A job of twelve seconds that finds the service away, or nothing but 429, from its fourth second on."""
    table = Table(lab)
    for _ in range(plan.rounds):
        for trouble, how in TROUBLES.items():
            for side in ("embed",) if plan.quick else ("embed", "aembed"):
                job, varied = _job(lab, side, 6 * WAVE), {"side": side, "trouble": trouble}
                settings = {"latency_ms": 100, "quota": QPS, "window": "sliding"}
                settings["outage"] = {"after": TROUBLE_AFTER, **how}
                table.measure(varied, partial(_outage_figures, seconds=how["seconds"]), job, **settings)
    return table.rows()
