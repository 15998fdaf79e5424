"""What the demo says, as lines of text. Nothing here prints, measures or searches.

The lines are plain: no colour and no cursor movement, so that they read the same in a terminal, a pipe and a log.
"""

import unicodedata

from opensearch_embed.demo._findings import Answer, Findings
from opensearch_embed.demo.corpus import Document, Language, Question
from opensearch_embed.settings import Settings

TITLE_COLUMNS = 18
"""Three hits in a line, within eighty columns."""

LANGUAGES: dict[Language, str] = {"en": "English", "zh": "Chinese"}

LEGEND = """\
Under each question: the three nearest documents, each with the cosine of its
vector and the question's. ✓: the document with the answer came first.
(en > zh): it is in the other language.
""".splitlines()

EMULATOR_NOTE = """\
The vectors above are the emulator's own, made on this machine by a small public
model. They are not the service's, whose scores will differ. The emulator makes
each vector once: the first time above includes that work, the second does not.

To run the same demo against the service, set:

  export OPENSEARCH_API_KEY="OS-..."
  export OPENSEARCH_ENDPOINT="https://default-....opensearch.aliyuncs.com"
  # optional, with their defaults:
  export OPENSEARCH_WORKSPACE="default"
  export OPENSEARCH_MODEL="ops-text-embedding-002"
  opensearch-embed demo
""".splitlines()

SERVICE_NOTE = """\
The vectors above are the service's. With OPENSEARCH_API_KEY or
OPENSEARCH_ENDPOINT unset, the demo runs on a local emulator.
""".splitlines()

HERE_NOTE = """\
The vectors above are those of an endpoint of this machine. If it is an
emulator, the service's scores will differ.
""".splitlines()


def opening(documents: list[Document], questions: list[Question], settings: Settings, *, emulated: bool) -> list[str]:
    """Say what is going to be searched, and where."""
    why = ["             OPENSEARCH_API_KEY and OPENSEARCH_ENDPOINT are not both set"] if emulated else []
    return [
        f"{_count('documents', documents)}; {_count('questions', questions)}",
        "",
        f"  endpoint   {settings.endpoint} ({_who(settings, emulated)})",
        *why,
        f"  workspace  {settings.workspace}",
        f"  model      {settings.model.service_id}, {settings.model.dimension} dimensions",
        "",
        *LEGEND,
    ]


def results(findings: Findings, documents: list[Document], seconds: float) -> list[str]:
    """Show one framework's answers, and what they took."""
    usage = findings.usage
    by_id = {document.id: document for document in documents}
    retries = f" ({usage.retries} of them retries)" if usage.retries else ""
    return [
        *(line for answer in findings.answers for line in _answer(answer, by_id)),
        f"  found first: {findings.found_first} of {len(findings.answers)}",
        f"  took {usage.requests} requests{retries}, {usage.texts} texts, {usage.tokens:,} tokens, {seconds:.1f} s",
    ]


def closing(settings: Settings, *, emulated: bool) -> list[str]:
    """Say whose vectors these were, and how to use the service's."""
    return EMULATOR_NOTE if emulated else HERE_NOTE if settings.is_here else SERVICE_NOTE


def _who(settings: Settings, emulated: bool) -> str:
    return "a local emulator" if emulated else "on this machine" if settings.is_here else "the service"


def fit(text: str, columns: int) -> str:
    """Cut or fill a text to a number of terminal columns, of which a wide (Chinese) character takes two."""
    if _columns(text) > columns:
        while _columns(text) > columns - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (columns - _columns(text))


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _count(things: str, of: list[Document] | list[Question]) -> str:
    spoken = [thing.language for thing in of]
    parts = ", ".join(f"{spoken.count(code)} {name}" for code, name in LANGUAGES.items())
    return f"{len(of)} {things} ({parts})"


def _answer(answer: Answer, by_id: dict[str, Document]) -> list[str]:
    question, expected = answer.question, by_id[answer.question.document_id]
    crossing = f"  ({question.language} > {expected.language})" if question.language != expected.language else ""
    missed = "" if answer.found_first else f"  expected: {expected.title}"
    hits = (f"{hit.score:5.2f} {fit(by_id[hit.document_id].title, TITLE_COLUMNS)}" for hit in answer.hits)
    return [
        f"  {'✓' if answer.found_first else '✗'} {question.text}{crossing}{missed}",
        f"    {' '.join(hits)}".rstrip(),
    ]
