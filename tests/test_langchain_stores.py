"""What docs/langchain.md says of vector stores: Chroma and Qdrant on disk, batches, records, another model's index."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from interfaces import made_of
from langchain_chroma import Chroma
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_qdrant import QdrantVectorStore
from langgraph.store.memory import InMemoryStore
from pages import rows

from langchain_opensearch_embed import OpenSearchEmbeddings
from opensearch_embed.emulator import Emulator

TEXTS = ["Green tea is steeped at 80 °C.", "Sourdough rises by wild yeast.", "Venice stands on wooden piles."]
MANY = [f"text {number}" for number in range(1024)]
OTHER = "ops-qwen3-embedding-0.6b"
"""A model whose vectors are as long as those of the default one."""

Make = Callable[..., OpenSearchEmbeddings]


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Make]:
    """Make embeddings of the emulator; what is not said is unlimited."""
    yield from made_of(OpenSearchEmbeddings, emulator)


class OnDisk:
    """A store in a folder: made of texts, and opened again as another process would."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind, self.path = kind, str(path)
        self.close: Callable[[], None] = lambda: None

    def filled(self, embeddings: OpenSearchEmbeddings, texts: list[str]) -> VectorStore:
        """Return a new store with these texts."""
        if self.kind == "chroma":
            return Chroma.from_texts(texts, embeddings, collection_name="notes", persist_directory=self.path)
        store = QdrantVectorStore.from_texts(texts, embeddings, path=self.path, collection_name="notes")
        self.close = store.client.close
        return store

    def opened(self, embeddings: OpenSearchEmbeddings, **options: Any) -> VectorStore:
        """Return the store that was filled."""
        self.close()
        if self.kind == "chroma":
            return Chroma("notes", embeddings, persist_directory=self.path)
        store = QdrantVectorStore.from_existing_collection("notes", embeddings, path=self.path, **options)
        self.close = store.client.close
        return store


@pytest.fixture(params=["chroma", "qdrant"])
def on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnDisk]:
    """A folder for a store of either kind."""
    folder = OnDisk(request.param, tmp_path)
    yield folder
    folder.close()


def sent(emulator: Emulator) -> list[tuple[str, list[str]]]:
    """Return role and texts of each request so far, and forget them."""
    requests = [(request.body["input_type"], request.body["input"]) for request in emulator.requests]
    emulator.reset()
    return requests


# --- on disk ---


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_store_is_found_again(make: Make, emulator: Emulator, on_disk: OnDisk, is_async: bool) -> None:
    """Texts go in as documents; opened again, nothing is embedded but the question, as a query."""
    on_disk.filled(make(), TEXTS)
    assert [request for request in sent(emulator) if request[1] != ["dummy_text"]] == [("document", TEXTS)]
    retriever = on_disk.opened(make()).as_retriever(search_kwargs={"k": 2})
    emulator.reset()
    question = "How hot is green tea?"
    found = asyncio.run(retriever.ainvoke(question)) if is_async else retriever.invoke(question)
    assert found[0].page_content == TEXTS[0]
    assert sent(emulator) == [("query", [question])]


def test_qdrant_asks_for_the_dimension(make: Make, emulator: Emulator, tmp_path: Path) -> None:
    """A request each time that a collection is made or opened, unless it is told not to."""
    folder = OnDisk("qdrant", tmp_path)
    folder.filled(make(), TEXTS)
    dummy = ("document", ["dummy_text"])
    assert sent(emulator)[0] == dummy
    folder.opened(make())
    assert sent(emulator) == [dummy]
    folder.opened(make(), validate_collection_config=False)
    assert sent(emulator) == []
    folder.close()


def test_another_model_is_silent(make: Make, on_disk: OnDisk) -> None:
    """Its dimension being the same, the store answers as ever, with what is not near the question."""
    [(_, right)] = on_disk.filled(make(), TEXTS).similarity_search_with_score(TEXTS[0], k=1)
    found = on_disk.opened(make(model=OTHER)).similarity_search_with_score(TEXTS[0], k=3)
    assert len(found) == 3
    cosines = [1 - score / 2 if on_disk.kind == "chroma" else score for _, score in found]
    assert all(abs(cosine) < 0.15 for cosine in cosines)
    assert (1 - right / 2 if on_disk.kind == "chroma" else right) > 0.8


def test_chroma_has_a_largest_batch() -> None:
    """`from_texts` keeps to it, and `add_texts` fails when all is embedded."""
    embeddings = DeterministicFakeEmbedding(size=2)
    texts = [str(number) for number in range(5462)]
    store = Chroma.from_texts(texts, embeddings, collection_name="large")
    with pytest.raises(Exception, match="5461"):
        store.add_texts(texts)


# --- batches ---


def in_qdrant(embeddings: OpenSearchEmbeddings, path: Path, **options: Any) -> None:
    """Add texts to Qdrant."""
    store = QdrantVectorStore.from_texts(["first"], embeddings, path=str(path), collection_name="notes")
    store.add_texts(MANY, **options)
    store.client.close()


def in_chroma(embeddings: OpenSearchEmbeddings, path: Path) -> None:
    """Add texts to Chroma."""
    Chroma("notes", embeddings, persist_directory=str(path)).add_texts(MANY)


def indexed(embeddings: OpenSearchEmbeddings, path: Path, **options: Any) -> None:  # noqa: ARG001
    """Add documents by the indexing API."""
    documents = [Document(page_content=text) for text in MANY]
    record = InMemoryRecordManager("notes")
    record.create_schema()
    index(documents, record, InMemoryVectorStore(embeddings), key_encoder="sha256", **options)


MEASURED = [
    in_qdrant,
    partial(in_qdrant, batch_size=1024),
    indexed,
    partial(indexed, batch_size=1024),
    in_chroma,
]


@pytest.mark.parametrize("number", range(len(MEASURED)))
def test_batches_cost_what_the_page_says(number: int, tmp_path: Path) -> None:
    """Requests for 1,024 texts, and how many of them are under way at once."""
    _, _, requests, at_once = rows("langchain.md", "batch")[number]
    with Emulator(latency_ms=100) as emulator, made(emulator) as embeddings:
        MEASURED[number](embeddings, tmp_path)
        counted = [request for request in emulator.requests if len(request.body["input"]) > 1]
        assert len(counted) == int(requests)
        if at_once.isdigit():
            assert emulator.max_in_flight == int(at_once)
        else:
            assert emulator.max_in_flight > 4


def made(emulator: Emulator) -> OpenSearchEmbeddings:
    """Return embeddings without a limit."""
    return OpenSearchEmbeddings(endpoint=emulator.url, api_key=emulator.api_key, qps=None)


# --- records, caches, LangGraph ---


def key(document: Document) -> str:
    """Return an id that any store takes."""
    return str(uuid5(NAMESPACE_URL, document.page_content))


def test_the_indexing_api_sends_what_is_new(make: Make, emulator: Emulator, on_disk: OnDisk) -> None:
    """A second run sends nothing; one changed document is one text, and its old form goes."""
    embeddings = make()
    store = on_disk.filled(embeddings, ["first"])
    record = InMemoryRecordManager("notes")
    record.create_schema()
    changed = [*TEXTS[:2], TEXTS[2] + " Many of them."]
    emulator.reset()
    for texts, added in ((TEXTS, TEXTS), (TEXTS, []), (changed, changed[2:])):
        documents = [Document(page_content=text, metadata={"source": text[:6]}) for text in texts]
        index(documents, record, store, cleanup="full", source_id_key="source", key_encoder=key, batch_size=1024)
        assert sent(emulator) == ([("document", added)] if added else [])
    found = store.similarity_search("Venice stands on wooden piles.", k=4)
    assert sorted(document.page_content for document in found) == sorted(["first", *changed])


def test_qdrant_takes_uuids_alone(make: Make, tmp_path: Path) -> None:
    """A key encoder by name makes ids that it refuses."""
    folder = OnDisk("qdrant", tmp_path)
    store = folder.filled(make(), ["first"])
    record = InMemoryRecordManager("notes")
    record.create_schema()
    with pytest.raises(ValueError, match="UUID"):
        index([Document(page_content="tea")], record, store, key_encoder="sha256")
    folder.close()


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "unnamed"])
def test_a_cache_of_langchain_needs_the_model_in_its_name(make: Make, is_named: bool) -> None:
    """Without it, a model gets the other's vectors."""
    kept = InMemoryByteStore()
    vectors = []
    for model in (OTHER, "ops-text-embedding-002"):
        embeddings = make(model=model)
        namespace = model if is_named else "mine"
        backed = CacheBackedEmbeddings.from_bytes_store(embeddings, kept, namespace=namespace, key_encoder="sha256")
        vectors.append(backed.embed_documents(["tea"])[0])
    assert (vectors[0] != vectors[1]) is is_named


@pytest.mark.parametrize(("kind", "role"), [("object", "query"), ("function", "document")])
def test_langgraph_knows_roles_of_an_object(make: Make, emulator: Emulator, kind: str, role: str) -> None:
    """The object is asked for a query's vector; a function for a document's, whatever it is for."""
    embeddings = make()
    embed: Any = embeddings if kind == "object" else embeddings.embed_documents
    store = InMemoryStore(index={"embed": embed, "dims": embeddings.dimension})
    store.put(("notes",), "1", {"text": TEXTS[0]})
    assert store.search(("notes",), query="How hot is green tea?")[0].key == "1"
    assert [request[0] for request in sent(emulator)] == ["document", role]
