"""A run over a file that is broken off goes on: nothing is paid twice, and the output is that of an undisturbed run."""

import json
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from interfaces import settings_for
from servers import DIMENSION, Connection, RawRequest, RawServer, honest, refuse, vector

from opensearch_embed import AuthenticationError, ConfigurationError, EmbeddingClient
from opensearch_embed.bulk import Report, embed_file

ROWS = 1500
KILLS_OF_A_FORM = 10
UNDER_WAY = 4
"""Requests at once, of the runs that are killed: what a kill may cost."""


def refuse_some(connection: Connection, request: RawRequest) -> None:
    """Answer honestly, but refuse texts that say so; a moment later, so that requests are under way."""
    threading.Event().wait(0.002)
    bad = any("refuse" in text for text in request.json["input"])
    (refuse(400, "InvalidParameter", "not this one") if bad else honest)(connection, request)


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that refuses some texts."""
    with RawServer(default=refuse_some) as running:
        yield running


def texts_of(rows: int = ROWS) -> list[str | None]:
    """Return texts of which some are missing, empty, or to be refused."""
    odd = {7: None, 300: "", 500: "refuse this"}
    return [odd.get(i % 700, f"text {i}") for i in range(rows)]


def write_input(path: Path, rows: int = ROWS) -> Path:
    """Write a Parquet file with a few columns."""
    pq.write_table(pa.table({"id": range(rows), "text": texts_of(rows)}), path)
    return path


def paid(server: RawServer) -> Counter[str]:
    """Count the texts that were paid for, by text; a request that is refused costs nothing."""
    sent = [request.json["input"] for request in server.requests]
    return Counter(text for texts in sent if not any("refuse" in text for text in texts) for text in texts)


def content(output: Path) -> tuple[bytes, bytes]:
    """Return what a run has written."""
    return output.read_bytes(), output.with_name(f"{output.name}.rejected.jsonl").read_bytes()


class Victim:
    """A process whose children embed a file, and are killed."""

    def __init__(self, server: RawServer, source: Path, output: Path) -> None:
        settings = settings_for(server.url, qps=400.0, max_concurrency=UNDER_WAY)
        job = {"source": str(source), "output": str(output), "settings": settings}
        command = [sys.executable, str(Path(__file__).with_name("bulk_victim.py")), json.dumps(job)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, seconds: float = 60.0) -> int:
        """Run once, for so many seconds at most, and return the exit code: -9 after a kill."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def __enter__(self) -> "Victim":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


@pytest.fixture
def undisturbed(server: RawServer, tmp_path: Path) -> Any:
    """Return a function that runs once, undisturbed, and returns what was written, and its seconds."""

    def run(source: Path, form: str) -> tuple[tuple[bytes, bytes], float]:
        output = tmp_path / f"undisturbed.{form}"
        with Victim(server, source, output) as victim:
            start = time.monotonic()
            assert victim.run() == 0
            seconds = time.monotonic() - start
        assert not output.with_name(f"{output.name}.parts").exists()
        server.requests.clear()
        return content(output), seconds

    return run


@pytest.mark.parametrize("form", ["parquet", "jsonl", "npy"])
def test_killed_at_any_moment_it_goes_on(form: str, server: RawServer, tmp_path: Path, undisturbed: Any) -> None:
    """Killed with `kill -9` at random moments, it pays for what was under way again, and for nothing else."""
    source = write_input(tmp_path / "in.parquet")
    wanted, seconds = undisturbed(source, form)
    output = tmp_path / f"out.{form}"
    chance = random.Random(form)
    killed = 0
    with Victim(server, source, output) as victim:
        for attempt in range(KILLS_OF_A_FORM + 1):
            # The last one is left alone.
            code = victim.run(chance.uniform(0.0, seconds) if attempt < KILLS_OF_A_FORM else 60.0)
            assert code in (0, -9)
            if code:
                killed += 1
                continue
            assert content(output) == wanted
            assert not output.with_name(f"{output.name}.parts").exists()
            # Everything was paid once, and what was under way at each kill perhaps once more.
            sent = paid(server)
            assert len(sent) == sum(1 for text in texts_of() if text and "refuse" not in text)
            assert sent.total() - len(sent) <= killed * UNDER_WAY * 32
            output.unlink()
            killed = 0
            server.requests.clear()


def run(server: RawServer, source: Any, output: Path, **options: Any) -> Report:
    """Run in this process."""
    with EmbeddingClient(**settings_for(server.url)) as client:
        return embed_file(source, output, client=client, **options)


def broken_off(server: RawServer, source: Path, output: Path) -> None:
    """Run until the server refuses the key, after some requests."""
    left = iter(range(10))
    server._default = lambda c, r: refuse_some(c, r) if next(left, None) is not None else refuse(401)(c, r)
    with pytest.raises(AuthenticationError, match="401") as caught:
        run(server, source, output)
    assert "run the same again" in " ".join(caught.value.__notes__)
    assert not output.exists()
    server._default = refuse_some


@pytest.mark.parametrize("damage", ["torn vectors", "torn marks", "flipped", "torn refusals", "no manifest", "garbage"])
def test_damaged_parts_cost_what_was_damaged(damage: str, server: RawServer, tmp_path: Path) -> None:
    """What is torn or flipped in the unfinished work is seen, and embedded again."""
    source, output, parts = write_input(tmp_path / "in.parquet"), tmp_path / "out.npy", tmp_path / "out.npy.parts"
    broken_off(server, source, output)
    vectors, marks, refusals = parts / "vectors", parts / "marks", parts / "refused.jsonl"
    kept = np.count_nonzero(np.fromfile(marks, np.uint32))
    if damage == "torn vectors":
        os.truncate(vectors, vectors.stat().st_size // 2)
    elif damage == "torn marks":
        os.truncate(marks, marks.stat().st_size // 2 + 1)
    elif damage == "flipped":
        data = bytearray(vectors.read_bytes())
        data[128] ^= 1
        vectors.write_bytes(data)
    elif damage == "torn refusals":
        refusals.write_bytes(refusals.read_bytes() + b'{"row": 8')
    elif damage == "no manifest":
        (parts / "manifest.json").unlink()
    else:
        (parts / "manifest.json").write_bytes(b"{")
    server.requests.clear()
    report = run(server, source, output)
    rows = np.load(output)
    for row, text in enumerate(texts_of()):
        if text and "refuse" not in text:
            assert rows[row].tolist() == vector(text)
        else:
            assert np.isnan(rows[row]).all()
    assert (report.rows, report.rejected) == (ROWS, sum(1 for t in texts_of() if not t or "refuse" in t))
    if damage in ("flipped", "torn refusals"):
        fit = sum(1 for text in texts_of() if text and "refuse" not in text)
        assert 0 < kept == fit - paid(server).total() + (damage == "flipped")


def test_an_error_keeps_what_is_done(server: RawServer, tmp_path: Path) -> None:
    """After a fatal error, the same call goes on where it was, and the output is the same as without it."""
    source, output = write_input(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    broken_off(server, source, output)
    kept = np.count_nonzero(np.fromfile(tmp_path / "out.parquet.parts" / "marks", np.uint32))
    server.requests.clear()
    run(server, source, output)
    wanted = sum(1 for text in texts_of() if text and "refuse" not in text)
    assert 0 < kept == wanted - paid(server).total()
    run(server, source, tmp_path / "other.parquet")
    assert content(output) == content(tmp_path / "other.parquet")


def test_what_is_finished_is_not_done_again(server: RawServer, tmp_path: Path) -> None:
    """The same call on a finished output sends nothing, and reports what is there."""
    source, output = write_input(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    first = run(server, source, output)
    server.requests.clear()
    again = run(server, source, output)
    assert server.requests == []
    assert (again.rows, again.embedded, again.rejected) == (first.rows, first.embedded, first.rejected)
    assert again.requests == 0


@pytest.mark.parametrize("form", ["parquet", "npy"])
def test_killed_between_the_last_steps(form: str, server: RawServer, tmp_path: Path, monkeypatch: Any) -> None:
    """Where all is written and not yet all in its place, the next call only puts it there."""
    from opensearch_embed.bulk import parts

    source, output = write_input(tmp_path / "in.parquet"), tmp_path / f"out.{form}"
    for step in ("move", "remove"):
        original = getattr(parts, step)

        def interrupt(*paths: Path, original: Any = original) -> None:
            if paths[-1] in (output, output.with_name(f"{output.name}.parts")):
                raise KeyboardInterrupt
            original(*paths)

        with monkeypatch.context() as patched:
            patched.setattr(parts, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(server, source, output)
        server.requests.clear()
        report = run(server, source, output)
        assert server.requests == []
        assert report.rows == ROWS
        wanted = content(output)
        assert not output.with_name(f"{output.name}.parts").exists()
        output.unlink()
    run(server, source, output)
    assert content(output) == wanted


@pytest.mark.parametrize("change", ["input", "setting", "column"])
def test_a_change_stops_it(change: str, server: RawServer, tmp_path: Path) -> None:
    """Unfinished work of another input or other settings is told, and not gone on with; `restart` begins anew."""
    source, output = write_input(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    broken_off(server, source, output)
    server.requests.clear()
    options: dict[str, Any] = {}
    if change == "input":
        write_input(source, ROWS + 1)
    elif change == "setting":
        options["input_type"] = "query"
    else:
        options["output_column"] = "vector"
    with pytest.raises(ConfigurationError, match=r"has changed: (the input|input_type|output_column).*--restart"):
        run(server, source, output, **options)
    assert server.requests == []
    report = run(server, source, output, **options, restart=True)
    assert report.requests > 0
    assert pq.read_metadata(output).num_rows == report.rows


def test_a_finished_output_of_another_input_is_not_overwritten(server: RawServer, tmp_path: Path) -> None:
    """An output that something else was written to is only replaced when that is asked for."""
    source, output = write_input(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    run(server, source, output)
    before = content(output)
    write_input(source, ROWS + 1)
    with pytest.raises(ConfigurationError, match=r"is there already, and .*--restart"):
        run(server, source, output)
    assert content(output) == before
    run(server, source, output, restart=True)
    assert pq.read_metadata(output).num_rows == ROWS + 1


def test_two_at_once(server: RawServer, tmp_path: Path) -> None:
    """The second on one output says so, and disturbs nothing."""
    source, output = write_input(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    arrived, go = threading.Event(), threading.Event()

    def hold(connection: Connection, request: RawRequest) -> None:
        arrived.set()
        go.wait()
        refuse_some(connection, request)

    server._default = hold
    first = threading.Thread(target=run, args=(server, source, output))
    first.start()
    try:
        assert arrived.wait(20)
        with pytest.raises(ConfigurationError, match="Another process"):
            run(server, source, output)
    finally:
        go.set()
        first.join()
    assert pq.read_metadata(output).num_rows == ROWS


@pytest.mark.parametrize("form", ["parquet", "jsonl", "npy"])
def test_a_full_disk(form: str, server: RawServer, tmp_path: Path) -> None:
    """Where no more can be written, that is the error; with room again, it goes on."""
    source, output = write_input(tmp_path / "in.parquet"), tmp_path / f"out.{form}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run(server, source, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not output.exists()
    before = paid(server)
    server.requests.clear()
    run(server, source, output)
    assert before
    twice = before & paid(server)
    assert len(twice) < len(before)
    run(server, source, tmp_path / f"other.{form}")
    assert content(output) == content(tmp_path / f"other.{form}")


def test_what_came_on_stdin_goes_on(server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lines on stdin go on with what they began; other lines are told."""

    def run_with(lines: str) -> Report:
        file = tmp_path / "stdin"
        file.write_text(lines)
        with file.open() as stdin, monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", stdin)
            return run(server, "-", tmp_path / "out.npy", format="txt")

    lines = "".join(f"text {i}\n" for i in range(ROWS))
    server._default = refuse(401)
    with pytest.raises(AuthenticationError):
        run_with(lines)
    server._default = refuse_some
    with pytest.raises(ConfigurationError, match="has changed: the input"):
        run_with(lines + "one more\n")
    assert run_with(lines).embedded == ROWS
    assert np.load(tmp_path / "out.npy").shape == (ROWS, DIMENSION)


def test_the_benchmark_with_kills(tmp_path: Path) -> None:
    """A small version of the million rows: through the command line, killed, the same bytes; the script checks it."""
    command = [sys.executable, "-m", "benchmarks.files", "--rows", "2000", "--kills", "2", "--dimension", "64"]
    options = ["--qps", "0", "--latency-ms", "0", "--folder", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\| (\w+) +\| 2,000 ", done.stdout, re.MULTILINE) == ["undisturbed", "killed"]
