"""What the LlamaIndex adapter makes of nodes: bad ones are found before the first request, and named by their id."""

import asyncio
from collections import UserList
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from interfaces import EMULATOR_KEY, made_of
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.embeddings.loading import load_embed_model
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import InputError
from opensearch_embed.emulator import Emulator

Make = Callable[..., OpenSearchEmbedding]
BLANKS = ["", "  \n\t"]


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Make]:
    """Make embeddings of the emulator; what is not said is unlimited."""
    yield from made_of(OpenSearchEmbedding, emulator)


def nodes_with(bad: str, place: int, count: int = 10) -> list[TextNode]:
    """Return nodes, one of which has this text."""
    return [TextNode(id_=f"node-{i}", text=bad if i == place else f"text {i}") for i in range(count)]


Way = Callable[[OpenSearchEmbedding, list[TextNode]], Any]

PIPELINES: dict[str, Way] = {
    "pipeline": lambda embedding, nodes: IngestionPipeline(transformations=[embedding]).run(nodes=nodes),
    "async pipeline": lambda embedding, nodes: asyncio.run(
        IngestionPipeline(transformations=[embedding]).arun(nodes=nodes)
    ),
    "step": lambda embedding, nodes: embedding(nodes),
    "async step": lambda embedding, nodes: asyncio.run(embedding.acall(nodes)),
}
INDICES: dict[str, Way] = {
    "index": lambda embedding, nodes: VectorStoreIndex(nodes, embed_model=embedding),
    "async index": lambda embedding, nodes: VectorStoreIndex(nodes, embed_model=embedding, use_async=True),
    "insertion": lambda embedding, nodes: VectorStoreIndex([], embed_model=embedding).insert_nodes(nodes),
}
WAYS = PIPELINES | INDICES


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_cache", [False, True])
def test_a_blank_node_is_found_before_the_first_request(
    make: Make, emulator: Emulator, way: str, with_cache: bool
) -> None:
    """Also where it is in a later batch of the framework's: nothing is paid for, and the error names the node."""
    embedding = make(embed_batch_size=3, embeddings_cache=SimpleKVStore() if with_cache else None)
    with pytest.raises(InputError, match=r"^texts\[1\] is empty.*text 7 of the whole list.*'node-7'") as caught:
        WAYS[way](embedding, nodes_with("  \n", 7))
    assert (caught.value.index, caught.value.pending, caught.value.completed) == (1, [0, 1, 2], {})
    assert emulator.requests == []


@pytest.mark.parametrize("way", ["step", "async step"])  # a pipeline itself fails at a surrogate, before it calls us
@pytest.mark.parametrize("bad", [*BLANKS, "a \ud83c"], ids=["empty", "white space", "surrogate"])
def test_any_bad_node_is_named(make: Make, emulator: Emulator, way: str, bad: str) -> None:
    """One batch or many, the id is there, and a list that is one batch needs no other number."""
    with pytest.raises(InputError, match=r"^texts\[9\].*'node-9'") as caught:
        WAYS[way](make(), nodes_with(bad, 9))
    assert caught.value.index == 9
    assert "whole list" not in str(caught.value)
    assert emulator.requests == []


@pytest.mark.parametrize("way", WAYS)
def test_a_node_that_is_too_long_is_named(make: Make, way: str) -> None:
    """What is found in its own batch is named as well."""
    settings = {"model_name": "ops-text-embedding-001", "overflow": "error", "length_function": len}
    with pytest.raises(InputError, match=r"^texts\[0\] has about 301 tokens.*'node-6'") as caught:
        WAYS[way](make(embed_batch_size=3, **settings), nodes_with("x" * 301, 6))
    assert caught.value.index == 0


def test_without_nodes_there_is_a_number_alone(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """A list of texts has no nodes; one call's nodes are not another's."""
    embedding = make(embed_batch_size=3)
    embedding(nodes_with("a", 0))
    sent = len(emulator.requests)
    with pytest.raises(InputError, match=r"^texts\[2\] is empty.*text 5 of the whole list\.$"):
        call(embedding.get_text_embedding_batch, ["a", "b", "c", "d", "e", ""])
    assert len(emulator.requests) == sent


@pytest.mark.parametrize("way", WAYS)
def test_blank_nodes_may_be_zero(make: Make, way: str) -> None:
    """With `empty="zero"` they are, wherever they come from."""
    WAYS[way](make(empty="zero", embed_batch_size=3), nodes_with(" ", 7))


@pytest.mark.parametrize("settings", [{}, {"embeddings_cache": SimpleKVStore()}, {"on_error": "isolate"}])
@pytest.mark.parametrize("texts", ["tea", b"tea", {"a": "tea"}, {"tea"}])
def test_a_bare_text_is_no_list(
    make: Make, emulator: Emulator, call: Callable[..., Any], settings: dict[str, Any], texts: Any
) -> None:
    """The framework would take a str letter by letter, and a dict by its keys."""
    embedding = make(**settings)
    for method in (embedding.get_text_embedding_batch, embedding.get_agg_embedding_from_queries):
        with pytest.raises(InputError, match=r"^texts is a"):
            call(method, texts)
    assert emulator.requests == []


@pytest.mark.parametrize("kind", [tuple, iter, np.array, UserList, lambda texts: (text for text in texts)])
def test_any_iterable_is_a_list(make: Make, emulator: Emulator, call: Callable[..., Any], kind: Any) -> None:
    """What the core takes, the adapter takes."""
    found = call(make(embed_batch_size=2).get_text_embedding_batch, kind(["a", "b", "c"]))
    assert found == [emulator.vector(text) for text in "abc"]


@pytest.mark.parametrize("query", BLANKS)
@pytest.mark.parametrize("empty", ["error", "zero"])
def test_an_empty_query_is_refused(
    make: Make, emulator: Emulator, call: Callable[..., Any], query: str, empty: str
) -> None:
    """Whatever `empty` says: alone, among others, and with a cache."""
    for settings in ({}, {"embeddings_cache": SimpleKVStore()}):
        embedding = make(empty=empty, **settings)
        with pytest.raises(InputError, match="is empty"):
            call(embedding.get_query_embedding, query)
        with pytest.raises(InputError, match=r"texts\[1\] is empty"):
            call(embedding.get_agg_embedding_from_queries, ["tea", query])
    assert emulator.requests == []


# --- what decides a vector ---

INDIFFERENT: list[dict[str, Any]] = [
    *({"qps": 3}, {"timeout": 3}, {"retry_timeout": 3}, {"max_attempts": 3}, {"max_concurrency": 3}),
    *({"batch_size": 3}, {"embed_batch_size": 3}, {"num_workers": 3}, {"compression": True}, {"allow_http": True}),
    *({"on_error": "isolate"}, {"proxy": ""}, {"length_function": len}),
]
DECIDING: list[dict[str, Any]] = [
    *({"model_name": "ops-text-embedding-001"}, {"workspace": "other"}, {"endpoint": "http://127.0.0.1:1"}),
    *({"overflow": "truncate"}, {"overflow": "average"}, {"overflow": "error"}, {"empty": "zero"}),
]


@pytest.mark.parametrize("settings", INDIFFERENT, ids=str)
def test_the_pipelines_hash_is_the_same(make: Make, settings: dict[str, Any]) -> None:
    """How fast requests leave, and how patiently, changes nothing of what a pipeline has in its cache."""
    one, other = make(), make(**settings)
    nodes = nodes_with("a", 0)
    assert get_transformation_hash(nodes, one) == get_transformation_hash(nodes, other)
    assert str(one.to_dict()) == str(other.to_dict())
    if "length_function" not in settings:
        assert one.to_dict() != other.to_dict()


@pytest.mark.parametrize("settings", DECIDING, ids=str)
def test_the_pipelines_hash_is_another(make: Make, settings: dict[str, Any]) -> None:
    """What decides a vector is hashed."""
    nodes = nodes_with("a", 0)
    assert get_transformation_hash(nodes, make()) != get_transformation_hash(nodes, make(**settings))


def test_a_pipeline_pays_for_nothing_twice(make: Make, emulator: Emulator) -> None:
    """Run again with another `qps`, nothing is sent; with another `overflow`, all."""
    pipeline = IngestionPipeline(transformations=[make(qps=50, timeout=3)])
    pipeline.run(nodes=nodes_with("a", 0))
    sent = len(emulator.requests)
    again = IngestionPipeline(transformations=[make(qps=7, timeout=9, max_attempts=2)], cache=pipeline.cache)
    again.run(nodes=nodes_with("a", 0))
    assert len(emulator.requests) == sent
    IngestionPipeline(transformations=[make(overflow="truncate")], cache=pipeline.cache).run(nodes=nodes_with("a", 0))
    assert len(emulator.requests) > sent


def test_a_subclass_may_decide_by_its_own_field(emulator: Emulator) -> None:
    """A field that is not known here may decide a vector, so it is hashed."""

    class Mine(OpenSearchEmbedding):
        prefix: str = ""

    one, other = (Mine(endpoint=emulator.url, api_key=EMULATOR_KEY, prefix=prefix) for prefix in ("a", "b"))  # type: ignore[call-arg]
    assert str(one.to_dict()) != str(other.to_dict())


def test_a_counter_decides_where_texts_are_cut(make: Make) -> None:
    """By its name, since a function has no other mark that lasts."""
    cut = [str(make(overflow="truncate", length_function=count).to_dict()) for count in (None, len, hash)]
    assert len(set(cut)) == 3
    assert "0x" not in "".join(cut)


def test_a_stored_pipeline_finds_the_class(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_embed_model` knows the name that `to_dict` writes, and every setting is kept."""
    embedding = make(qps=7, timeout=3.5, overflow="average", embed_batch_size=9, max_attempts=2)
    monkeypatch.setenv("OPENSEARCH_API_KEY", EMULATOR_KEY)
    loaded = load_embed_model(embedding.to_dict())
    assert type(loaded) is OpenSearchEmbedding
    assert loaded.to_dict() == embedding.to_dict()
    assert (loaded.qps, loaded.timeout, loaded.embed_batch_size) == (7, 3.5, 9)


@pytest.mark.parametrize("overflow", ["truncate", "average", "error"])
def test_a_cache_with_another_overflow_is_another(make: Make, emulator: Emulator, overflow: str) -> None:
    """What was kept of a text that was sent whole is not the vector of a text that is cut."""
    store = SimpleKVStore()
    whole = make(embeddings_cache=store, model_name="ops-text-embedding-001")
    other = make(embeddings_cache=store, model_name="ops-text-embedding-001", overflow=overflow, length_function=len)
    long = "x" * 301
    with pytest.warns(UserWarning, match="longer than the 300 tokens"):
        make(model_name="ops-text-embedding-001", length_function=len).get_text_embedding(long)
    kept = whole.get_text_embedding("x" * 250)
    sent = len(emulator.requests)
    assert other.get_text_embedding("x" * 250) == kept
    assert len(emulator.requests) == sent + 1
    twin = make(embeddings_cache=store, model_name="ops-text-embedding-001", overflow=overflow, length_function=len)
    assert twin.get_text_embedding("x" * 250) == kept
    assert len(emulator.requests) == sent + 1


def test_documents_without_blanks_are_an_index(make: Make) -> None:
    """The docs' one-liner: what is blank is left out before it is embedded."""
    documents = [Document(text=text) for text in ("tea", " ", "", "coffee")]
    documents = [document for document in documents if document.text.strip()]
    index = VectorStoreIndex.from_documents(documents, embed_model=make())
    assert len(index.as_retriever(similarity_top_k=9).retrieve("tea")) == 2


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_zero_vector_is_not_a_number_in_the_simple_store(make: Make) -> None:
    """As the docs say: the framework's own store divides by its length."""
    index = VectorStoreIndex(nodes_with(" ", 1, count=2), embed_model=make(empty="zero"))
    scores = {hit.node_id: hit.score for hit in index.as_retriever(similarity_top_k=2).retrieve("text 0")}
    assert np.isnan(scores["node-1"])
