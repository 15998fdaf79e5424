"""The same command again: what is finished is not paid twice, and never passes for what something else would give."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interfaces import MODEL, settings_for
from servers import DIMENSION, KEY, RawServer, honest, refuse, vector
from test_cli import run

from opensearch_embed import (
    AuthenticationError,
    ConfigurationError,
    EmbeddingClient,
    InvalidRequest,
    OpenSearchEmbedError,
)
from opensearch_embed.bulk import Estimate, Report, embed_file, estimate_file, search_file, vectors
from opensearch_embed.bulk.parts import made_of

FORMS = ["out.parquet", "out.jsonl", "out.npy"]
TEXTS = [f"text {number}" for number in range(70)]


@pytest.fixture
def server() -> Iterator[RawServer]:
    """An honest server."""
    with RawServer() as running:
        yield running


def write(path: Path, texts: list[str]) -> Path:
    """Write a file of JSON lines, long before any output."""
    path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
    os.utime(path, (1e9, 1e9))
    return path


def embedded(server: RawServer, source: Any, output: Path, input_type: Any = "document", **settings: Any) -> Report:
    """Embed a file."""
    with EmbeddingClient(**settings_for(server.url, **settings)) as client:
        return embed_file(source, output, client=client, input_type=input_type)


def estimated(source: Any, output: Path, input_type: Any = "document", **settings: Any) -> Estimate:
    """Say what that would take, of a service that is nowhere."""
    with EmbeddingClient(**settings_for("http://localhost:9", **settings)) as client:
        return estimate_file(source, client=client, input_type=input_type, output=output)


@pytest.mark.parametrize("name", FORMS)
def test_a_finished_output_is_that_of_this_input_and_no_other(name: str, server: RawServer, tmp_path: Path) -> None:
    """As many rows of other texts, the same files in another order, other settings: each is refused, dry or not."""
    one, other = write(tmp_path / "one.jsonl", TEXTS), write(tmp_path / "other.jsonl", TEXTS[::-1])
    output = tmp_path / name
    embedded(server, [one, other], output)
    wanted = output.read_bytes()
    server.requests.clear()
    for source, settings in (
        ([other, one], {}),
        ([one, one], {}),
        ([one, other], {"input_type": "query"}),
        ([one, other], {"overflow": "truncate"}),
        ([one, other], {"model": "another"}),
        ([one, other], {"empty": "zero"}),
    ):
        for attempt in (lambda s, o: embedded(server, s, output, **o), lambda s, o: estimated(s, output, **o)):
            with pytest.raises(ConfigurationError, match=r"is there already, and it was made from .*--restart"):
                attempt(source, settings)
    assert output.read_bytes() == wanted
    assert server.requests == []


@pytest.mark.parametrize("name", FORMS)
def test_what_an_emulator_made_is_not_the_services(name: str, server: RawServer, tmp_path: Path) -> None:
    """Tried here first, and then run again with the service's endpoint: that is refused, and says why."""
    source, output = write(tmp_path / "one.jsonl", TEXTS), tmp_path / name
    embedded(server, source, output)
    with EmbeddingClient(**settings_for("https://service.invalid")) as client:
        with pytest.raises(ConfigurationError, match=r"with other settings: service \('local' then, 'remote' now\)"):
            embed_file(source, output, client=client)
        assert client.usage.requests == 0
        if name.endswith(".parquet"):
            with (
                pytest.warns(UserWarning, match=r"made by an endpoint of this machine, such as the emulator; the"),
                pytest.raises(OpenSearchEmbedError),
            ):
                search_file(output, "text", client=client)


@pytest.mark.parametrize("name", FORMS)
def test_a_finished_output_is_kept_for_a_copy_of_its_input(name: str, server: RawServer, tmp_path: Path) -> None:
    """Whatever the input is called, and whoever serves: nothing is sent, and a dry run says so."""
    output = tmp_path / name
    embedded(server, write(tmp_path / "one.jsonl", TEXTS), output)
    server.requests.clear()
    again = write(tmp_path / "copy.jsonl", TEXTS)
    estimate = estimated(again, output)
    assert (estimate.rows, estimate.kept, estimate.requests, estimate.tokens) == (70, 70, 0, 0)
    with RawServer() as elsewhere:
        report = embedded(elsewhere, again, output)
        assert elsewhere.requests == []
    assert (report.rows, report.embedded, report.kept, report.requests) == (70, 70, 70, 0)
    assert server.requests == []


@pytest.mark.parametrize("name", FORMS[1:])
def test_an_output_of_unknown_origin_is_not_taken_for_ones_own(name: str, server: RawServer, tmp_path: Path) -> None:
    """As one that was copied here without what tells of it."""
    output, source = tmp_path / name, write(tmp_path / "one.jsonl", TEXTS)
    embedded(server, source, output)
    assert orjson.loads(made_of(output).read_bytes())["opensearch_embed.model"] == MODEL
    assert KEY.encode() not in made_of(output).read_bytes()
    made_of(output).unlink()
    with pytest.raises(ConfigurationError, match="is there already"):
        embedded(server, source, output)
    with EmbeddingClient(**settings_for(server.url)) as client:
        embed_file(source, output, client=client, restart=True)
    assert embedded(server, source, output).requests == 0


def test_the_bytes_do_not_say_where_or_when(tmp_path: Path) -> None:
    """Two inputs with the same content give the same output, whatever their names, times and servers."""
    outputs = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        source = write(tmp_path / folder / f"{folder}.jsonl", TEXTS)
        os.utime(source, (1e9 + len(outputs), 1e9))
        with RawServer() as elsewhere:
            embedded(elsewhere, source, tmp_path / folder / "out.parquet")
        outputs.append((tmp_path / folder / "out.parquet").read_bytes())
    assert outputs[0] == outputs[1]


def test_a_dry_run_refuses_what_the_run_refuses(tmp_path: Path) -> None:
    """Unfinished work of other settings, or of another input."""
    source, output = write(tmp_path / "one.jsonl", TEXTS), tmp_path / "out.npy"
    with RawServer(honest, refuse(404, "ServiceIdNotExist")) as server, pytest.raises(InvalidRequest):
        embedded(server, source, output, max_concurrency=1)
    assert estimated(source, output).kept == 32
    for settings in ({"input_type": "query"}, {"model": "another"}):
        with pytest.raises(ConfigurationError, match="has changed"):
            estimated(source, output, **settings)
    write(source, TEXTS[1:])
    with pytest.raises(ConfigurationError, match="has changed: the input"):
        estimated(source, output)


def test_a_wrong_address_can_be_mended(server: RawServer, tmp_path: Path) -> None:
    """Where nothing came from the first one; what came from another is not mixed."""
    source, output = write(tmp_path / "one.jsonl", TEXTS), tmp_path / "out.npy"
    with RawServer(default=refuse(404, "ServiceIdNotExist")) as wrong, pytest.raises(InvalidRequest):
        embedded(wrong, source, output)
    with RawServer(honest, refuse(404, "ServiceIdNotExist")) as other, pytest.raises(InvalidRequest):
        embedded(other, source, output, max_concurrency=1)
    with pytest.raises(ConfigurationError, match="has changed: endpoint"):
        embedded(server, source, output)


# --- rows that cannot be sent ---


@pytest.mark.parametrize(("empty", "input_type"), [("error", "document"), ("zero", "document"), ("zero", "query")])
def test_white_space_alone_is_no_text(empty: Any, input_type: Any, server: RawServer, tmp_path: Path) -> None:
    """Such rows are rejected, or zero, as empty ones are, and end nothing; a query of nothing is rejected always."""
    texts = ["a", "   ", "\n\t", "", "\u3000", "b"]
    source, output = write(tmp_path / "in.jsonl", texts), tmp_path / "out.npy"
    estimate = estimated(source, output, input_type, empty=empty)
    report = embedded(server, source, output, input_type, empty=empty)
    rejected = 0 if (empty, input_type) == ("zero", "document") else 4
    assert (report.embedded, report.rejected, estimate.rejected) == (6 - rejected, rejected, rejected)
    found = np.load(output)
    assert found[[0, 5]].tolist() == [vector("a", input_type), vector("b", input_type)]
    assert np.array_equal(found[1:5], np.full((4, DIMENSION), np.nan if rejected else 0), equal_nan=True)
    if rejected:
        told = [orjson.loads(line) for line in (tmp_path / "out.npy.rejected.jsonl").read_bytes().splitlines()]
        assert [one["row"] for one in told] == [1, 2, 3, 4]
        assert told[0]["message"] == "The text is empty (white space alone), and the service takes no empty text."


# --- what ends it is told in rows ---


def test_a_full_disk_is_told_with_what_is_done(
    server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the system's; what is kept, and what to do, is said beside it."""
    source, output = write(tmp_path / "in.jsonl", TEXTS), tmp_path / "out.npy"
    monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
    writes = iter(range(2))

    def full(original: Any) -> Any:
        def write_or_fail(*args: Any) -> None:
            if next(writes, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            original(*args)

        return write_or_fail

    command = ["embed", str(source), "-o", str(output), "--endpoint", server.url, "--model", MODEL, "--dimension", "4"]
    with monkeypatch.context() as patched:
        patched.setattr(vectors, "_write", full(vectors._write))
        failed = run(*command, "--qps", "20")
    assert failed.exit_code == 1
    assert "No space left on device" in failed.stderr
    assert "32 of 70 rows are done, and kept in" in failed.stderr
    assert ".completed" not in failed.stderr
    assert run(*command).exit_code == 0
    assert np.load(output).tolist() == [vector(text) for text in TEXTS]


def test_who_has_read_enough_of_a_search_is_told_nothing(server: RawServer, tmp_path: Path) -> None:
    """`search … | head -1` ends in silence."""
    output = tmp_path / "out.parquet"
    embedded(server, write(tmp_path / "in.jsonl", TEXTS * 300), output)
    command = [sys.executable, "-m", "opensearch_embed", "search", str(output), "text", "-k", "20000"]
    environment = {**os.environ, "OPENSEARCH_ENDPOINT": server.url, "OPENSEARCH_API_KEY": KEY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


# --- what comes after the end ---


@pytest.mark.parametrize("refused", [False, True])
def test_what_comes_after_the_end_is_not_written(refused: bool, tmp_path: Path) -> None:
    """A request that was under way at Ctrl-C ends when the files are closed, and their numbers are other files'."""
    rows = np.ones((32, DIMENSION), np.float32)
    for attempt in range(30):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        kept = vectors.Vectors(folder, DIMENSION)
        go = threading.Event()

        def late(kept: vectors.Vectors = kept, go: threading.Event = go) -> None:
            go.wait()
            for first in range(0, 3200, 32):
                if refused:
                    kept.refuse(range(first, first + 32), InvalidRequest("No."))
                else:
                    kept.put(range(first, first + 32), rows)

        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(late) for _ in range(4)]
            go.set()
            kept.close()
            with contextlib.ExitStack() as stack:
                others = [stack.enter_context((folder / f"other{number}").open("wb")) for number in range(8)]
                for one in running:
                    one.result()
                assert [os.fstat(file.fileno()).st_size for file in others] == [0] * 8
        kept.close()


# --- search ---


def test_every_kind_of_string_is_shown(server: RawServer, tmp_path: Path) -> None:
    """Also where the column is a view of strings, which Arrow cannot take rows from."""
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"text": pa.array(["a", "b"], pa.string_view())}), source)
    embedded(server, source, output)
    with EmbeddingClient(**settings_for(server.url)) as client:
        assert {hit.value for hit in search_file(output, "a", client=client, k=2)} == {"a", "b"}


def test_what_is_searched_is_parquet(server: RawServer, tmp_path: Path) -> None:
    """Another form that was written here says what is missing."""
    output = tmp_path / "out.npy"
    embedded(server, write(tmp_path / "in.jsonl", TEXTS), output)
    shutil.copy(output, tmp_path / "out.parquet")
    with EmbeddingClient(**settings_for(server.url)) as client:
        for path in (output, tmp_path / "out.parquet"):
            with pytest.raises(OpenSearchEmbedError, match="as Parquet, which is what is searched"):
                list(search_file(path, "a", client=client))


@pytest.mark.parametrize("name", FORMS)
def test_a_file_is_written_where_no_thread_is_to_be_had(
    name: str, server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the one that there is: the same bytes; and an error is told as ever."""
    source = write(tmp_path / "one.jsonl", TEXTS)
    embedded(server, source, tmp_path / f"with-{name}")
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("opensearch-embed"):  # and not the server's
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert embedded(server, source, tmp_path / f"without-{name}").embedded == 70
    assert (tmp_path / f"with-{name}").read_bytes() == (tmp_path / f"without-{name}").read_bytes()
    with RawServer(default=refuse(401, "Unauthorized")) as other, pytest.raises(AuthenticationError):
        embedded(other, source, tmp_path / f"never-{name}")
