"""What is measured: each suite takes the lab and a plan, and returns rows of plain data.

Sides take turns within each round, so that a slow minute of the machine falls on all of them alike.
"""

from collections.abc import Callable
from functools import partial

from benchmarks.job import BATCH, Outcome
from benchmarks.lab import Lab, run_script
from benchmarks.redis_suite import redis
from benchmarks.suites_turns import beside, flood, outage, sharing, slow
from benchmarks.table import QPS, WAVE, Plan, Row, Table, quota_figures
from benchmarks.windows import WINDOWS

DEFAULT_PEER = "peer sync, its default batch of 10"
PEERS = ("peer sync", "peer async, 32 at once", "peer async, all at once")
BASETEN = {
    "embed": "baseten",
    "aembed": "baseten async",
    "embed_array": "baseten array",
    "aembed_array": "baseten array async",
}
"""The way of the client in Rust that gives the same kind of result as each of ours."""
CORE = ("embed", "aembed", "embed_array", "aembed_array")
ADAPTERS = ("LangChain sync", "LangChain async", "LlamaIndex sync", "LlamaIndex async")
WIRE = ("raw sockets", "raw sockets, decoded")


def _figures(outcomes: list[Outcome], texts: int) -> Row:
    [outcome] = outcomes
    return {
        "wall": outcome.wall,
        "texts_per_second": texts / outcome.wall,
        "cpu_ms_per_request": outcome.cpu / texts * BATCH * 1000,
        "memory_mb": outcome.memory,
        "result_mb": outcome.result,
        "requests": outcome.server["admitted"],
    }


def _query_figures(outcomes: list[Outcome]) -> Row:
    median = outcomes[0].notes["median_ms"]
    return {"median_ms": median, "added_ms": median - 30}


def throughput(lab: Lab, plan: Plan) -> list[Row]:
    """Every side at every latency, without a quota. Each side is checked first: every vector is its text's own."""
    sides = plan.sides or (*WIRE, *PEERS, *BASETEN.values(), *CORE, *ADAPTERS)
    table = Table(lab)
    for side in sides:
        lab.check(lab.job(side, 640, marked=True))
    for number in range(plan.rounds):
        for latency in plan.latencies:
            for side in sides if number or plan.quick or plan.sides else (*sides, DEFAULT_PEER):
                figures = partial(_figures, texts=plan.texts)
                varied = {"side": side, "latency_ms": latency}
                table.measure(varied, figures, lab.job(side, plan.texts), latency_ms=latency)
    return table.rows()


def scaling(lab: Lab, plan: Plan) -> list[Row]:
    """1k, 10k and 100k texts at 30 ms; the largest once."""
    table = Table(lab)
    for number in range(plan.rounds):
        for texts in (1_000, 10_000) if number or plan.quick else (1_000, 10_000, 100_000):
            for side in ("raw sockets", "peer async, 32 at once", *CORE):
                figures = partial(_figures, texts=texts)
                table.measure({"side": side, "texts": texts}, figures, lab.job(side, texts), latency_ms=30)
    return table.rows()


def quota(lab: Lab, plan: Plan) -> list[Row]:
    """12,800 texts under 50 QPS; the peer, which has no pace of its own, once, and its sync path with fewer texts."""
    table = Table(lab)
    for number in range(plan.rounds):
        for window in WINDOWS:
            for side in ("embed", "aembed") if number or plan.quick else ("embed", "aembed", *PEERS):
                count = WAVE if side == "peer sync" else 4 * WAVE
                figures = partial(quota_figures, texts=count)
                job, varied = lab.job(side, count, qps=QPS), {"side": side, "window": window}
                table.measure(varied, figures, job, latency_ms=100, quota=QPS, window=window)
    return table.rows()


def shared(lab: Lab, plan: Plan) -> list[Row]:
    """Two processes that know nothing of each other share one quota, 12,800 texts each."""
    table = Table(lab)
    texts = 4 * WAVE
    for _ in range(plan.rounds):
        for window in WINDOWS:
            for side in ("embed",) if plan.quick else ("embed", "aembed"):
                jobs = [lab.job(side, texts, qps=QPS)] * 2
                figures = partial(quota_figures, texts=2 * texts)
                varied = {"side": side, "window": window}
                table.measure(varied, figures, *jobs, latency_ms=100, quota=QPS, window=window)
    return table.rows()


def queries(lab: Lab, plan: Plan) -> list[Row]:
    """One query after another at 30 ms: what each side adds to the server's latency."""
    table = Table(lab)
    sides = ("raw query", "peer query", "embed query", "aembed query", "LangChain query", "LlamaIndex query")
    for _ in range(plan.rounds):
        for side in sides:
            job = lab.job(side, 50 if plan.quick else 100)
            table.measure({"side": side, "latency_ms": 30}, _query_figures, job, latency_ms=30)
    return table.rows()


def threads(lab: Lab, plan: Plan) -> list[Row]:
    """Eight threads ask queries on one client, under 50 QPS at 100 ms."""
    table = Table(lab)
    count = 8 * QPS
    for _ in range(plan.rounds):
        for window in WINDOWS:
            job = lab.job("8 threads of queries", count, qps=QPS)
            figures = partial(quota_figures, texts=count, per_request=1)
            varied = {"side": job.side, "window": window}
            table.measure(varied, figures, job, latency_ms=100, quota=QPS, window=window)
    return table.rows()


def memory(lab: Lab, plan: Plan) -> list[Row]:
    """What a call holds beyond its result: 100,000 texts, no latency, so that replies come as fast as they can."""
    table = Table(lab)
    texts = 10_000 if plan.quick else 100_000
    for _ in range(plan.rounds):
        for side in ("embed_array", "aembed_array", "iter_embed"):
            table.measure({"side": side, "texts": texts}, partial(_figures, texts=texts), lab.job(side, texts))
    return table.rows()


_IMPORT = """
import sys, time
start = time.perf_counter()
import opensearch_embed
seconds = time.perf_counter() - start
heavy = ["requests", "urllib3", "aiohttp", "numpy", "pydantic", "langchain_core", "llama_index", "tenacity", "orjson"]
print(seconds, *[name for name in heavy if name in sys.modules])
"""


def imports(lab: Lab, plan: Plan) -> list[Row]:
    """The first `import opensearch_embed` of a process, and which libraries came with it."""
    table = Table(lab)
    loaded: set[str] = set()
    for _ in range(5 * plan.rounds):
        seconds, *names = run_script(_IMPORT).split()
        loaded.update(names)
        table.add({"statement": "import opensearch_embed"}, {"milliseconds": float(seconds) * 1000})
    return [row | {"loaded": sorted(loaded)} for row in table.rows()]


_ALL = (
    throughput,
    scaling,
    quota,
    slow,
    shared,
    redis,
    queries,
    threads,
    beside,
    flood,
    sharing,
    outage,
    memory,
    imports,
)
SUITES: dict[str, Callable[[Lab, Plan], list[Row]]] = {suite.__name__: suite for suite in _ALL}
