"""The LlamaIndex adapter's embeddings cache: nothing in it is ever taken for something else."""

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interfaces import made_of
from llama_index.core import Settings
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.storage.kvstore.types import BaseKVStore

from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import ConfigurationError, InputError, InvalidRequest
from opensearch_embed.emulator import Emulator

Make = Callable[..., OpenSearchEmbedding]


class LengthyStore(SimpleKVStore):
    """A store that is false while it is empty, as anything with a length is."""

    def __len__(self) -> int:
        return sum(map(len, self.to_dict().values()))


class LockedStore(SimpleKVStore):
    """A store that cannot be pickled, as one with a connection cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Make]:
    """Make embeddings of the emulator; what is not said is unlimited."""
    yield from made_of(OpenSearchEmbedding, emulator)


@pytest.fixture
def store() -> SimpleKVStore:
    """An empty store."""
    return SimpleKVStore()


def test_what_was_embedded_is_not_sent_again(
    make: Make, emulator: Emulator, store: SimpleKVStore, call: Callable[..., Any]
) -> None:
    """Each way to embed a document finds what another one kept, and queries find queries."""
    embedding = make(embeddings_cache=store)
    call(embedding.get_text_embedding_batch, ["a", "b"])
    call(embedding.get_text_embedding, "c")
    call(embedding.get_query_embedding, "a")
    spent = embedding.usage
    assert call(embedding.get_text_embedding_batch, ["c", "b", "a"]) == [emulator.vector(text) for text in "cba"]
    assert call(embedding.get_text_embedding, "a") == emulator.vector("a")
    assert call(embedding.get_query_embedding, "a") == emulator.vector("a", "query")
    assert embedding.usage == spent


def test_only_what_is_missing_is_sent(
    make: Make, emulator: Emulator, store: SimpleKVStore, call: Callable[..., Any]
) -> None:
    """A batch that is half known costs half."""
    embedding = make(embeddings_cache=store)
    call(embedding.get_text_embedding_batch, ["b", "d"])
    assert call(embedding.get_text_embedding_batch, list("abcde")) == [emulator.vector(text) for text in "abcde"]
    assert [request.body["input"] for request in emulator.requests] == [["b", "d"], ["a", "c", "e"]]


@pytest.mark.parametrize("first", ["query", "document"])
def test_a_query_is_not_a_document_of_the_same_words(
    make: Make, emulator: Emulator, store: SimpleKVStore, call: Callable[..., Any], first: str
) -> None:
    """The same words give the vector of the role they play, whichever role came first."""
    embedding = make(embeddings_cache=store)
    steps = [
        (lambda: call(embedding.get_query_embedding, "same"), emulator.vector("same", "query")),
        (lambda: call(embedding.get_text_embedding, "same"), emulator.vector("same")),
        (lambda: call(embedding.get_text_embedding_batch, ["same"])[0], emulator.vector("same")),
    ]
    for step, expected in (steps if first == "query" else steps[::-1]) * 2:
        assert step() == expected


async def test_roles_stay_apart_in_tasks_that_run_at_once(make: Make, emulator: Emulator, store: SimpleKVStore) -> None:
    """Queries and documents of the same words, embedded concurrently and then from the cache."""
    import asyncio

    embedding = make(embeddings_cache=store)
    words = [f"word {i}" for i in range(20)]
    for _ in range(2):
        vectors = await asyncio.gather(
            *(embedding.aget_query_embedding(word) for word in words),
            *(embedding.aget_text_embedding(word) for word in words),
        )
        assert vectors == [emulator.vector(word, role) for role in ("query", "document") for word in words]
    # 32 at once; the others share what is sent next.
    assert (embedding.usage.texts, 33 <= embedding.usage.requests <= 40) == (40, True)
    await embedding.aclose()


def test_a_failed_query_does_not_change_the_role(make: Make, emulator: Emulator, store: SimpleKVStore) -> None:
    """After a query that failed, documents are documents."""
    embedding = make(embeddings_cache=store)
    emulator.fail_next(400)
    with pytest.raises(InvalidRequest):
        embedding.get_query_embedding("a")
    embedding.get_text_embedding("a")
    assert embedding.get_query_embedding("a") == emulator.vector("a", "query")


def test_models_endpoints_and_workspaces_stay_apart(make: Make, emulator: Emulator, store: SimpleKVStore) -> None:
    """One store serves many embeddings; each takes its own vectors only."""
    with Emulator(models={"my.model-1": 1024, "my-model-1": 1024}, qps=None, vectors="lexical") as other:
        there = {"endpoint": other.url, "api_key": other.api_key}
        variants: list[dict[str, Any]] = [
            {},
            {"model_name": "ops-text-embedding-001"},
            {"model_name": "ops-text-embedding-en-001"},
            {"workspace": "another"},
            there,
            {**there, "model_name": "my.model-1", "dimension": 1024},
            {**there, "model_name": "my-model-1", "dimension": 1024},
        ]
        for variant in variants:
            embedding = make(embeddings_cache=store, **variant)
            embedding.get_text_embedding("x")
            assert embedding.usage.requests == 1
        for variant in variants:
            again = make(embeddings_cache=store, **variant)
            server = other if "endpoint" in variant else emulator
            assert again.model_name is not None
            assert again.get_text_embedding("x") == server.vector("x", model=again.model_name)
            assert again.usage.requests == 0


def test_collections_have_plain_names(make: Make, store: SimpleKVStore) -> None:
    """Letters, digits, "-" and "_" are what every store can name a collection by."""
    make(embeddings_cache=store, model_name="ops-text-embedding-001").get_text_embedding("x")
    make(embeddings_cache=store).get_query_embedding("x")
    names = list(store.to_dict())
    assert len(names) == 2
    for name in names:
        assert name.replace("-", "").replace("_", "").isalnum()
        assert len(name) < 120


def test_vectors_that_another_embedding_left_are_not_ours(make: Make, emulator: Emulator, store: SimpleKVStore) -> None:
    """What other embeddings keep under the framework's own name is left alone."""
    store.put("x", {"id": [1.0, 2.0]}, collection="embeddings")
    assert make(embeddings_cache=store).get_text_embedding("x") == emulator.vector("x")
    assert store.get("x", collection="embeddings") == {"id": [1.0, 2.0]}


# --- setting, reading and copying it ---


def test_a_cache_may_be_set_later(make: Make, emulator: Emulator, store: SimpleKVStore) -> None:
    """Assignment is as safe as the constructor, directly and through `Settings.embed_model`."""
    embedding = make()
    Settings.embed_model = embedding
    try:
        Settings.embed_model.embeddings_cache = store
        Settings.embed_model.get_text_embedding("a")
        assert Settings.embed_model.get_query_embedding("a") == emulator.vector("a", "query")
    finally:
        Settings._embed_model = None
    assert len(store.to_dict()) == 2
    embedding.embeddings_cache = None
    assert embedding.embeddings_cache is None
    with pytest.raises(ConfigurationError, match="must be a BaseKVStore"):
        embedding.embeddings_cache = "redis://"


def test_a_cache_may_be_handed_from_one_embedding_to_another(make: Make, emulator: Emulator) -> None:
    """A cache taken off one embedding serves another model as that model's."""
    first = make(embeddings_cache=SimpleKVStore())
    first.get_text_embedding("a")
    second = make(model_name="ops-text-embedding-001", embeddings_cache=first.embeddings_cache)
    assert second.get_text_embedding("a") == emulator.vector("a", model="ops-text-embedding-001")
    assert second.embeddings_cache.store is first.embeddings_cache.store


def test_the_cache_can_be_used_like_the_store(make: Make, emulator: Emulator, tmp_path: Path) -> None:
    """Reading gives a key-value store of this model's documents, and what else the store can do, such as `persist`."""
    embedding = make(embeddings_cache=SimpleKVStore())
    embedding.get_text_embedding_batch(["a", "b"])
    embedding.get_query_embedding("c")
    cache = embedding.embeddings_cache
    assert isinstance(cache, BaseKVStore)
    assert set(cache.get_all()) == {"a", "b"}
    assert cache.delete("b")
    assert set(cache.get_all()) == {"a"}
    assert not hasattr(cache, "no_such_method")
    path = str(tmp_path / "cache.json")
    cache.persist(path)
    again = make(embeddings_cache=SimpleKVStore.from_persist_path(path))
    assert again.get_text_embedding("a") == emulator.vector("a")
    assert again.usage.requests == 0


async def test_the_cache_can_be_used_like_the_store_without_blocking(make: Make) -> None:
    """The store's async methods see the same."""
    cache = make(embeddings_cache=SimpleKVStore()).embeddings_cache
    await cache.aput("a", {"vector": [1.0]})
    assert await cache.aget("a") == {"vector": [1.0]}
    assert await cache.aget_all() == cache.get_all() == {"a": {"vector": [1.0]}}
    assert await cache.adelete("a")
    assert cache.get("a") is None


def test_a_store_with_a_length_is_used_from_the_start(make: Make) -> None:
    """An empty store that is false is a cache all the same."""
    embedding = make(embeddings_cache=LengthyStore())
    embedding.get_text_embedding("a")
    embedding.get_text_embedding("a")
    assert embedding.usage.requests == 1


def test_it_is_written_without_its_cache(make: Make, store: SimpleKVStore) -> None:
    """`to_dict` and `to_json` work with a cache, and leave it out."""
    embedding = make(embeddings_cache=store)
    embedding.get_text_embedding("a")
    assert "embeddings_cache" not in embedding.to_dict()
    assert OpenSearchEmbedding.from_json(embedding.to_json(), api_key="x").embeddings_cache is None
    assert "ModelCache" in repr(embedding)


def test_a_pickle_takes_the_cache_along(make: Make, store: SimpleKVStore) -> None:
    """A worker process starts with what the cache held."""
    embedding = make(embeddings_cache=store)
    vectors = embedding.get_query_embedding("a"), embedding.get_text_embedding("a")
    again = pickle.loads(pickle.dumps(embedding))
    assert (again.get_query_embedding("a"), again.get_text_embedding("a")) == vectors
    assert again.usage.requests == 0


def test_a_cache_that_cannot_be_pickled_stays_behind(
    make: Make, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A pickle goes without it and says so; the embedding that was pickled keeps it."""
    embedding = make(embeddings_cache=LockedStore())
    again = pickle.loads(pickle.dumps(embedding))
    assert "embeddings_cache cannot be pickled" in caplog.text
    assert again.embeddings_cache is None
    assert again.get_text_embedding("a") == emulator.vector("a")
    assert isinstance(embedding.embeddings_cache.store, LockedStore)


def test_copies_share_the_store(make: Make, emulator: Emulator) -> None:
    """Copies use the same store, each as its own model."""
    embedding = make(embeddings_cache=LockedStore())
    embedding.get_text_embedding("a")
    twin = copy.deepcopy(embedding)
    assert twin == embedding
    assert len({twin.embeddings_cache, embedding.embeddings_cache}) == 1
    assert twin.get_text_embedding("a") == emulator.vector("a")
    assert twin.usage.requests == 0
    other = embedding.model_copy(update={"model_name": "ops-text-embedding-001"})
    assert other != embedding
    assert embedding.model_copy(update={"embeddings_cache": SimpleKVStore()}) != embedding
    assert other.get_text_embedding("a") == emulator.vector("a", model="ops-text-embedding-001")


# --- errors, and texts that are no texts ---


def test_errors_count_in_the_batch_and_not_in_what_is_missing(
    make: Make, emulator: Emulator, store: SimpleKVStore, call: Callable[..., Any]
) -> None:
    """`completed` holds what the cache knew; with `pending` it is exactly the framework's batch."""
    embedding = make(embeddings_cache=store)
    embedding.get_text_embedding_batch(["b", "d"])
    emulator.fail_next(400)
    with pytest.raises(InvalidRequest) as caught:
        call(embedding.get_text_embedding_batch, list("abcde"))
    assert caught.value.completed == {1: emulator.vector("b"), 3: emulator.vector("d")}
    assert caught.value.pending == [0, 2, 4]
    assert "The cache held 2 of the 5 texts of this batch." in caught.value.__notes__


def test_a_bad_text_is_named_by_its_place_in_the_batch(
    make: Make, store: SimpleKVStore, call: Callable[..., Any]
) -> None:
    """`index` and the message agree, whatever the cache held."""
    embedding = make(embeddings_cache=store)
    embedding.get_text_embedding_batch(["b", "d"])
    with pytest.raises(InputError, match=r"texts\[4\] is empty") as caught:
        call(embedding.get_text_embedding_batch, ["a", "b", "c", "d", ""])
    assert caught.value.index == 4
    assert sorted([*caught.value.completed, *caught.value.pending]) == [0, 1, 2, 3, 4]


def test_an_empty_text_is_not_kept(make: Make, store: SimpleKVStore, call: Callable[..., Any]) -> None:
    """What an empty text gets is a choice of each embedding, so it does not travel through a shared store."""
    lenient, strict = make(embeddings_cache=store, empty="zero"), make(embeddings_cache=store)
    assert call(lenient.get_text_embedding_batch, ["", "a"])[0] == [0.0] * 1024
    assert call(lenient.get_text_embedding, "") == [0.0] * 1024
    for method, argument in ((strict.get_text_embedding, ""), (strict.get_text_embedding_batch, ["a", ""])):
        with pytest.raises(InputError):
            call(method, argument)


def test_what_is_no_text_gets_our_error(make: Make, store: SimpleKVStore, call: Callable[..., Any]) -> None:
    """A store is not asked for something that it could not look up."""
    embedding = make(embeddings_cache=store)
    nonsense: Any
    for nonsense in (None, {}, 5):
        with pytest.raises(InputError, match="not a str"):
            call(embedding.get_query_embedding, nonsense)
        with pytest.raises(InputError, match=r"texts\[1\] is not a str"):
            call(embedding.get_text_embedding_batch, ["a", nonsense])
