"""What docs/llama-index.md says of stores: Chroma and Qdrant on disk, batches, a pipeline with a docstore."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromadb
import pytest
from interfaces import made_of
from llama_index.core import (
    MockEmbedding,
    SimpleDirectoryReader,
    StorageContext,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, NodeWithScore, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from llama_index.vector_stores.chroma import ChromaVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from pages import rows
from qdrant_client import AsyncQdrantClient, QdrantClient

from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed.emulator import Emulator

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")

TEXTS = ["Green tea is steeped at 80 °C.", "Sourdough rises by wild yeast.", "Venice stands on wooden piles."]
OTHER = "ops-qwen3-embedding-0.6b"
"""A model whose vectors are as long as those of the default one."""

Make = Callable[..., OpenSearchEmbedding]


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Make]:
    """Make embeddings of the emulator; what is not said is unlimited."""
    yield from made_of(OpenSearchEmbedding, emulator)


class OnDisk:
    """A store in a folder, opened each time as another process would."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind, self.path = kind, str(path)
        self.close: Callable[[], None] = lambda: None

    def opened(self) -> BasePydanticVectorStore:
        """Return the store, new or as it was left."""
        self.close()
        if self.kind == "chroma":
            return ChromaVectorStore(
                chroma_collection=chromadb.PersistentClient(self.path).get_or_create_collection("notes")
            )
        client = QdrantClient(path=self.path)
        self.close = client.close
        return QdrantVectorStore("notes", client=client)

    def index(self, embedding: Any, **nodes: Any) -> VectorStoreIndex:
        """Return an index in the store, of these nodes."""
        storage = StorageContext.from_defaults(vector_store=self.opened())
        return VectorStoreIndex(embed_model=embedding, storage_context=storage, **nodes)


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


def nodes(texts: list[str]) -> list[TextNode]:
    """Return a node of each text."""
    return [TextNode(text=text) for text in texts]


async def asked(folder: OnDisk, embedding: OpenSearchEmbedding, question: str) -> list[NodeWithScore]:
    """Return what a store finds, async. Qdrant needs a client of its own for it, and lets one open a folder."""
    store = folder.opened()
    client = None
    if folder.kind == "qdrant":
        folder.close()
        client = AsyncQdrantClient(path=folder.path)
        store = QdrantVectorStore("notes", aclient=client)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    found = await index.as_retriever(similarity_top_k=2).aretrieve(question)
    if client is not None:
        await client.close()
    return found


# --- on disk ---


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_store_is_found_again(make: Make, emulator: Emulator, on_disk: OnDisk, is_async: bool) -> None:
    """Nodes go in as documents; opened again, nothing is embedded but the question, as a query."""
    on_disk.index(make(), nodes=nodes(TEXTS))
    assert sent(emulator) == [("document", TEXTS)]
    question = "How hot is green tea?"
    if is_async:
        found = asyncio.run(asked(on_disk, make(), question))
    else:
        index = VectorStoreIndex.from_vector_store(on_disk.opened(), embed_model=make())
        found = index.as_retriever(similarity_top_k=2).retrieve(question)
    assert found[0].text == TEXTS[0]
    assert sent(emulator) == [("query", [question])]


def test_an_index_is_read_from_a_folder(make: Make, emulator: Emulator, tmp_path: Path) -> None:
    """`persist` and `load_index_from_storage`: nothing is embedded but the question."""
    VectorStoreIndex(nodes(TEXTS), embed_model=make()).storage_context.persist(str(tmp_path))
    emulator.reset()
    index = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=make())
    assert index.as_retriever(similarity_top_k=1).retrieve("green tea")[0].text == TEXTS[0]
    assert sent(emulator) == [("query", ["green tea"])]


def test_another_model_is_silent(make: Make, on_disk: OnDisk) -> None:
    """Its dimension being the same, the index answers as ever, with what is not near the question."""
    [right] = on_disk.index(make(), nodes=nodes(TEXTS)).as_retriever(similarity_top_k=1).retrieve(TEXTS[0])
    index = VectorStoreIndex.from_vector_store(on_disk.opened(), embed_model=make(model_name=OTHER))
    found = index.as_retriever(similarity_top_k=3).retrieve(TEXTS[0])
    assert len(found) == 3
    assert all(hit.get_score() < right.get_score() / 2 for hit in found)


def test_a_path_is_embedded_unless_it_is_left_out(make: Make, emulator: Emulator, tmp_path: Path) -> None:
    """The reader's `file_path` goes to the service before the text, so that a moved folder has other vectors."""
    (tmp_path / "tea.md").write_text(TEXTS[0], encoding="utf-8")
    documents = SimpleDirectoryReader(str(tmp_path)).load_data()
    VectorStoreIndex.from_documents(documents, embed_model=make())
    documents[0].excluded_embed_metadata_keys.append("file_path")
    VectorStoreIndex.from_documents(documents, embed_model=make())
    [(_, [with_path]), (_, [without])] = sent(emulator)
    assert with_path == f"file_path: {tmp_path / 'tea.md'}\n\n{TEXTS[0]}"
    assert without == TEXTS[0]


def test_chroma_has_a_largest_batch(tmp_path: Path) -> None:
    """The default keeps to it; a larger `insert_batch_size` fails when its nodes are embedded."""
    folder = OnDisk("chroma", tmp_path)
    many = nodes([str(number) for number in range(5462)])
    folder.index(MockEmbedding(2), nodes=many)
    with pytest.raises(Exception, match="5461"):
        folder.index(MockEmbedding(2), nodes=many, insert_batch_size=10_000)


# --- batches ---

MEASURED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"insert_batch_size": 64}),
    ({}, {"insert_batch_size": 100}),
    ({"embed_batch_size": 10}, {}),
]


@pytest.mark.parametrize("number", range(len(MEASURED)))
def test_batches_cost_what_the_page_says(number: int) -> None:
    """Requests for 1,024 nodes, and how many of them are under way at once."""
    _, requests, at_once = rows("llama-index.md", "under way at once")[number]
    ours, theirs = MEASURED[number]
    with (
        Emulator(latency_ms=100) as emulator,
        OpenSearchEmbedding(endpoint=emulator.url, api_key=emulator.api_key, qps=None, **ours) as embedding,
    ):
        VectorStoreIndex(nodes([f"text {number}" for number in range(1024)]), embed_model=embedding, **theirs)
        assert len(emulator.requests) == int(requests)
        if at_once.isdigit():
            assert emulator.max_in_flight == int(at_once)
        else:
            assert emulator.max_in_flight > 4


# --- pipelines ---


def test_a_pipeline_with_a_docstore_sends_what_is_new(
    make: Make, emulator: Emulator, on_disk: OnDisk, tmp_path: Path
) -> None:
    """A second run sends nothing, also after it was written to disk; one changed document is one text."""
    embedding, store = make(), on_disk.opened()

    def run(texts: list[str], *, is_new: bool) -> list[tuple[str, list[str]]]:
        pipeline = IngestionPipeline(
            transformations=[SentenceSplitter(), embedding],
            docstore=SimpleDocumentStore(),
            docstore_strategy=DocstoreStrategy.UPSERTS,
            vector_store=store,
        )
        if not is_new:
            pipeline.load(str(tmp_path / "pipeline"))
        pipeline.run(documents=[Document(id_=str(number), text=text) for number, text in enumerate(texts)])
        pipeline.persist(str(tmp_path / "pipeline"))
        return sent(emulator)

    changed = [*TEXTS[:2], TEXTS[2] + " Many of them."]
    assert run(TEXTS, is_new=True) == [("document", TEXTS)]
    assert run(TEXTS, is_new=False) == []
    assert run(changed, is_new=False) == [("document", changed[2:])]
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=9).retrieve("Venice stands on wooden piles.")
    assert sorted(hit.text for hit in found) == sorted(changed)
