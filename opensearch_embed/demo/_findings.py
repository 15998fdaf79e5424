"""What a framework hands back to the demo: its answers, and what they cost. Plain data that knows no framework."""

from dataclasses import dataclass, field

from opensearch_embed.demo.corpus import Question
from opensearch_embed.usage import Usage

HITS_PER_QUESTION = 3

MAX_ATTEMPTS = 4
"""Fewer than the adapters' default: who has mistyped the endpoint should hear so in seconds."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the adapters send their requests; `None` leaves it to them to ask the environment.

    Attributes:
        endpoint: URL of the emulator.
        api_key: Key of the emulator.
        proxy: The empty text for the emulator: a proxy that the environment names would not find this machine.
    """

    endpoint: str | None = None
    api_key: str | None = field(default=None, repr=False)
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found, and how near it is to the question: the cosine of their vectors."""

    document_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The nearest documents to a question, the best first."""

    question: Question
    hits: list[Hit]

    @property
    def found_first(self) -> bool:
        """Whether the best hit is the document that answers the question."""
        return bool(self.hits) and self.hits[0].document_id == self.question.document_id


@dataclass(frozen=True, slots=True)
class Findings:
    """One framework's answers, and the requests, texts and tokens that it took to find them."""

    answers: list[Answer]
    usage: Usage

    @property
    def found_first(self) -> int:
        """How many questions had their document as best hit."""
        return sum(answer.found_first for answer in self.answers)
