"""A job that fills a quota, and queries beside it, through one real client: how long the queries wait."""

import itertools
import threading
import time
from collections.abc import Iterator

from opensearch_embed import EmbeddingClient


def run_job_and_queries(url: str, qps: float, queries: float, seconds: float, latency: float) -> list[float]:
    """Run both for so many seconds, and return each query's wait: its time, less the service's latency.

    Args:
        url: Where the server listens.
        qps: The client's rate.
        queries: Queries a second.
        seconds: When to stop.
        latency: The server's, in seconds.
    """
    waits: list[float] = []
    begin = time.monotonic()

    def ask(number: int) -> None:
        since = time.monotonic()
        client.embed([f"question {number}"], "query")
        waits.append(time.monotonic() - since - latency)

    def texts() -> Iterator[str]:
        endless = (f"text {number}" for number in itertools.count())
        return itertools.takewhile(lambda _: time.monotonic() < begin + seconds, endless)

    def job() -> None:
        for _ in client.iter_embed(texts(), batch=1024):
            pass

    with EmbeddingClient("benchmark", endpoint=url, api_key="OS-benchmark", dimension=8, qps=qps) as client:
        threads = [threading.Thread(target=job)]
        threads[0].start()
        for number in range(int(queries * seconds)):
            time.sleep(max(0.0, begin + number / queries - time.monotonic()))
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
    return waits
