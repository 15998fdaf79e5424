"""Forty short documents in two languages, and ten questions that each have one of them as their answer.

The texts were written for this project and are read from the two files beside this one. A question avoids the words of
its document, so that a search by meaning finds it and a search by words does not. The questions were picked so that a
small model can answer them: they show that retrieval works, and measure no model.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Document:
    """One encyclopaedic paragraph.

    Attributes:
        id: A short name in lower case, such as `venice`.
        title: The subject, in the document's language.
        language: `en` or `zh`.
        text: The paragraph: 60 to 120 English words, or 80 to 200 Chinese characters.
    """

    id: str
    title: str
    language: Language
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question that one document answers.

    Attributes:
        text: The question.
        document_id: The `id` of the document that answers it. It may be in the other language.
        language: `en` or `zh`, of the question.
    """

    text: str
    document_id: str
    language: Language


def load_corpus() -> list[Document]:
    """Return the documents, the English ones first."""
    return [Document(**fields) for fields in _lines("corpus.jsonl")]


def load_questions() -> list[Question]:
    """Return the questions, the English ones first."""
    return [Question(**fields) for fields in _lines("questions.jsonl")]


def _lines(name: str) -> Iterator[dict[str, Any]]:
    """Read a file of this package that holds one JSON object in each line."""
    # Not str.splitlines: it would also cut at separators that may stand inside a JSON string.
    for line in files(__package__).joinpath(name).read_text(encoding="utf-8").split("\n"):
        if line:
            yield json.loads(line)
