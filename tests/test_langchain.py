"""The LangChain adapter: the framework's own suites, roles, settings, secrets, copies."""

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interfaces import EMULATOR_KEY, made_of
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.embeddings import Embeddings
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import SecretStr, ValidationError
from pyrate_limiter import Duration, Limiter, Rate

from langchain_opensearch_embed import OpenSearchEmbeddings
from opensearch_embed import (
    AuthenticationError,
    ConfigurationError,
    InputError,
    InvalidRequest,
    ServiceUnavailable,
)
from opensearch_embed.emulator import Emulator

Make = Callable[..., OpenSearchEmbeddings]


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Make]:
    """Make embeddings of the emulator; what is not said is unlimited."""
    yield from made_of(OpenSearchEmbeddings, emulator)


# --- the framework's own suites ---


class TestStandardUnit(EmbeddingsUnitTests):
    """What LangChain expects of any embeddings, without a server."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        """The class under test."""
        return OpenSearchEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        """What it is made with."""
        return {"endpoint": "http://127.0.0.1:1", "api_key": EMULATOR_KEY}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """Environment, arguments, and the attributes that they make."""
        environment = {
            "OPENSEARCH_API_KEY": EMULATOR_KEY,
            "OPENSEARCH_ENDPOINT": "default-abc.example.com",
            "OPENSEARCH_WORKSPACE": "ws",
            "OPENSEARCH_MODEL": "ops-text-embedding-001",
        }
        attributes = {
            "api_key": EMULATOR_KEY,
            "endpoint": "https://default-abc.example.com",
            "workspace": "ws",
            "model": "ops-text-embedding-001",
            "dimension": 1536,
        }
        return environment, {}, attributes


class TestStandardIntegration(EmbeddingsIntegrationTests):
    """What LangChain expects of any embeddings, over the wire."""

    @pytest.fixture(autouse=True)
    def _serve(self, emulator: Emulator) -> None:
        self.endpoint = emulator.url

    @property
    def embeddings_class(self) -> type[Embeddings]:
        """The class under test."""
        return OpenSearchEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        """What it is made with."""
        return {"endpoint": self.endpoint, "api_key": EMULATOR_KEY}


# --- the four methods ---


def test_documents_are_documents(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """`embed_documents` and its twin say `document`, and keep the order over many requests."""
    texts = [f"text {i}" for i in range(70)]
    assert call(make().embed_documents, texts) == [emulator.vector(text) for text in texts]
    assert [request.body["input_type"] for request in emulator.requests] == ["document"] * 3


def test_queries_are_queries(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """`embed_query` and its twin say `query`."""
    assert call(make().embed_query, "a") == emulator.vector("a", "query") != emulator.vector("a")
    assert [request.body["input_type"] for request in emulator.requests] == ["query"]


def test_no_documents_need_no_request(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """An empty list gives an empty list."""
    assert call(make().embed_documents, []) == []
    assert emulator.requests == []


def test_a_vector_store_finds_what_it_holds(make: Make) -> None:
    """The question finds the document with its words."""
    store = InMemoryVectorStore.from_texts(["tall mountains of the Alps", "bread and butter"], make())
    assert store.similarity_search("mountains", k=1)[0].page_content.startswith("tall")


def test_the_progress_bar_shows_where_it_is_asked_for(
    make: Make, call: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """`show_progress_bar` shows a bar for documents; without it there is none."""
    call(make().embed_documents, ["a", "b"])
    assert capsys.readouterr().err == ""
    call(make(show_progress_bar=True).embed_documents, ["a", "b"])
    assert "2/2" in capsys.readouterr().err


def test_usage_and_dimension_can_be_read(make: Make) -> None:
    """`dimension` needs no request; `usage` tells what this object has spent."""
    embeddings = make(model="ops-text-embedding-001")
    assert embeddings.dimension == 1536
    assert embeddings.usage.requests == 0
    embeddings.embed_documents(["a", "b"])
    embeddings.embed_query("c")
    assert (embeddings.usage.requests, embeddings.usage.texts) == (2, 3)


async def test_it_works_again_after_it_was_closed(make: Make, emulator: Emulator) -> None:
    """A call after `close` or `aclose` opens new connections."""
    embeddings = make()
    for _ in range(2):
        assert embeddings.embed_query("a") == await embeddings.aembed_query("a") == emulator.vector("a", "query")
        embeddings.close()
        await embeddings.aclose()


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key": None}, "No api_key"),
        ({"api_key": " "}, "api_key is blank"),
        ({"endpoint": None}, "No endpoint"),
        ({"model": "no-such"}, "Unknown model 'no-such'"),
        ({"dimension": 5}, "has dimension 1024"),
        ({"endpoint": "http://example.com"}, "plain http"),
        ({"api_kay": EMULATOR_KEY}, "Unknown argument 'api_kay'. Did you mean 'api_key'"),
        ({"model_name": "ops-text-embedding-001"}, "Unknown argument 'model_name'"),
        ({"timeout": "soon"}, "timeout"),
        ({"qps": -1}, "qps"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_attempts": 0}, "use max_attempts=1"),
        ({"empty": "skip"}, "empty"),
        ({"limiter": 5}, "limiter must be"),
    ],
)
def test_bad_settings_fail_in_the_constructor(make: Make, settings: dict[str, Any], message: str) -> None:
    """A setting that makes no sense raises our error, which says what and never shows the key."""
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    assert message in str(caught.value)
    assert EMULATOR_KEY not in repr(caught.value) + str(caught.value.__cause__)


@pytest.mark.parametrize("name", ["api_key", "model", "show_progress_bar"])
def test_it_is_frozen(make: Make, name: str) -> None:
    """No field can be assigned, and the error does not show what was."""
    with pytest.raises(ValidationError, match="frozen") as caught:
        setattr(make(), name, "OS-another")
    assert "OS-another" not in f"{caught.value} {caught.value.errors()}"


def test_settings_reach_the_core(make: Make, emulator: Emulator) -> None:
    """`max_attempts`, `empty` and `workspace` do what they do in the core."""
    emulator.fail_next(500)
    with pytest.raises(ServiceUnavailable):
        make(max_attempts=1).embed_query("a")
    assert make(empty="zero").embed_documents([""]) == [[0.0] * 1024]
    make(workspace="mine").embed_query("a")
    assert "/workspaces/mine/" in emulator.requests[-1].path


def test_a_secret_string_is_a_key_too(make: Make, emulator: Emulator) -> None:
    """`api_key` may be a `SecretStr`."""
    assert make(api_key=SecretStr(EMULATOR_KEY)).embed_query("a") == emulator.vector("a", "query")


def test_a_path_is_a_ca_bundle_too(make: Make, tmp_path: Path) -> None:
    """`ca_bundle` may be a `Path`, as in the core; the field is text."""
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    assert make(ca_bundle=bundle).ca_bundle == str(bundle)


# --- errors ---


def test_a_bad_text_is_named(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """`index` counts in the list; nothing is sent."""
    with pytest.raises(InputError, match=r"texts\[40\] is empty") as caught:
        call(make().embed_documents, ["a"] * 40 + [""])
    assert caught.value.index == 40
    assert emulator.requests == []


def test_an_error_says_what_was_received(make: Make, emulator: Emulator, call: Callable[..., Any]) -> None:
    """`completed` and `pending` are exactly the list."""
    texts = [f"text {i}" for i in range(160)]
    emulator.fail_next(400)
    with pytest.raises(InvalidRequest) as caught:
        call(make(max_concurrency=2).embed_documents, texts)
    error = caught.value
    assert sorted([*error.completed, *error.pending]) == list(range(160))
    assert error.completed == {i: emulator.vector(texts[i]) for i in error.completed}


def test_no_error_shows_the_key(make: Make, emulator: Emulator) -> None:
    """A server that echoes the key does not bring it into our errors."""
    emulator.fail_next(403, body=f"bad key {EMULATOR_KEY}")
    with pytest.raises(AuthenticationError) as caught:
        make().embed_query("a")
    assert EMULATOR_KEY not in f"{caught.value!r} {caught.value.__cause__!r} {vars(caught.value)}"


# --- what is written down, and copies ---


def test_the_key_is_written_nowhere(make: Make) -> None:
    """No representation or serialised form carries the key."""
    embeddings = make()
    written = [
        repr(embeddings),
        str(embeddings),
        repr(embeddings.model_dump()),
        embeddings.model_dump_json(),
        json.dumps(OpenSearchEmbeddings.model_json_schema()),
        repr(vars(embeddings)),
    ]
    assert [text for text in written if EMULATOR_KEY in text] == []


COPIERS: list[Callable[[OpenSearchEmbeddings], OpenSearchEmbeddings]] = [
    lambda embeddings: pickle.loads(pickle.dumps(embeddings)),
    copy.copy,
    copy.deepcopy,
    lambda embeddings: embeddings.model_copy(),
    lambda embeddings: embeddings.model_copy(deep=True),
]


@pytest.mark.parametrize("copier", COPIERS, ids=["pickle", "copy", "deepcopy", "model_copy", "model_copy deep"])
def test_a_copy_is_the_same_and_works(
    monkeypatch: pytest.MonkeyPatch, emulator: Emulator, copier: Callable[[OpenSearchEmbeddings], OpenSearchEmbeddings]
) -> None:
    """A copy has every setting and the key, whatever the environment says by then; its usage starts at nothing."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", EMULATOR_KEY)
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
    monkeypatch.setenv("OPENSEARCH_MODEL", "ops-text-embedding-001")
    embeddings = OpenSearchEmbeddings(qps=None, max_concurrency=3)
    embeddings.embed_query("a")
    for name in ("API_KEY", "ENDPOINT", "MODEL"):
        monkeypatch.delenv(f"OPENSEARCH_{name}")
    again = copier(embeddings)
    assert again == embeddings
    assert again.usage.requests == 0
    assert again.embed_query("a") == emulator.vector("a", "query", "ops-text-embedding-001")
    assert embeddings.usage.requests == 1


def test_an_updated_copy_is_what_it_says(make: Make, emulator: Emulator) -> None:
    """`model_copy(update=...)` makes another client; a new model brings its own dimension."""
    embeddings = make()
    other = embeddings.model_copy(update={"model": "ops-text-embedding-001"})
    assert (other.model, other.dimension) == ("ops-text-embedding-001", 1536)
    assert other.embed_query("a") == emulator.vector("a", "query", "ops-text-embedding-001")
    assert embeddings.embed_query("a") == emulator.vector("a", "query")
    with pytest.raises(ConfigurationError, match="Did you mean 'qps'"):
        embeddings.model_copy(update={"qpz": 5})


def test_copies_share_a_limiter(make: Make) -> None:
    """A limiter is one for an object and its copies."""
    embeddings = make(limiter=Limiter(Rate(5, Duration.SECOND)))
    assert copy.deepcopy(embeddings).limiter is embeddings.limiter


# --- what the docs say of stores and caches ---


def test_the_frameworks_cache_mixes_up_roles(make: Make, emulator: Emulator) -> None:
    """With `query_embedding_cache=True` a query gets the document's vector; a store apart mends it."""
    embeddings = make()
    for query_cache, role in ((True, "document"), (InMemoryByteStore(), "query")):
        backed = CacheBackedEmbeddings.from_bytes_store(
            embeddings,
            InMemoryByteStore(),
            namespace=embeddings.model,
            key_encoder="sha256",
            query_embedding_cache=query_cache,
        )
        backed.embed_documents(["tea"])
        assert backed.embed_query("tea") == emulator.vector("tea", role)


def test_our_cache_keeps_roles_apart(make: Make, emulator: Emulator, tmp_path: Path) -> None:
    """`cache=` hands out a query's vector for a query, and a document's for a document."""
    for _ in range(2):
        embeddings = make(cache=tmp_path / "vectors.db")
        assert embeddings.embed_documents(["tea"]) == [emulator.vector("tea")]
        assert embeddings.embed_query("tea") == emulator.vector("tea", "query")
    assert len(emulator.requests) == 2


def test_a_zero_vector_comes_before_most_texts_at_l2_distance(make: Make) -> None:
    """As the docs say of stores that go by it: it is at distance 1, and a text of cosine below 0.5 is farther."""
    embeddings = make(empty="zero")
    zero, text = (np.array(vector) for vector in embeddings.embed_documents(["", "bread and butter"]))
    query = np.array(embeddings.embed_query("tall mountains of the Alps"))
    query, text = query / np.linalg.norm(query), text / np.linalg.norm(text)
    assert query @ text < 0.5
    assert np.linalg.norm(query - zero) == pytest.approx(1)
    assert np.linalg.norm(query - text) > 1


@pytest.mark.parametrize("query", ["", " \n"])
@pytest.mark.parametrize("empty", ["error", "zero"])
def test_an_empty_query_is_refused(
    make: Make, emulator: Emulator, call: Callable[..., Any], query: str, empty: str
) -> None:
    """Whatever `empty` says, through a store as well."""
    embeddings = make(empty=empty)
    with pytest.raises(InputError, match="is empty"):
        call(embeddings.embed_query, query)
    store = InMemoryVectorStore.from_texts(["tea"], embeddings)
    with pytest.raises(InputError, match="is empty"):
        store.similarity_search(query)
    assert len(emulator.requests) == 1
