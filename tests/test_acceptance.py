"""The promise of the project in one file: through a server that shuffles and fails, every vector is the right one."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed.emulator import Emulator

MODEL = "ops-text-embedding-en-001"  # 768 numbers: the fewest that a model of the catalogue has
TEXTS = [f"Document {number} is about subject {number * 7919 % 1000}." for number in range(10_000)]
QUESTIONS = [f"What is said about subject {number}?" for number in range(1000)]
AT_ONCE = 32


@pytest.fixture(scope="module")
def right_vectors() -> Callable[[list[str], str], np.ndarray]:
    """The emulator's own function of text and role, asked once for each list."""
    oracle, known = Emulator(), dict[tuple[str, int], np.ndarray]()

    def ask(texts: list[str], role: Any) -> np.ndarray:
        key = role, len(texts)
        if key not in known:
            known[key] = np.array([oracle.vector(text, role, MODEL) for text in texts], np.float32)
        return known[key]

    return ask


@pytest.fixture
def flaky() -> Iterator[Emulator]:
    """A server that shuffles, and fails one request in twenty: 429, 500, or the connection is cut."""
    with Emulator(shuffle=True, fault_rate=0.05, faults=("429", "500", "cut"), seed=20) as emulator:
        yield emulator


@pytest.fixture(params=["langchain", "llama_index"])
def embeddings(request: pytest.FixtureRequest, flaky: Emulator) -> Iterator[Any]:
    """Each framework's class, on the flaky server."""
    kind, name = {"langchain": (OpenSearchEmbeddings, "model"), "llama_index": (OpenSearchEmbedding, "model_name")}[
        request.param
    ]
    made = kind(**{name: MODEL}, endpoint=flaky.url, api_key=flaky.api_key, qps=None)
    yield made
    made.close()


def method(embeddings: Any, *names: str) -> Callable[..., Any]:
    """Return the method that this framework calls by one of these names."""
    return next(getattr(embeddings, name) for name in names if hasattr(type(embeddings), name))


def check(found: list[list[float]], expected: np.ndarray, flaky: Emulator, role: str) -> None:
    """Every vector is right, every request had the right role, and the server did fail."""
    np.testing.assert_array_equal(np.array(found, np.float32), expected)
    assert {record.body["input_type"] for record in flaky.requests} == {role}
    # Small calls share requests, so there may be too few for every kind of failure.
    assert [kind for kind in (429, 500, "cut") if flaky.usage.outcomes[kind]]
    assert flaky.usage.texts == len(expected)


def test_ten_thousand_texts(embeddings: Any, flaky: Emulator, right_vectors: Any) -> None:
    """10,000 texts through the sync method for lists of each framework."""
    found = method(embeddings, "embed_documents", "get_text_embedding_batch")(TEXTS)
    check(found, right_vectors(TEXTS, "document"), flaky, "document")


def test_ten_thousand_texts_async(embeddings: Any, flaky: Emulator, right_vectors: Any) -> None:
    """10,000 texts through the async method for lists of each framework."""
    found = asyncio.run(method(embeddings, "aembed_documents", "aget_text_embedding_batch")(TEXTS))
    check(found, right_vectors(TEXTS, "document"), flaky, "document")


def test_a_thousand_questions(embeddings: Any, flaky: Emulator, right_vectors: Any) -> None:
    """1,000 questions, from 32 threads, through the sync method for a query of each framework."""
    ask = method(embeddings, "embed_query", "get_query_embedding")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(ask, QUESTIONS))
    check(found, right_vectors(QUESTIONS, "query"), flaky, "query")


def test_a_thousand_questions_async(embeddings: Any, flaky: Emulator, right_vectors: Any) -> None:
    """1,000 questions, from as many tasks, through the async method for a query of each framework."""
    ask = method(embeddings, "aembed_query", "aget_query_embedding")

    async def ask_all() -> list[list[float]]:
        return await asyncio.gather(*map(ask, QUESTIONS))

    check(asyncio.run(ask_all()), right_vectors(QUESTIONS, "query"), flaky, "query")
