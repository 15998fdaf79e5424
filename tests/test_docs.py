"""The docs cannot drift: tables are rebuilt from the code, examples are run, commands are described, links lead on."""

import ast
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any, get_args

import ha3engine
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import DEFAULT_MODEL, MODELS, EmbeddingClient, OpenSearchEmbedError, __version__, errors, settings
from opensearch_embed._dispatch.retry import is_retried
from opensearch_embed.cli import app
from opensearch_embed.emulator import NOTICE, Emulator
from opensearch_embed.emulator.faults import BreakKind

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "README.zh-CN.md", "SECURITY.md", "benchmarks/README.md")
MARKDOWN = [*PAGES, *(ROOT / name for name in OUTSIDE)]
PACKAGES = ("opensearch_embed", "langchain_opensearch_embed", "llama_index_opensearch_embed")

NOTES = {
    "bread.md": "Sourdough rises by wild yeast, overnight.",
    "empty.md": " \n",
    "tea.md": "Green tea is steeped at 80 °C, for two minutes.",
    "venice.md": "Venice stands on wooden piles.",
}

# A mark, if any; a block; what it prints, if anything.
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<excuse>[^\n]+) -->\n)?(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$"
    r"(?:\n\n(?P=indent)```text\n(?P<output>.*?)^(?P=indent)```$)?",
    re.MULTILINE | re.DOTALL,
)

# A file that a page shows, so that the blocks after it can read it.
FILE = re.compile(r"^<!-- file: (?P<name>\S+) -->\n```\w+\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    output: str
    excuse: str | None


def blocks(page: Path, language: str) -> list[Block]:
    """Return the blocks in one language, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text[: found.start("code")].count("\n"),
            found["language"],
            textwrap.dedent(found["code"]),
            textwrap.dedent(found["output"] or ""),
            found["excuse"],
        )
        for found in FENCE.finditer(text)
        if found["language"] == language
    ]


def files(page: Path) -> dict[str, str]:
    """Return the files that a page shows, by their names."""
    return {found["name"]: found["content"] for found in FILE.finditer(page.read_text(encoding="utf-8"))}


def table(page: str, first_heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(rf"\| {re.escape(first_heading)} *\|", line))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def prints(block: Block, got: str) -> None:
    """Compare what was printed with what the page shows: lines may be broken, and "..." stands for anything."""
    flags = ELLIPSIS | NORMALIZE_WHITESPACE
    place = f"{block.page.name}, line {block.line}"
    assert OutputChecker().check_output(block.output, got, flags), f"{place}: shown\n{block.output}\nprinted\n{got}"


# --- tables and the code ---


@pytest.mark.parametrize(("page", "heading"), [("README.md", "model"), ("docs/integrations/llama-index.md", "Model")])
def test_the_model_table_is_the_catalogue(page: str, heading: str) -> None:
    """The README lists every model, with the catalogue's figures; so does the page for LlamaIndex's documentation."""
    assert table(page, heading) == [
        [
            f"`{spec.service_id}`" + (" (default)" if spec.service_id == DEFAULT_MODEL else ""),
            str(spec.dimension),
            f"{spec.max_input_tokens:,}",
            spec.languages,
        ]
        for spec in MODELS.values()
    ]


def shown(value: Any) -> str:
    """Return a default as the table writes it."""
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value:g}`" if isinstance(value, float) else f"`{value!r}`"


def test_the_settings_table_is_the_signature() -> None:
    """The README lists every argument of the client, in its order, with its default."""
    arguments = list(inspect.signature(EmbeddingClient).parameters.values())
    resolved = settings.resolve_settings(endpoint="api.example.com", api_key="OS-x")
    defaults = {argument.name: shown(argument.default) for argument in arguments}
    defaults |= {
        "model": f"`{resolved.model.service_id}`",
        "workspace": f"`{resolved.workspace}`",
        "endpoint": "required",
        "api_key": "required",
    }
    rows = [(name, default) for name, _, default, _ in table("README.md", "argument")]
    assert rows == [(f"`{name}`", default) for name, default in defaults.items()]


def test_the_adapters_take_what_the_table_lists() -> None:
    """Both adapters have these arguments, by these names, and those that the README says they have besides."""
    names = {row[0].strip("`") for row in table("README.md", "argument")}
    assert OpenSearchEmbeddings.model_fields.keys() == names | {"show_progress_bar"}
    assert OpenSearchEmbedding.model_fields.keys() >= names - {"model"} | {"model_name", "embed_batch_size"}
    assert OpenSearchEmbedding.model_fields["embed_batch_size"].default == 1024


def test_the_settings_table_has_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each variable of the table sets its argument, and `settings` reads no other of ours."""
    (tmp_path / "certificates.pem").touch()
    values = {
        "endpoint": "https://api.example.com",
        "api_key": "OS-x",
        "workspace": "mine",
        "model": "ops-text-embedding-001",
        "ca_bundle": str(tmp_path / "certificates.pem"),
        "proxy": "http://proxy.example.com:3128",
    }
    read = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in table("README.md", "argument")}
    read = {name: variables for name, variables in read.items() if variables}
    assert read.keys() == values.keys()
    read["proxy"].remove("NO_PROXY")
    needed = {"OPENSEARCH_ENDPOINT": values["endpoint"], "OPENSEARCH_API_KEY": values["api_key"]}
    for name, variables in read.items():
        for variable in variables:
            with monkeypatch.context() as environment:
                for key, value in (needed | {variable: values[name]}).items():
                    environment.setenv(key, value)
                resolved = settings.resolve_settings()
                found = {"model": resolved.model.service_id, "api_key": resolved.api_key.get_secret_value()}
                assert found.get(name, getattr(resolved, name)) == values[name]
    ours = {variable for variables in read.values() for variable in variables if variable.startswith("OPENSEARCH")}
    assert ours == set(re.findall(r'"(OPENSEARCH_\w+)"', inspect.getsource(settings)))


def tree(kind: type[OpenSearchEmbedError] = OpenSearchEmbedError) -> Iterator[type[OpenSearchEmbedError]]:
    """Yield the classes of the error tree, as defined."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def test_the_error_page_is_the_tree() -> None:
    """docs/errors.md draws the tree as the code does, and its table has each error, and whether it is retried."""
    drawn = (errors.__doc__ or "").split("\n\n")[1]
    assert blocks(ROOT / "docs" / "errors.md", "text")[0].code.strip() == drawn
    rows = {row[0].strip("`"): row[2] for row in table("docs/errors.md", "error")}
    kinds = [kind for kind in tree() if kind is not OpenSearchEmbedError]
    assert list(rows) == sorted(rows, key=[kind.__name__ for kind in kinds].index)
    assert rows == {kind.__name__: "yes" if is_retried(kind()) else "no" for kind in kinds}


def test_the_design_page_has_every_file() -> None:
    """docs/design.md lists each module under its package, and no other."""
    listed: dict[str, set[str]] = {}
    package = ""
    for name, _ in table("docs/design.md", "file"):
        if name.startswith("**"):
            package = name.strip("*")
        else:
            listed.setdefault(package, set()).update(re.findall(r"`(\S+)`", name))
    there: dict[str, set[str]] = {}
    for root in PACKAGES:
        for file in (ROOT / root).rglob("*.py"):
            there.setdefault(file.parent.relative_to(ROOT).as_posix(), set()).add(file.name)
    assert listed == there


def test_the_emulator_page_has_every_break_and_argument() -> None:
    """docs/emulator.md lists each kind of break, each option of the command, and names each argument."""
    assert [row[0].strip("`") for row in table("docs/emulator.md", "kind")] == list(get_args(BreakKind))
    page = (ROOT / "docs" / "emulator.md").read_text(encoding="utf-8")
    names = inspect.signature(Emulator).parameters.keys() - {"seed", "keep_requests", "port", "api_key"}
    assert [name for name in sorted(names) if not re.search(rf"`{name}\b", page)] == []


def test_the_changelog_has_this_version() -> None:
    """The newest release of the changelog is the package's version."""
    releases = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert releases[0] == __version__


# --- examples ---


@pytest.fixture
def reader(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a reader has: the two variables set, and a directory to write into, with a small corpus and a few notes."""
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
    monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)
    monkeypatch.chdir(tmp_path)
    texts = ("Sourdough rises by wild yeast.", "Venice stands on wooden piles.", "青蒿素可以治疗疟疾。")
    lines = (json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "notes").mkdir()
    for name, text in NOTES.items():
        (tmp_path / "notes" / name).write_text(text, encoding="utf-8")
    with ha3engine.installed():
        yield
    if "llama_index.core" in sys.modules:
        sys.modules["llama_index.core"].Settings._embed_model = None
    if "chromadb" in sys.modules:
        # It keeps what it has opened by relative path, whatever the directory is.
        sys.modules["chromadb"].api.shared_system_client.SharedSystemClient.clear_system_cache()


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """An emulator. The README's Python shows scores, so it needs vectors that know meaning; all else needs speed."""
    scores = request.node.originalname == "test_the_python_examples_print_what_they_show"
    with Emulator(
        vectors="semantic" if scores and request.node.callspec.params["page"] == PAGES[0] else "lexical"
    ) as it:
        yield it


@by_page
@pytest.mark.usefixtures("reader")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # short examples close nothing
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
def test_the_python_examples_print_what_they_show(page: Path) -> None:
    """Each block runs after the blocks before it on its page, and prints what the page shows below it."""
    scope: dict[str, Any] = {"__name__": "__main__", "EmbeddingClient": EmbeddingClient}
    environment = dict(os.environ)
    for name, content in files(page).items():
        Path(name).write_text(content, encoding="utf-8")
    try:
        for block in blocks(page, "python"):
            source = "\n" * block.line + block.code
            code = compile(source, page, "exec")
            if block.excuse is None:
                out = io.StringIO()
                with redirect_stdout(out), redirect_stderr(io.StringIO()):
                    exec(code, scope)  # noqa: S102 - that is the test
                prints(block, out.getvalue())
    finally:
        os.environ.clear()
        os.environ.update(environment)


@by_page
def test_the_examples_import_what_they_use(page: Path) -> None:
    """Each page's blocks import the names of ours that they use, so that they can be copied."""
    if page.name == "throughput.md":  # single lines, each about one argument
        return
    imported: set[str] = set()
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom | ast.Import):
                imported |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Name) and node.id in (*vars(errors), "EmbeddingClient", "Emulator"):
                assert node.id in imported, f"{page.name}, line {block.line}: {node.id}"


@by_page
@pytest.mark.usefixtures("reader")
def test_the_shell_examples_print_what_they_show(page: Path) -> None:
    """Each `$ opensearch-embed ...` prints the lines below it."""
    for block in blocks(page, "console"):
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.code, re.MULTILINE):
            words = shlex.split(command, comments=True)
            if words[0] != "opensearch-embed":
                assert words[0] in ("make", "pip", "export"), command
                continue
            # The emulator would not return; tests/test_cli.py starts it.
            is_emulator = words[1] == "emulator"
            got = starting_lines(words[2:]) if is_emulator else CliRunner().invoke(app, words[1:]).output
            varying = r"http://127\.0\.0\.1:\d+|\d+ ms"
            shown_there = Block(page, block.line, "console", command, re.sub(varying, "...", output), None)
            prints(shown_there, re.sub(varying, "...", got))


def starting_lines(arguments: list[str]) -> str:
    """Return what `opensearch-embed emulator` prints before it waits."""
    from opensearch_embed.cli.commands import _emulator_lines

    command = get_command(app).commands["emulator"]  # type: ignore[attr-defined]
    given = command.make_context("emulator", arguments).params
    url = f"http://127.0.0.1:{given['port']}"
    return "\n".join([NOTICE, *_emulator_lines(url, given["api_key"], given["vectors"], given["qps"])])


def test_the_make_targets_exist() -> None:
    """Every `make ...` that a page names is one that the Makefile has."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in MARKDOWN:
        named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text(encoding="utf-8")))
        assert named <= targets, page


def test_the_extras_exist() -> None:
    """Every extra that a page installs is one that the package has, and `all` is all of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].keys()
    for page in MARKDOWN:
        for named in re.findall(r'pip install (?:-e )?"(?:opensearch-embed|\.)\[([\w,-]+)\]"', page.read_text("utf-8")):
            assert set(named.split(",")) <= extras, page


def test_the_demo_prints_what_the_readme_shows() -> None:
    """The excerpt in the README is what the demo prints, with the parts left out that "..." stands for."""
    command = [sys.executable, "-m", "opensearch_embed", "demo"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=120)
    [excerpt] = [block for block in blocks(ROOT / "README.md", "text") if "OpenSearchEmbeddings" in block.code]
    prints(Block(excerpt.page, excerpt.line, "text", "", f"...\n{excerpt.code}...\n", None), done.stdout)


# --- commands, links, hygiene ---


def test_each_command_is_documented_and_has_help() -> None:
    """Each command, and each of its options, has help; each command stands in the docs."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"opensearch-embed {name}" in text
        assert command.help
        assert all(parameter.help for parameter in command.params)


def test_the_emulator_page_has_each_option() -> None:
    """docs/emulator.md lists the options of `opensearch-embed emulator` with their defaults."""
    command = get_command(app).commands["emulator"]  # type: ignore[attr-defined]
    rows = [(row[0], row[1]) for row in table("docs/emulator.md", "option")]
    assert rows == [(f"`{option.opts[0]}`", f"`{option.default}`") for option in command.params]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made on the web."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    """Each link within the repository leads to a file that is there, and to a heading that it has."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_machine_shows(page: Path) -> None:
    """No page has an absolute path of somebody's machine, or a line too long to read in a terminal (tables aside)."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:/])/(?:home|Users|root|tmp|work|var|opt|mnt)/", text)
    assert [line for line in text.splitlines() if len(line) > 150 and not line.startswith("|")] == []


def test_every_page_is_in_the_index() -> None:
    """docs/README.md links to each page."""
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text(encoding="utf-8")
    paths = [page.relative_to(docs).as_posix() for page in PAGES if page.is_relative_to(docs)]
    assert [path for path in paths if path != "README.md" and f"]({path})" not in index] == []
