"""`python -m benchmarks.cluster`: a job of Ray Data on this machine, against the benchmarks' server.

Needs `pip install --group cluster`. Figures are the server's: how many requests it admitted a second, from the first to
the last and in the middle of the job, and how many it refused. Ray's own start takes some seconds more.
"""

import argparse
import os

from benchmarks.lab import open_lab

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


def main() -> None:
    """Print a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--qps", type=float, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40, help="how long the quota makes the job")
    parser.add_argument("--window", default="fixed")
    options = parser.parse_args()
    import ray
    from ray.data import range as numbers

    from opensearch_embed.ray import embed_dataset, totals

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    corpus = numbers(int(32 * options.qps * options.seconds)).map_batches(
        lambda batch: {"text": [f"{number} {'x' * 490}" for number in batch["id"]]}
    )
    with open_lab() as lab:
        lab._control("POST", "/reset", {"latency_ms": 100, "qps": options.qps, "window": options.window})
        dataset = embed_dataset(corpus, endpoint=lab.url, api_key="OS-x", qps=options.qps, workers=options.workers)
        for _ in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            pass
        counts = lab._control("GET", "/stats")
    at = counts["admitted_at"]
    middle = sum(0.2 <= moment / at[-1] < 0.8 for moment in at) / (0.6 * at[-1])
    print(
        f"{options.workers} workers, {options.qps:g} QPS ({options.window} window): {len(at) / at[-1]:.1f} a second, "
    )
    print(
        f"{middle:.1f} in the middle; {counts['rejected']} of {counts['rejected'] + len(at)} refused. {totals(dataset)}"
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
