"""The LlamaIndex adapter: roles, settings, secrets, copies. Cache and framework have files of their own."""

import copy
import json
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interfaces import EMULATOR_KEY, made_of
from llama_index.core.callbacks import CallbackManager
from pydantic import SecretStr
from pyrate_limiter import Duration, Limiter, Rate
from servers import Connection, RawRequest, RawServer, honest

from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import (
    AuthenticationError,
    ConfigurationError,
    InputError,
    InvalidRequest,
    ServiceUnavailable,
    TransportError,
)
from opensearch_embed.emulator import Emulator

Make = Callable[..., OpenSearchEmbedding]


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Make]:
    """Make embeddings of the emulator; what is not said is unlimited."""
    yield from made_of(OpenSearchEmbedding, emulator)


def roles(emulator: Emulator) -> list[str]:
    """Return the role that each request so far has named."""
    return [request.body["input_type"] for request in emulator.requests]


# --- the six methods ---


def test_text_methods_embed_documents(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """A text, or a list of texts, gets document vectors in its order."""
    embedding = make()
    assert call(embedding.get_text_embedding, "one") == emulator.vector("one")
    texts = [f"text {i}" for i in range(70)]
    assert call(embedding.get_text_embedding_batch, texts) == [emulator.vector(text) for text in texts]
    assert set(roles(emulator)) == {"document"}
    assert len(emulator.requests) == 4


def test_query_methods_embed_queries(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """A query, or the mean of several, gets query vectors."""
    embedding = make()
    assert call(embedding.get_query_embedding, "one") == emulator.vector("one", "query")
    mean = call(embedding.get_agg_embedding_from_queries, ["one", "two"])
    both = zip(emulator.vector("one", "query"), emulator.vector("two", "query"), strict=True)
    assert mean == pytest.approx([(a + b) / 2 for a, b in both])
    assert set(roles(emulator)) == {"query"}


async def test_private_methods_are_native_in_both_worlds(make: Make, emulator: Emulator) -> None:
    """Each of the six methods that the framework calls says its role, sync and async."""
    embedding = make()
    document, query = emulator.vector("x"), emulator.vector("x", "query")
    assert embedding._get_text_embedding("x") == await embedding._aget_text_embedding("x") == document
    assert embedding._get_text_embeddings(["x"]) == await embedding._aget_text_embeddings(["x"]) == [document]
    assert embedding._get_query_embedding("x") == await embedding._aget_query_embedding("x") == query
    assert roles(emulator) == ["document"] * 4 + ["query"] * 2
    await embedding.aclose()


def test_the_default_batch_is_32_requests(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """1,025 texts travel as a batch of 32 full requests, and one more."""
    call(make().get_text_embedding_batch, [f"text {i}" for i in range(1025)])
    assert sorted(len(request.body["input"]) for request in emulator.requests) == [1] + [32] * 32


def test_requests_of_one_batch_are_under_way_at_once(make: Make) -> None:
    """The sync path is concurrent inside one batch of the framework."""
    with Emulator(qps=None, latency_ms=100) as slow:
        embedding = make(endpoint=slow.url, api_key=slow.api_key)
        embedding.get_text_embedding_batch([f"text {i}" for i in range(8 * 32)])
        assert slow.max_in_flight == 8


def test_no_texts_need_no_request(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """An empty list gives an empty list."""
    assert call(make().get_text_embedding_batch, []) == []
    assert emulator.requests == []


def test_another_model_is_asked_for_by_name(make: Make, emulator: Emulator) -> None:
    """`model_name` is the service id, and decides the dimension."""
    embedding = make(model_name="ops-text-embedding-001")
    assert embedding.dimension == 1536
    vector = embedding.get_text_embedding("x")
    assert vector == emulator.vector("x", model="ops-text-embedding-001")
    assert "/ops-text-embedding-001" in emulator.requests[0].path


def test_usage_counts(make: Make) -> None:
    """`usage` tells what this object has spent."""
    embedding = make()
    embedding.get_text_embedding_batch(["a", "b"])
    embedding.get_query_embedding("c")
    assert (embedding.usage.requests, embedding.usage.texts) == (2, 3)


def test_it_works_again_after_close(make: Make, emulator: Emulator) -> None:
    """A call after `close` opens new connections."""
    embedding = make()
    embedding.get_text_embedding("a")
    embedding.close()
    assert embedding.get_text_embedding("a") == emulator.vector("a")


# --- settings ---


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    """With the environment set no argument is needed, and the fields hold what is in use."""
    values = {
        "API_KEY": EMULATOR_KEY,
        "ENDPOINT": emulator.url,
        "WORKSPACE": "ws",
        "MODEL": "ops-text-embedding-zh-001",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"OPENSEARCH_{name}", value)
    embedding = OpenSearchEmbedding()
    assert (embedding.endpoint, embedding.workspace) == (emulator.url, "ws")
    assert (embedding.model_name, embedding.dimension) == ("ops-text-embedding-zh-001", 768)
    assert embedding.api_key is not None
    assert embedding.api_key.get_secret_value() == EMULATOR_KEY


def test_a_secret_string_is_a_key_too(make: Make, emulator: Emulator) -> None:
    """`api_key` may be a `SecretStr`."""
    assert make(api_key=SecretStr(EMULATOR_KEY)).get_text_embedding("a") == emulator.vector("a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key": " "}, "api_key is blank"),
        ({"endpoint": None}, "No endpoint"),
        ({"model_name": "no-such"}, "Unknown model 'no-such'"),
        ({"endpoint": "http://example.com"}, "plain http"),
        ({"api_kay": EMULATOR_KEY}, "Unknown argument 'api_kay'. Did you mean 'api_key'"),
        ({"model": "ops-text-embedding-001"}, "Unknown argument 'model'. Did you mean 'model_name'"),
        ({"timeout": "soon"}, "timeout"),
        ({"qps": -1}, "qps"),
        ({"max_attempts": 0}, "use max_attempts=1"),
        ({"empty": "skip"}, "empty"),
        ({"embed_batch_size": 0}, "embed_batch_size"),
        ({"limiter": 5}, "limiter must be"),
        ({"embeddings_cache": {}}, "embeddings_cache must be a BaseKVStore"),
    ],
)
def test_bad_settings_fail_in_the_constructor(make: Make, settings: dict[str, Any], message: str) -> None:
    """A setting that makes no sense raises our error, which says what and never shows the key."""
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    assert message in str(caught.value)
    assert EMULATOR_KEY not in repr(caught.value) + str(caught.value.__cause__)


@pytest.mark.parametrize("name", ["api_key", "model_name", "qps", "dimension"])
def test_arguments_of_the_client_are_fixed(make: Make, name: str) -> None:
    """Assigning what the client was made with fails and says what to do instead, and does not show the value."""
    with pytest.raises(AttributeError, match=f"{name} is fixed.*model_copy") as caught:
        setattr(make(), name, "OS-another")
    assert "OS-another" not in str(caught.value)


# --- errors ---


def test_an_error_counts_within_the_batch(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """`index` of a bad text is its place in the framework's batch."""
    texts = ["a", "b", "c", "d", "e", ""]
    with pytest.raises(InputError, match=r"texts\[2\]") as caught:
        call(make(embed_batch_size=3).get_text_embedding_batch, texts)
    assert caught.value.index == 2
    assert caught.value.pending == [0, 1, 2]
    sent = [request.body["input"] for request in emulator.requests]
    assert sent in ([], [["a", "b", "c"]])


def test_an_error_says_what_was_received(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """`completed` and `pending` of a failed batch are exactly the batch."""
    texts = [f"text {i}" for i in range(160)]
    emulator.fail_next(400, code="InvalidParameter")
    with pytest.raises(InvalidRequest) as caught:
        call(make(max_concurrency=2).get_text_embedding_batch, texts)
    error = caught.value
    assert sorted([*error.completed, *error.pending]) == list(range(160))
    assert len(error.pending) >= 32
    assert error.completed == {i: emulator.vector(texts[i]) for i in error.completed}


def test_an_interrupt_counts_within_the_batch() -> None:
    """Ctrl-C says of the batch what an error says, and not of the whole list."""
    texts = [f"text {i}" for i in range(400)]

    def interrupting(connection: Connection, request: RawRequest) -> None:
        if "text 199" in request.json["input"]:
            os.kill(os.getpid(), signal.SIGINT)
        honest(connection, request)

    with RawServer(default=interrupting) as server:
        embedding = OpenSearchEmbedding(endpoint=server.url, api_key=EMULATOR_KEY, embed_batch_size=150)
        with pytest.raises(KeyboardInterrupt) as caught:
            embedding.get_text_embedding_batch(texts)
    error: Any = caught.value
    if hasattr(error, "pending"):  # it may come between two lines of the framework's own
        assert sorted([*error.completed, *error.pending]) in (list(range(150)), list(range(100)))


def test_no_error_shows_the_key(make: Make, emulator: Emulator) -> None:
    """A server that echoes the key does not bring it into our errors."""
    emulator.fail_next(403, body=f"bad key {EMULATOR_KEY}")
    with pytest.raises(AuthenticationError) as caught:
        make().get_text_embedding("a")
    assert EMULATOR_KEY not in f"{caught.value!r} {caught.value.__cause__!r} {vars(caught.value)}"


def test_a_passing_fault_is_mended(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """A fault that goes away is not seen by the framework."""
    emulator.fail_next(429, code="Throttling.RateQuota", retry_after=0.01)
    emulator.break_next("drop")
    embedding = make()
    assert call(embedding.get_query_embedding, "a") == emulator.vector("a", "query")
    assert embedding.usage.retries == 2


def test_retry_settings_reach_the_core(make: Make, emulator: Emulator) -> None:
    """`max_attempts=1` sends once."""
    emulator.fail_next(500)
    with pytest.raises(ServiceUnavailable):
        make(max_attempts=1).get_text_embedding("a")
    assert len(emulator.requests) == 1


def test_timeout_reaches_the_core(make: Make, emulator: Emulator) -> None:
    """A server that never answers costs `timeout` seconds."""
    emulator.break_next("hang")
    with pytest.raises(TransportError):
        make(timeout=0.1, max_attempts=1).get_text_embedding("a")


def test_an_empty_text_may_be_zero(make: Make, emulator: Emulator) -> None:
    """With `empty="zero"` a blank page gets a zero vector."""
    vectors = make(empty="zero").get_text_embedding_batch(["a", ""])
    assert vectors == [emulator.vector("a"), [0.0] * 1024]


# --- what is written down, and what is not ---


def test_the_key_is_written_nowhere(make: Make) -> None:
    """No representation or serialised form carries the key."""
    embedding = make()
    written = [
        repr(embedding),
        str(embedding),
        repr(embedding.to_dict()),
        embedding.to_json(),
        repr(embedding.to_payload()) if hasattr(embedding, "to_payload") else "",  # newer than the lowest version
        repr(embedding.model_dump()),
        embedding.model_dump_json(),
        json.dumps(type(embedding).model_json_schema()),
        repr(list(embedding.__repr_args__())),
        repr(embedding.__rich_repr__()),
        repr(vars(embedding)),
    ]
    assert [text for text in written if EMULATOR_KEY in text] == []
    assert "api_key" not in embedding.to_dict()


def test_a_dict_makes_the_same_embedding(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """`from_dict(to_dict())` keeps every setting; the key comes from the environment."""
    embedding = make(
        model_name="my-model",
        dimension=640,
        workspace="ws",
        qps=None,
        max_concurrency=3,
        timeout=7.5,
        retry_timeout=8.5,
        max_attempts=4,
        empty="zero",
        allow_http=True,
        proxy="http://proxy.example:3128",
        embed_batch_size=77,
        num_workers=5,
    )
    monkeypatch.setenv("OPENSEARCH_API_KEY", EMULATOR_KEY)
    by_dict = OpenSearchEmbedding.from_dict(embedding.to_dict())
    by_json = OpenSearchEmbedding.from_json(embedding.to_json())
    for again in (by_dict, by_json):
        assert again.to_dict() == embedding.to_dict()
        assert again.api_key == embedding.api_key
    assert (by_dict.qps, by_dict.embed_batch_size, by_dict.num_workers, by_dict.dimension) == (None, 77, 5, 640)


@pytest.mark.parametrize("overflow", ["truncate", "average", "error"])
def test_a_counter_that_cuts_is_not_lost_unsaid(make: Make, monkeypatch: pytest.MonkeyPatch, overflow: str) -> None:
    """A dict cannot hold it, and another one would cut elsewhere: it is asked for."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", EMULATOR_KEY)
    embedding = make(overflow=overflow, length_function=len)
    for stored in (embedding.to_dict(), json.loads(embedding.to_json())):
        assert stored["length_function"] == "len"
        with pytest.raises(ConfigurationError, match="'len' is the name of one: a function cannot be stored"):
            OpenSearchEmbedding.from_dict(dict(stored))
        again = OpenSearchEmbedding.from_dict(dict(stored), length_function=len)
        assert again.length_function is len
    assert "length_function" not in make(length_function=len).to_dict()


def test_class_name_is_written_down(make: Make) -> None:
    """The framework finds the class by `class_name`."""
    assert OpenSearchEmbedding.class_name() == make().to_dict()["class_name"] == "OpenSearchEmbedding"


# --- copies ---


COPIERS: list[Callable[[OpenSearchEmbedding], OpenSearchEmbedding]] = [
    lambda embedding: pickle.loads(pickle.dumps(embedding)),
    copy.copy,
    copy.deepcopy,
    lambda embedding: embedding.model_copy(),
    lambda embedding: embedding.model_copy(deep=True),
]


@pytest.mark.parametrize("copier", COPIERS, ids=["pickle", "copy", "deepcopy", "model_copy", "model_copy deep"])
def test_a_copy_is_the_same_and_works(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, copier: Callable[[OpenSearchEmbedding], OpenSearchEmbedding]
) -> None:
    """A copy has every setting and the key, whatever the environment says by then; its usage starts at nothing."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", EMULATOR_KEY)
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
    monkeypatch.setenv("OPENSEARCH_MODEL", "ops-text-embedding-001")
    embedding = OpenSearchEmbedding(qps=None, num_workers=3)
    embedding.get_text_embedding("a")
    for name in ("API_KEY", "ENDPOINT", "MODEL"):
        monkeypatch.delenv(f"OPENSEARCH_{name}")
    again = copier(embedding)
    assert again.to_dict() == embedding.to_dict()
    assert again.usage.requests == 0
    assert again.get_text_embedding("a") == emulator.vector("a", model="ops-text-embedding-001")
    assert embedding.usage.requests == 1


def test_an_updated_copy_is_what_it_says(make: Make, emulator: Emulator) -> None:
    """`model_copy(update=...)` makes another client; a new model brings its own dimension."""
    embedding = make()
    other = embedding.model_copy(update={"model_name": "ops-text-embedding-001", "embed_batch_size": 5})
    assert (other.model_name, other.dimension, other.embed_batch_size) == ("ops-text-embedding-001", 1536, 5)
    assert other.get_text_embedding("a") == emulator.vector("a", model="ops-text-embedding-001")
    assert embedding.get_text_embedding("a") == emulator.vector("a")


def test_an_update_that_makes_no_sense_fails(make: Make) -> None:
    """`model_copy` checks what it is given."""
    with pytest.raises(ConfigurationError, match="Did you mean 'qps'"):
        make().model_copy(update={"qpz": 5})
    with pytest.raises(ConfigurationError, match="has dimension 1024"):
        make().model_copy(update={"dimension": 5})


def test_copies_share_what_is_meant_to_be_shared(make: Make) -> None:
    """A limiter and a callback manager are one for an embedding and its copies."""
    embedding = make(limiter=Limiter(Rate(5, Duration.SECOND)), callback_manager=CallbackManager([]))
    twin = copy.deepcopy(embedding)
    assert twin.limiter is embedding.limiter
    assert twin.callback_manager is embedding.callback_manager
    assert twin == embedding


def test_unpickling_checks_nothing(make: Make, tmp_path: Path) -> None:
    """A pickle opens where a file of its settings is missing: an error there would hang a pool of workers."""
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    data = pickle.dumps(make(ca_bundle=bundle))
    bundle.unlink()
    assert pickle.loads(data).ca_bundle == str(bundle)
