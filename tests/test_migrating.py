"""docs/migrating.md: what it says of other packages' embeddings, and what changes, with the packages themselves."""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from langchain_community.embeddings import DashScopeEmbeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from llama_index.core import Document, Settings, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import ConfigurationError
from opensearch_embed.emulator import Emulator

PAGE = (Path(__file__).parent.parent / "docs" / "migrating.md").read_text(encoding="utf-8")
TEXTS = [f"text {number}" for number in range(40)]
CORPUS = ["green tea is steeped at 80 °C", "a bicycle has two wheels"]
OURS: dict[str, Any] = {"OpenSearchEmbeddings": OpenSearchEmbeddings, "OpenSearchEmbedding": OpenSearchEmbedding}


# --- the tables ---


def argument_rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the tables of arguments: the old class, the old argument, our class, what it becomes."""
    heading = re.compile(r"^\| `(\w+)`[^|]*\| `(OpenSearchEmbeddings?)` \| \|$")
    old_class = our_class = ""
    for line in PAGE.splitlines():
        if found := heading.match(line):
            old_class, our_class = found.groups()
        elif not line.startswith("|"):
            old_class = ""
        elif old_class and not line.startswith("| ---"):
            names, becomes = line.split("|")[1:3]
            for name in re.findall(r"`(\w+)(?:=[^`]*)?`", names):
                yield old_class, name, our_class, becomes.strip(" `")


ROWS = list(argument_rows())


@pytest.mark.parametrize(
    ("name", "our_class", "becomes"),
    [row[1:] for row in ROWS],
    ids=[f"{old_class}-{name}" for old_class, name, *_ in ROWS],
)
def test_an_old_argument_is_taken_or_refused_with_the_new_name(name: str, our_class: str, becomes: str) -> None:
    """Who writes it by habit learns from the error what the page says."""
    fields = OURS[our_class].model_fields
    if becomes in ("the same", name):
        assert name in fields
        return
    assert becomes in (*fields, "none")
    with pytest.raises(ConfigurationError) as caught:
        OURS[our_class](endpoint="api.example.com", api_key="OS-local", **{name: "x"})
    assert name in str(caught.value)
    if becomes != "none":
        assert f"{becomes!r}" in str(caught.value)


def test_the_tables_are_read() -> None:
    """All nine tables are among the rows above."""
    assert len({(old_class, our_class) for old_class, _, our_class, _ in ROWS}) == 9


@pytest.mark.parametrize("old", [OpenAIEmbeddings, DashScopeEmbeddings], ids=lambda old: old.__name__)
def test_the_old_arguments_are_those_of_the_package(old: Any) -> None:
    """Each is a field or its alias, with the default that the page writes."""
    known = {name: field.default for name, field in old.model_fields.items()}
    known |= {field.alias: field.default for field in old.model_fields.values() if field.alias}
    names = {name for old_class, name, _, _ in ROWS if old_class == old.__name__}
    assert names <= known.keys()
    [table] = re.findall(rf"^\| `{old.__name__}`[^|]*\| `OpenSearch.*?(?=\n\n)", PAGE, re.MULTILINE | re.DOTALL)
    defaults = re.findall(r"^\| `(\w+)=([^`]+)`", table, re.MULTILINE)
    assert defaults
    for name, default in defaults:
        assert str(known[name]) == default.strip('"')


# --- the existing plugin ---


@pytest.fixture
def swapped(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Run one side of the page's change, as it stands there, and return the embedding that it makes."""
    pytest.importorskip("llama_index.embeddings.alibabacloud_aisearch", reason="dependency group `peer`")
    [change] = [diff for diff in re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL) if "AlibabaCloudAISearch" in diff]
    monkeypatch.setattr(Settings, "_embed_model", None)
    monkeypatch.setenv("AISEARCH_API_KEY", emulator.api_key)

    def run(side: str) -> Any:
        # The plugin takes a bare host for http; here that is https, and the emulator speaks http.
        monkeypatch.setenv("AISEARCH_ENDPOINT", emulator.url.removeprefix("http://") if side == "-" else emulator.url)
        code = "\n".join(line[1:] for line in change.splitlines() if line.startswith(side))
        exec(code, {"Settings": Settings})  # noqa: S102 - that is the test
        return Settings._embed_model

    return run


def sent(emulator: Emulator, embedding: Any, *, is_async: bool) -> tuple[list[Any], Any]:
    """Embed a list and a question, and return what was sent, batches in order, and the vectors."""
    start = len(emulator.requests)
    embedding.embed_batch_size = 32
    if is_async:
        vectors = (
            asyncio.run(embedding.aget_text_embedding_batch(TEXTS)),
            asyncio.run(embedding.aget_query_embedding("tea")),
        )
    else:
        vectors = embedding.get_text_embedding_batch(TEXTS), embedding.get_query_embedding("tea")
    requests = [(request.path, request.body) for request in emulator.requests[start:]]
    return sorted(requests, key=lambda request: str(request[1]["input"])), vectors


@pytest.mark.peer
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_both_send_the_same_request(emulator: Emulator, swapped: Callable[[str], Any], is_async: bool) -> None:
    """Path and body are equal, and so are the vectors; a question is a list of one where it was a string."""
    old, old_vectors = sent(emulator, swapped("-"), is_async=is_async)
    new, new_vectors = sent(emulator, swapped("+"), is_async=is_async)
    assert [len(body["input"]) for _, body in old] == [32, 8, 3]
    assert old[2][1] == {"input": "tea", "input_type": "query"}
    old[2][1]["input"] = ["tea"]
    assert sorted(map(str, old)) == sorted(map(str, new))
    assert old_vectors == new_vectors


@pytest.mark.peer
def test_a_stored_index_serves_on(emulator: Emulator, swapped: Callable[[str], Any], tmp_path: Path) -> None:
    """Nothing but the question is sent."""
    documents = [Document(text=text) for text in CORPUS]
    VectorStoreIndex.from_documents(documents, embed_model=swapped("-")).storage_context.persist(str(tmp_path))
    before = len(emulator.requests)
    context = StorageContext.from_defaults(persist_dir=str(tmp_path))
    index = load_index_from_storage(context, embed_model=swapped("+"))
    assert index.as_retriever(similarity_top_k=1).retrieve("green tea")[0].text == CORPUS[0]
    assert [request.body["input"] for request in emulator.requests[before:]] == [["green tea"]]


@pytest.mark.peer
def test_what_a_pipeline_sends_once_more(emulator: Emulator, swapped: Callable[[str], Any]) -> None:
    """Its cache is filed under the step, which is another one; a docstore finds unchanged documents before that."""
    documents = [Document(text=text, id_=text) for text in CORPUS]
    old, new = swapped("-"), swapped("+")
    with_cache = {"cache": IngestionCache()}
    with_docstore = {
        "docstore": SimpleDocumentStore(),
        "vector_store": SimpleVectorStore(),
        "docstore_strategy": DocstoreStrategy.UPSERTS,
    }

    def requests(embedding: Any, settings: dict[str, Any]) -> int:
        before = len(emulator.requests)
        IngestionPipeline(transformations=[embedding], **settings).run(documents=documents)
        return len(emulator.requests) - before

    assert [requests(embedding, with_cache) for embedding in (old, old, new, new)] == [1, 0, 1, 0]
    assert [requests(embedding, with_docstore) for embedding in (old, new)] == [1, 0]


@pytest.mark.peer
def test_the_old_plugin_prints_its_key(emulator: Emulator, swapped: Callable[[str], Any]) -> None:
    """Ours does not."""
    assert emulator.api_key in repr(swapped("-"))
    assert emulator.api_key not in repr(swapped("+"))


# --- compatible mode ---


def through_the_door(emulator: Emulator, **settings: Any) -> OpenAIEmbeddings:
    """Return what the page shows for that door."""
    return OpenAIEmbeddings(
        model="ops-text-embedding-002",
        base_url=f"{emulator.url}/compatible-mode/v1",
        api_key=emulator.api_key,
        **{"check_embedding_ctx_length": False, "chunk_size": 32} | settings,
    )


def test_the_door_has_no_role_and_ours_says_query(emulator: Emulator) -> None:
    """The same corpus and question: documents get the same vectors, and the question another one."""
    ours = OpenSearchEmbeddings(endpoint=emulator.url, api_key=emulator.api_key)
    theirs = through_the_door(emulator)
    for embeddings in (theirs, ours):
        store = InMemoryVectorStore.from_texts(CORPUS, embeddings)
        assert store.similarity_search("how is green tea made?", k=1)[0].page_content == CORPUS[0]
    np.testing.assert_allclose(theirs.embed_documents(CORPUS), ours.embed_documents(CORPUS))
    np.testing.assert_allclose(theirs.embed_query("tea"), emulator.vector("tea", "document"))
    assert ours.embed_query("tea") == emulator.vector("tea", "query") != emulator.vector("tea", "document")
    said = [request.body.get("input_type") for request in emulator.requests]
    assert said == [None, None, "document", "query", None, "document", None, "query"]


def test_its_own_batches_are_refused(emulator: Emulator) -> None:
    """It sends a thousand texts at once; `chunk_size=32` is what makes it work. Ours needs nothing said."""
    with pytest.raises(openai.BadRequestError):
        through_the_door(emulator, chunk_size=1000).embed_documents(TEXTS)
    assert len(through_the_door(emulator).embed_documents(TEXTS)) == len(TEXTS)
    assert len(OpenSearchEmbeddings(endpoint=emulator.url, api_key=emulator.api_key).embed_documents(TEXTS)) == len(
        TEXTS
    )


def test_it_gives_up_where_ours_waits(emulator: Emulator) -> None:
    """Three times over the quota is an error there, and a wait here."""
    emulator.fail_next(429, times=3, retry_after=0.01)
    with pytest.raises(openai.RateLimitError):
        through_the_door(emulator).embed_query("tea")
    emulator.fail_next(429, times=3, retry_after=0.01)
    ours = OpenSearchEmbeddings(endpoint=emulator.url, api_key=emulator.api_key)
    assert ours.embed_query("tea") == emulator.vector("tea", "query")


def test_it_takes_vectors_as_they_come() -> None:
    """An answer in another order gives the wrong vectors there; ours places them by `index`."""
    with Emulator(vectors="lexical", qps=None, shuffle=True) as emulator:
        right = [emulator.vector(text) for text in TEXTS]
        assert not np.allclose(through_the_door(emulator).embed_documents(TEXTS), right)
        assert OpenSearchEmbeddings(endpoint=emulator.url, api_key=emulator.api_key).embed_documents(TEXTS) == right
