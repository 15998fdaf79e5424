"""`embed_dataset` on a real Ray: from Parquet to Parquet, with workers killed, texts refused, and wrong keys."""

import os
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interfaces import EMULATOR_KEY, settings_for
from redis_servers import RedisServer
from servers import DIMENSION, Connection, RawRequest, RawServer, honest, refuse, vector

from opensearch_embed import ConfigurationError, InputError
from opensearch_embed.emulator import Emulator
from opensearch_embed.ray import embed_dataset, totals

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    # Ray's own, on its way through pandas, grpc and the processes that it leaves at its end.
    pytest.mark.filterwarnings("default"),
]

ROWS = 3000


@pytest.fixture(autouse=True)
def environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver has, and the workers have not: they were there before it was set."""
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
    monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[..., Any]:
    """Make a dataset that is read from Parquet."""
    from ray.data import read_parquet

    def make(texts: list[Any], files: int = 4, column: str = "text") -> Any:
        folder = tmp_path / f"corpus-{time.monotonic_ns()}"
        folder.mkdir()
        table = pa.table({"id": range(len(texts)), column: texts})
        for number in range(files):
            pq.write_table(table.take(list(range(number, len(texts), files))), folder / f"{number}.parquet")
        return read_parquet(str(folder))

    return make


def texts_of(count: int) -> list[str]:
    """Return texts that differ."""
    return [f"This is document {number}." for number in range(count)]


def written(dataset: Any, folder: Path) -> pa.Table:
    """Write a dataset to Parquet and read it without Ray, in the order of its ids."""
    dataset.write_parquet(str(folder))
    return pq.read_table(folder).sort_by("id")


def assert_whole(table: pa.Table, emulator: Emulator, count: int) -> None:
    """Each row is there, once, with its own vector."""
    assert table["id"].to_pylist() == list(range(count))
    rows = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
    wanted = np.array([emulator.vector(text, "document") for text in table["text"].to_pylist()], np.float32)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, wanted)


def test_parquet_to_parquet(corpus: Callable[..., Any], emulator: Emulator, tmp_path: Path) -> None:
    """Every row gets its own vector; the key comes from the driver's environment; the totals are the service's."""
    dataset = embed_dataset(corpus(texts_of(ROWS)), qps=None)
    table = written(dataset, tmp_path / "out")
    assert table.schema.field("embedding").type.storage_type == pa.list_(pa.float32(), 1024)
    assert_whole(table, emulator, ROWS)
    spent = totals(dataset)
    assert (spent.requests, spent.texts, spent.tokens) == (
        emulator.usage.requests,
        emulator.usage.texts,
        emulator.usage.tokens,
    )
    assert (spent.texts, spent.rejected) == (ROWS, 0)
    assert spent.requests <= 1.1 * ROWS / 32


def test_tensors_reach_numpy(corpus: Callable[..., Any], emulator: Emulator) -> None:
    """A batch of the result is one float32 array; queries are embedded as such."""
    dataset = embed_dataset(corpus(texts_of(40), column="question"), column="question", output_column="vector",
                            input_type="query", workers=1, qps=None)  # fmt: skip
    batch = dataset.take_batch(40)
    assert (batch["vector"].dtype, batch["vector"].shape) == (np.float32, (40, 1024))
    assert batch["vector"][7].tolist() == emulator.vector(batch["question"][7], "query")


def test_the_quota_is_the_jobs(corpus: Callable[..., Any], emulator: Emulator, tmp_path: Path) -> None:
    """Two workers together keep to `qps`."""
    with Emulator(qps=40, window="sliding", api_key=emulator.api_key) as limited:
        dataset = embed_dataset(corpus(texts_of(4096)), endpoint=limited.url, qps=40)
        assert_whole(written(dataset, tmp_path / "out"), limited, 4096)
        assert totals(dataset).retries <= 16  # of 128: without their share of the rate it is half of them


def workers_of_ray() -> list[psutil.Process]:
    """Return the processes in which Ray runs our actor."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "MapWorker(MapBatches(Embedder))" in " ".join(child.cmdline())]


def test_the_quota_may_be_in_redis(corpus: Callable[..., Any], tmp_path: Path) -> None:
    """Workers that share a quota in Redis keep it together: each asks for every request, and none is refused."""
    with RedisServer() as redis, Emulator(vectors="lexical", qps=40, window="sliding") as limited:
        settings = {"endpoint": limited.url, "api_key": limited.api_key, "qps": 40, "limiter": redis.url}
        table = written(embed_dataset(corpus(texts_of(ROWS)), **settings), tmp_path / "out")
        assert_whole(table, limited, ROWS)
        assert limited.usage.outcomes[429] <= 12  # of 94: without one quota it is half of them
        assert redis.calls("evalsha") >= limited.usage.outcomes[200]


def test_a_killed_worker_loses_nothing(corpus: Callable[..., Any], tmp_path: Path) -> None:
    """`kill -9` in mid-job: every row is there, once, with its own vector, though the service saw some texts twice."""
    with Emulator(qps=None, latency_ms=100, api_key=EMULATOR_KEY) as slow:
        dataset = embed_dataset(corpus(texts_of(8000)), endpoint=slow.url, qps=60, max_concurrency=8)
        result: list[pa.Table] = []
        job = threading.Thread(target=lambda: result.append(written(dataset, tmp_path / "out")))
        job.start()
        while slow.usage.requests < 60:
            assert job.is_alive()
            time.sleep(0.02)
        victim = workers_of_ray()[0]
        os.kill(victim.pid, signal.SIGKILL)
        job.join(120)
        assert_whole(result[0], slow, 8000)
        assert not victim.is_running()
        sent = Counter(text for request in slow.requests for text in request.body["input"])
        assert set(sent) == set(texts_of(8000))
        assert 1 < max(sent.values()) <= 3


@pytest.fixture
def picky() -> Iterator[RawServer]:
    """A server that refuses requests with poison in them."""
    refusal = refuse(400, "InvalidParameter", "The text is not acceptable.")

    def act(connection: Connection, request: RawRequest) -> None:
        (refusal if any("poison" in text for text in request.json["input"]) else honest)(connection, request)

    with RawServer(default=act) as running:
        yield running


def test_rows_that_cannot_be_embedded_are_skipped(corpus: Callable[..., Any], picky: RawServer, tmp_path: Path) -> None:
    """With `on_error="skip"`, they have null and a reason; all others have their vectors."""
    texts: list[Any] = [f"text {number}" for number in range(200)]
    texts[3], texts[50], texts[77], texts[199] = "poison", None, "", "more poison"
    dataset = embed_dataset(corpus(texts), on_error="skip", **settings_for(picky.url))
    table = written(dataset, tmp_path / "out")
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), DIMENSION)
    for number, text in enumerate(texts):
        found, reason = table["embedding"][number].as_py(), table["embedding_error"][number].as_py()
        if number in (3, 50, 77, 199):
            assert found is None
        else:
            assert (found, reason) == (vector(text), None)
    reasons = [table["embedding_error"][number].as_py() for number in (3, 50, 77, 199)]
    assert all(reasons[place].startswith("InvalidRequest: ") for place in (0, 3))
    assert "The text is not acceptable." in reasons[0]
    assert reasons[1].startswith("InputError: text is not a str but NoneType")
    assert reasons[2].startswith("InputError: text is empty")
    assert totals(dataset).rejected == 4


def test_a_wrong_key_fails_at_once(corpus: Callable[..., Any], emulator: Emulator) -> None:
    """The job ends with the error's text; what was refused for its key is not asked for again."""
    import ray

    dataset = embed_dataset(corpus(texts_of(ROWS)), api_key="OS-wrong", qps=50)
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        dataset.materialize()
    assert "AuthenticationError" in str(caught.value)
    assert "Check api_key (OPENSEARCH_API_KEY)" in str(caught.value)
    assert "OS-wrong" not in str(caught.value)
    assert ".completed" not in str(caught.value)
    texts = Counter(text for request in emulator.requests for text in request.body["input"])
    assert max(texts.values()) == 1
    assert emulator.usage.requests <= 8


def test_the_error_itself_is_there_for_those_who_ask(corpus: Callable[..., Any]) -> None:
    """With Ray's `raise_original_map_exception`, it is an error of ours that is raised, with what it carries."""
    from ray.data import DataContext

    from opensearch_embed import AuthenticationError

    DataContext.get_current().raise_original_map_exception = True
    try:
        dataset = embed_dataset(corpus(texts_of(10)), api_key="OS-wrong")
    finally:
        DataContext.get_current().raise_original_map_exception = False
    with pytest.raises(AuthenticationError) as caught:
        dataset.materialize()
    assert caught.value.status == 401


def test_a_bad_row_says_what_to_do(corpus: Callable[..., Any], emulator: Emulator) -> None:
    """Without `on_error="skip"`, a row that is no text fails the job before its batch is sent."""
    import ray

    dataset = embed_dataset(corpus([1, 2, 3], files=1))
    with pytest.raises(ray.exceptions.RayTaskError, match=r"texts\[0\] is not a str but int(.|\n)*on_error='skip'"):
        dataset.materialize()
    assert emulator.requests == []


def test_settings_are_checked_before_anything_starts(
    corpus: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the driver: names, values, columns, the key."""
    dataset = corpus(["tea"], files=1)
    with pytest.raises(TypeError, match="qsp"):
        embed_dataset(dataset, qsp=50)
    with pytest.raises(ConfigurationError, match=r"no column 'txt'.*: id, text\."):
        embed_dataset(dataset, column="txt")
    with pytest.raises(ConfigurationError, match="'id' already"):
        embed_dataset(dataset, output_column="id")
    with pytest.raises(ConfigurationError, match="workers"):
        embed_dataset(dataset, workers=0)
    with pytest.raises(ConfigurationError, match="max_attempts"):
        embed_dataset(dataset, max_attempts=0)
    with pytest.raises(InputError, match="input_type"):
        embed_dataset(dataset, input_type="passage")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not list"):
        embed_dataset(["tea"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="embed_dataset returned"):
        totals(dataset)
    monkeypatch.delenv("OPENSEARCH_API_KEY")
    with pytest.raises(ConfigurationError, match="OPENSEARCH_API_KEY"):
        embed_dataset(dataset)


def test_a_column_that_only_the_workers_can_miss(corpus: Callable[..., Any], emulator: Emulator) -> None:
    """Where the columns are not known before, the workers list them."""
    import ray

    unknown = corpus(["tea"], files=1).map(lambda row: row)
    assert unknown.columns(fetch_if_missing=False) is None
    with pytest.raises(ray.exceptions.RayTaskError, match=r"no column 'txt'.*: id, text\."):
        embed_dataset(unknown, column="txt").materialize()
    assert emulator.requests == []


def test_totals_are_rays_metrics_too(corpus: Callable[..., Any], cluster: Any) -> None:
    """Prometheus finds them under their names."""
    dataset = embed_dataset(corpus(texts_of(100)), qps=None, workers=1)
    dataset.materialize()
    assert totals(dataset).texts == 100
    [node] = cluster.nodes()
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    until = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(url) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith("ray_opensearch_embed_texts")]
        if any(float(line.split()[-1]) >= 100 for line in found):
            return
        assert time.monotonic() < until, "\n".join(found)
        time.sleep(0.5)


def test_the_key_is_in_no_log_of_ray(
    corpus: Callable[..., Any], session_logs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither what Ray prints nor what it writes down has it, after a job that failed and one that did not."""
    good, bad = embed_dataset(corpus(texts_of(10))), embed_dataset(corpus([1], files=1))
    shown = f"{good!r} {good} {good.materialize().stats()}"
    with pytest.raises(Exception, match="not a str"):
        bad.materialize()
    out, err = capfd.readouterr()
    assert EMULATOR_KEY not in shown + out + err
    files = [file for file in session_logs.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert [file.name for file in files if EMULATOR_KEY.encode() in file.read_bytes()] == []
