"""The commands that work on files, and `check --probe`: what they print, and their exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from interfaces import MODEL
from servers import DIMENSION, RawServer, honest, refuse
from test_cli import run, run_without

from opensearch_embed.bulk import Progress
from opensearch_embed.cli.progress import duration, line, progress_shown
from opensearch_embed.emulator import Emulator

KEY = "OS-a-key-that-nobody-may-see"


@pytest.fixture
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator of the nature that is asked for, and settings for it."""
    with Emulator(api_key=KEY, **getattr(request, "param", {})) as running:
        monkeypatch.setenv("OPENSEARCH_ENDPOINT", running.url)
        monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
        yield running


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small corpus, in the current folder."""
    monkeypatch.chdir(tmp_path)
    texts = ["Sourdough rises by wild yeast.", "Venice stands on wooden piles.", "Tulips were dear."]
    path = Path("corpus.jsonl")
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def facts(printed: str) -> dict[str, str]:
    """Return the lines of a table."""
    return dict(re.findall(r"^(\w[\w ]*?)  +(\S.*)$", printed, re.MULTILINE))


def test_a_corpus_in_a_question_answered(corpus: Path, emulator: Emulator) -> None:
    """Embedded, searched, and again for programs; the summary says what to do next."""
    result = run("embed", str(corpus), "--output", "out.parquet")
    assert (result.exit_code, result.stderr) == (0, "")
    told = facts(result.stdout)
    assert (told["rows"], told["embedded"], told["rejected"], told["output"]) == ("3", "3", "0", "out.parquet")
    assert (told["requests"], told["tokens"]) == ("1", str(emulator.usage.tokens))
    assert result.stdout.splitlines()[-1] == 'Next: opensearch-embed search out.parquet "a question"'
    result = run("search", "out.parquet", "sourdough yeast", "-k", "2")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert re.fullmatch(r" 0\.\d{3}  Sourdough rises by wild yeast\.", first)
    assert float(first.split()[0]) > float(second.split()[0])
    assert emulator.requests[-1].body["input_type"] == "query"
    result = run("search", "out.parquet", "sourdough yeast", "-k", "2", "--json")
    hits = [json.loads(text) for text in result.stdout.splitlines()]
    assert [set(hit) for hit in hits] == [{"row", "score", "text"}] * 2
    assert (hits[0]["row"], hits[0]["text"]) == (0, "Sourdough rises by wild yeast.")
    again = run("embed", str(corpus), "--output", "out.parquet")
    assert (again.exit_code, facts(again.stdout)["kept"]) == (0, "3 rows that were done before")


@pytest.mark.usefixtures("emulator")
def test_a_long_text_is_shortened(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is no longer than the terminal, and has no line ends."""
    monkeypatch.setenv("COLUMNS", "40")
    corpus.write_text(json.dumps({"text": "word\n" * 100}) + "\n")
    run("embed", str(corpus), "--output", "out.parquet")
    printed = run("search", "out.parquet", "word").stdout
    assert printed.endswith("…\n")
    assert len(printed) <= 41
    assert printed.count("\n") == 1


@pytest.mark.usefixtures("emulator")
def test_rejected_rows_are_exit_code_3(corpus: Path) -> None:
    """Done with rejected rows is 3, and the summary says where they are told; quiet says nothing."""
    corpus.write_text('{"text": "a"}\n{"text": ""}\n')
    result = run("embed", str(corpus), "--output", "out.npy")
    assert result.exit_code == 3
    assert facts(result.stdout)["rejected"] == "1, told in out.npy.rejected.jsonl"
    result = run("embed", str(corpus), "--output", "other.npy", "--quiet")
    assert (result.exit_code, result.output) == (3, "")


def test_a_dry_run_sends_nothing(corpus: Path, emulator: Emulator) -> None:
    """Rows, tokens, requests and time; nothing is written."""
    result = run("embed", str(corpus), "--output", "out.npy", "--dry-run", "--qps", "0.5")
    assert result.exit_code == 0
    told = facts(result.stdout)
    assert (told["rows"], told["requests"]) == ("3", "1")
    assert told["time"] == "2 s at 0.5 requests a second"
    assert re.fullmatch(r"about \d+", told["tokens"])
    assert emulator.requests == []
    assert list(Path().iterdir()) == [corpus]


def test_a_dry_run_needs_no_account(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has neither endpoint nor key yet learns what it would take, in words for any length of time."""
    for name in ("OPENSEARCH_ENDPOINT", "OPENSEARCH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    result = run("embed", str(corpus), "--dry-run", "--qps", "0.0001")
    assert result.exit_code == 0
    assert facts(result.stdout)["time"] == "2 h 47 min at 0.0001 requests a second"


def test_what_is_done_is_told(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error, a dry run after it, and the run that goes on: all speak of rows, and of what need not be sent."""
    corpus.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(96)))
    command = ["embed", str(corpus), "--output", "out.npy", "--model", MODEL, "--dimension", str(DIMENSION)]
    with RawServer(honest, honest, refuse(404, "ServiceIdNotExist")) as server:
        monkeypatch.setenv("OPENSEARCH_ENDPOINT", server.url)
        monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
        failed = run(*command, "--qps", "20")
        dry = facts(run(*command, "--dry-run").stdout)
        done = facts(run(*command).stdout)
    assert failed.exit_code == 1
    assert "64 of 96 rows are done, and kept in out.npy.parts: run the same again" in failed.stderr
    assert "texts[" not in failed.stderr
    assert ".completed" not in failed.stderr
    assert (dry["rows"], dry["kept"], dry["requests"]) == ("96", "64 rows that are done already", "1")
    assert (done["embedded"], done["kept"], done["requests"]) == ("96", "64 rows that were done before", "1")
    corpus.write_text('{"text": "another"}\n')
    assert "kept" not in facts(run(*command, "--dry-run").stdout)


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["embed", "corpus.jsonl"], "--output"),
        (["embed", "corpus.jsonl", "--output", "out.csv"], "must end in"),
        (["embed", "nope.jsonl", "--output", "out.npy"], "is not there"),
        (["embed", "corpus.jsonl", "--output", "out.npy", "--column", "x"], "no column 'x'"),
        (["embed", "corpus.jsonl", "--output", "out.npy", "--model", "x"], "--dimension"),
        (["embed", "corpus.jsonl", "--output", "out.npy", "--overflow", "x"], "--overflow"),
        (["search", "nope.parquet", "x"], "is not there"),
        (["search", "corpus.jsonl", "x"], "cannot be read as Parquet"),
    ],
)
def test_a_wrong_option_is_exit_code_2(arguments: list[str], said: str, corpus: Path) -> None:
    """What the user can mend is 2, and named."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert list(Path().iterdir()) == [corpus]


def test_a_failure_is_exit_code_1(corpus: Path, emulator: Emulator) -> None:
    """What the service says is 1; what is done is kept, and the same command goes on."""
    emulator.fail_next(401, message=KEY)
    result = run("embed", str(corpus), "--output", "out.npy")
    assert result.exit_code == 1
    assert "AuthenticationError" in result.stderr
    assert "run the same again" in result.stderr
    assert KEY not in result.output
    assert run("embed", str(corpus), "--output", "out.npy").exit_code == 0
    assert sorted(path.name for path in Path().iterdir()) == ["corpus.jsonl", "out.npy", "out.npy.made.json"]


def test_ctrl_c_is_exit_code_130(corpus: Path, emulator: Emulator) -> None:
    """Ctrl-C ends it at once, and the same command goes on."""
    corpus.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(200)))
    emulator.break_next("hang")
    command = [sys.executable, "-m", "opensearch_embed", "embed", str(corpus), "--output", "out.parquet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        emulator.wait_for_requests(1, timeout=30)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted" in printed
    assert "Traceback" not in printed
    assert not Path("out.parquet").exists()
    assert run("embed", str(corpus), "--output", "out.parquet").exit_code == 0
    assert pq.read_metadata("out.parquet").num_rows == 200


def test_without_pyarrow_it_says_what_to_install(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `bulk`, the commands say how to get it."""
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", "localhost")
    monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
    for arguments in (("embed", str(corpus), "--output", "out.npy"), ("search", "x.parquet", "x")):
        result = run_without("pyarrow", *arguments)
        assert result.returncode == 2
        assert 'pip install "opensearch-embed[bulk]"' in result.stderr
        assert "Traceback" not in result.stderr


# --- progress ---


def test_a_line_of_progress() -> None:
    """A log is told rows, rate, tokens, retries and the time left; what was there before counts for no rate."""
    progress = Progress(rows=1000, done=600, found=200, tokens=12_345, retries=1, seconds=4.0)
    assert line(progress) == "600 of 1,000 rows, 100 texts/s, 12,345 tokens, 1 retries, 4 s left"
    assert line(Progress(10, 0, 0, 0, 0, 0.0)).endswith("time left unknown")
    assert line(progress, since=600).endswith("1 retries, none done since the last line")
    assert line(replace(progress, rejected=7)).startswith("600 of 1,000 rows, 7 rejected, 100 texts/s")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (0.2, "1 s"), (119.5, "120 s"), (121, "3 min"), (7199, "2 h 0 min"), (360_000, "100 h 0 min")],
)
def test_a_span_of_time(seconds: float, said: str) -> None:
    """Seconds, minutes or hours, rounded up."""
    assert duration(seconds) == said


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal there is a bar, in a log none so soon, and nothing where it is to be quiet."""
    progress: Any = Progress(rows=1000, done=600, found=200, tokens=12_345, retries=1, seconds=4.0)
    with progress_shown(quiet=True) as show:
        assert show is None
    with progress_shown(quiet=False) as show:
        assert show is not None
        show(progress)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    with progress_shown(quiet=False) as show:
        assert show is not None
        show(progress)
    printed = capsys.readouterr().err
    assert "600/1000" in printed
    assert "12,345 tokens, 1 retries" in printed


def test_a_file_is_searched_with_its_model(corpus: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment names; another model that is asked for is refused."""
    assert run("embed", str(corpus), "--output", "out.parquet", "--model", "ops-text-embedding-001").exit_code == 0
    monkeypatch.setenv("OPENSEARCH_MODEL", "ops-text-embedding-002")
    assert run("search", "out.parquet", "tea", "-k", "1").exit_code == 0
    assert "ops-text-embedding-001" in emulator.requests[-1].path
    refused = run("search", "out.parquet", "tea", "--model", "ops-text-embedding-002")
    assert refused.exit_code == 2
    assert "Say --model ops-text-embedding-001" in refused.stderr.replace("=", " ")


def test_a_file_is_searched_with_its_model_that_is_not_in_the_catalogue(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file names its dimension, too."""
    with Emulator(vectors="lexical", models={"mine": 513}) as emulator:
        monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
        monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)
        assert run("embed", str(corpus), "-o", "out.parquet", "--model", "mine", "--dimension", "513").exit_code == 0
        assert run("search", "out.parquet", "tea", "-k", "1").exit_code == 0


# --- probe ---


@pytest.mark.parametrize(
    ("emulator", "found", "settings"),
    [
        ({}, ["unit length", "32 texts", "are read beyond 8,192"], "the defaults"),
        ({"unit_length": False}, ["by cosine, not dot"], "the defaults"),
        ({"max_texts": 10}, ["10 texts in one request at most"], "batch_size=10"),
        ({"max_texts": 1}, ["1 texts in one request at most"], "batch_size=1"),
        ({"long_texts": "truncate"}, ["are cut"], "overflow='average'"),
        ({"long_texts": "refuse"}, ["are refused"], "overflow='truncate'"),
        ({"latency_ms": 80}, [r"(8|9|1\d)\d ms"], "the defaults"),
    ],
    indirect=["emulator"],
)
def test_the_probe_finds_what_the_service_does(emulator: Emulator, found: list[str], settings: str) -> None:
    """Each nature of the emulator is found, with a few requests that are announced, and the settings for it."""
    result = run("check", "--probe")
    assert result.exit_code == 0, result.output
    announced, told = result.stdout.split("Found:")
    assert announced.count("\n- ") == 4
    assert [what for what in found if not re.search(what, told)] == []
    assert settings in told.split("Settings to use:")[1]
    assert len(emulator.requests) <= 16
    assert f"{len(emulator.requests) - 1} requests" in told
    assert KEY not in result.output


def test_a_probe_that_fails_says_so(emulator: Emulator) -> None:
    """What goes wrong on the way is told as `check` tells it."""
    with pytest.MonkeyPatch.context() as patched:
        original = Emulator.requests
        assert original is not None
        patched.setenv("OPENSEARCH_MODEL", "ops-text-embedding-001")
        emulator.fail_next(200, body="{}")
        result = run("check", "--probe")
    assert result.exit_code == 1
    assert "ResponseError" in result.stderr
