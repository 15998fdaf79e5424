"""What both adapters promise alike: names from habit, keys unprinted, copies, types, contexts, assigned values."""

import asyncio
import copy
import inspect
import json
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

import langchain_opensearch_embed
import llama_index_opensearch_embed
import opensearch_embed
from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import ConfigurationError, EmbeddingClient, OpenSearchEmbedError
from opensearch_embed.emulator import Emulator

KEY = "OS-key-that-must-not-show"
KINDS: list[Any] = [OpenSearchEmbeddings, OpenSearchEmbedding]
by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def settings(emulator: Emulator) -> dict[str, Any]:
    """What is needed to reach the emulator."""
    return {"endpoint": emulator.url, "api_key": emulator.api_key, "qps": None}


def name_of_model(kind: Any) -> str:
    """Return what an adapter or the client calls the model."""
    return "model_name" if kind is OpenSearchEmbedding else "model"


def embed_query(made: Any) -> list[float]:
    """Embed a query with either adapter."""
    method = made.embed_query if isinstance(made, OpenSearchEmbeddings) else made.get_query_embedding
    vector: list[float] = method("a")
    return vector


def all_of(error: BaseException | None) -> str:
    """Return all that an error and those behind it show, with the local variables of their frames in this package."""
    shown = []
    while error is not None:
        shown += [str(error), repr(error), *getattr(error, "__notes__", ())]
        if isinstance(error, ValidationError):
            shown += [error.json(), repr(error.errors())]
        stack = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), capture_locals=True)
        shown += [repr(frame.locals) for frame in stack if "opensearch_embed/" in frame.filename]
        error = error.__cause__ or error.__context__
    return "\n".join(shown)


# --- names from habit ---

HABITS = [
    *(("chunk_size", "batch_size"), ("dimensions", "dimension"), ("openai_api_key", "api_key")),
    *(("openai_api_base", "endpoint"), ("api_base", "endpoint"), ("base_url", "endpoint"), ("url", "endpoint")),
    *(("opensearch_url", "endpoint"), ("host", "endpoint"), ("request_timeout", "timeout"), ("max_qps", "qps")),
    *(("max_retries", "max_attempts"), ("dashscope_api_key", "api_key"), ("aisearch_api_key", "api_key")),
    *(
        ("workspace_name", "workspace"),
        ("service_id", "model"),
        ("verify", "ca_bundle"),
        ("max_workers", "max_concurrency"),
    ),
    *(("embedding_model", "model"), ("deployment", "model"), ("proxies", "proxy"), ("apikey", "api_key")),
    *(("api_kye", "api_key"), ("max_concurency", "max_concurrency"), ("Endpoint", "endpoint"), ("qpz", "qps")),
]


@pytest.mark.parametrize("kind", [EmbeddingClient, *KINDS])
@pytest.mark.parametrize(("name", "meant"), HABITS)
def test_a_name_from_habit_gets_the_right_one(kind: Any, name: str, meant: str) -> None:
    """The table comes before any guess by likeness; the value is shown nowhere, since it may be a key."""
    meant = name_of_model(kind) if meant == "model" else meant
    with pytest.raises(ConfigurationError, match=f"Unknown argument '{name}'. Did you mean '{meant}'") as caught:
        kind(endpoint="host", **{name: KEY})
    assert KEY not in all_of(caught.value)


def test_the_model_has_another_name_in_each() -> None:
    """Who comes from one framework to the other is told."""
    with pytest.raises(ConfigurationError, match="Did you mean 'model'"):
        OpenSearchEmbeddings(model_name="x")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="Did you mean 'model_name'"):
        OpenSearchEmbedding(model="x")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="Did you mean 'batch_size'"):
        OpenSearchEmbeddings(embed_batch_size=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [EmbeddingClient, *KINDS])
@pytest.mark.parametrize(
    "name", ["default_headers", "http_client", "httpx_client", "client", "input_type", "organization", "output_dtype"]
)
def test_what_there_is_not_is_said(kind: Any, name: str) -> None:
    """Where no argument does it, the error says why instead of guessing."""
    with pytest.raises(ConfigurationError, match=f"Unknown argument '{name}'") as caught:
        kind(endpoint="host", api_key=KEY, **{name: {}})
    assert "Did you mean" not in str(caught.value)


def test_the_client_raises_pythons_error_too() -> None:
    """An unknown argument is a TypeError, as it is for any function."""
    with pytest.raises(TypeError):
        EmbeddingClient(chunk_size=3)  # type: ignore[call-arg]
    with pytest.raises(OpenSearchEmbedError) as caught:
        EmbeddingClient(chunk_size=3)  # type: ignore[call-arg]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


def test_attempts_are_not_retries() -> None:
    """The first attempt is counted here, and not elsewhere."""
    with pytest.raises(ConfigurationError, match="max_retries=2 is max_attempts=3"):
        OpenSearchEmbeddings(max_retries=2)  # type: ignore[call-arg]


# Where it is looked for, the name, where it is.
ELSEWHERE: list[tuple[Any, str, str]] = [
    (opensearch_embed, "OpenSearchEmbeddings", "langchain_opensearch_embed"),
    (opensearch_embed, "OpenSearchEmbedding", "llama_index_opensearch_embed"),
    (opensearch_embed, "Emulator", "opensearch_embed.emulator"),
    (langchain_opensearch_embed, "OpenSearchEmbedding", "llama_index_opensearch_embed"),
    (llama_index_opensearch_embed, "OpenSearchEmbeddings", "langchain_opensearch_embed"),
    (langchain_opensearch_embed, "EmbeddingClient", "opensearch_embed"),
    (llama_index_opensearch_embed, "ConfigurationError", "opensearch_embed"),
    (langchain_opensearch_embed, "Emulator", "opensearch_embed.emulator"),
]


@pytest.mark.parametrize(("module", "name", "home"), ELSEWHERE)
def test_an_import_from_habit_says_where_it_is(module: Any, name: str, home: str) -> None:
    """The error is the line to write instead, and that line works."""
    with pytest.raises(ImportError, match=rf"from {home} import {name}\b"):
        exec(f"from {module.__name__} import {name}", {})  # noqa: S102 - an import is what is tested
    exec(f"from {home} import {name}", {})  # noqa: S102


@pytest.mark.parametrize("module", [opensearch_embed, langchain_opensearch_embed, llama_index_opensearch_embed])
def test_any_other_name_is_an_attribute_error(module: Any) -> None:
    """What nobody of us has is missed as in any module."""
    assert not hasattr(module, "NoSuchThing")
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from {module.__name__} import NoSuchThing", {})  # noqa: S102


# --- the key in errors of others ---

WRONG: list[Any] = [
    {"qps": -1},
    {"qps": "fast"},
    {"api_kye": KEY},
    {"model": "no-such"},
    {"empty": "skip"},
    {"ca_bundle": "/no/such/file"},
    {"endpoint": KEY + "://"},
    {"timeout": {"api_key": KEY}},
]


@by_kind
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
def test_a_model_of_the_users_own_prints_no_key(kind: Any, wrong: dict[str, Any]) -> None:
    """As a field of another model, in Python and in JSON, directly and deeper, the settings are not printed."""
    field = kind

    class Config(BaseModel):
        embeddings: field | None = None
        several: list[field] = []
        other: int = 0

    given = {"endpoint": "host", "api_key": KEY} | wrong
    given = {name_of_model(kind) if name == "model" else name: value for name, value in given.items()}
    attempts: list[Callable[[], Any]] = [
        lambda: Config(embeddings=given),
        lambda: Config(several=[given], other=2),
        lambda: Config.model_validate({"embeddings": given}),
        lambda: Config.model_validate_json(json.dumps({"embeddings": given})),
        lambda: TypeAdapter(list[kind]).validate_python([given]),
        lambda: kind.model_validate(given),
        lambda: kind.model_validate_json(json.dumps(given)),
        lambda: kind.model_validate([KEY]),
        lambda: Config(embeddings=KEY),
    ]
    for attempt in attempts:
        with pytest.raises((ValidationError, ConfigurationError)) as caught:
            attempt()
        assert KEY not in all_of(caught.value)


@by_kind
def test_a_model_of_the_users_own_takes_what_is_right(kind: Any, settings: dict[str, Any]) -> None:
    """A dict makes an object that works; an object is taken as it is; an error says which field is wrong."""

    class Config(BaseModel):
        embeddings: kind

    config = Config(embeddings=settings)
    assert len(embed_query(config.embeddings)) == 1024
    assert Config(embeddings=config.embeddings).embeddings is config.embeddings
    with pytest.raises(ValidationError, match=r"embeddings\n.*qps") as caught:
        Config(embeddings=settings | {"qps": -1})
    assert caught.value.errors()[0]["loc"] == ("embeddings",)
    config.embeddings.close()


@by_kind
@pytest.mark.parametrize("name", ["apikey", "api_kye", "api_key", "key", "openai_api_key"])
def test_a_wrong_attribute_prints_no_value(kind: Any, settings: dict[str, Any], name: str) -> None:
    """Nothing is assigned, and no error shows what was to be."""
    with kind(**settings) as made, pytest.raises((ValueError, AttributeError)) as caught:
        setattr(made, name, "OS-another-secret")
    assert "OS-another-secret" not in all_of(caught.value)
    assert name in str(caught.value)


@by_kind
@pytest.mark.parametrize("wrong", [{"api_kye": KEY}, {"api_key": KEY, "qps": -1}, {"api_key": KEY, "endpoint": ""}])
def test_a_copy_that_fails_prints_no_value(kind: Any, wrong: dict[str, Any]) -> None:
    """What a copy is told is shown by no error, and by no frame."""
    made = kind(endpoint="host", api_key="OS-one")
    for copier in (made.copy, made.model_copy):
        with pytest.raises(ConfigurationError) as caught:
            copier(update=wrong)
        assert KEY not in all_of(caught.value)


def test_a_property_of_a_subclass_may_be_assigned() -> None:
    """What is no field may still be something that can be set."""

    class Mine(OpenSearchEmbedding):
        _label: str = pydantic.PrivateAttr("")

        @property
        def label(self) -> str:
            """A label."""
            return self._label

        @label.setter
        def label(self, label: str) -> None:
            self._label = label

    made = Mine(endpoint="host", api_key=KEY)
    made.label = "mine"
    assert made.label == "mine"


# --- assigned values ---


def test_a_frozen_object_says_how_to_make_another(settings: dict[str, Any]) -> None:
    """Nothing of LangChain's adapter can be assigned; the error has the way out."""
    with OpenSearchEmbeddings(**settings) as made:
        with pytest.raises(ValidationError, match=r"frozen.*model_copy\(update=\{'qps': \.\.\.\}\)"):
            made.qps = 5  # type: ignore[misc]
        with pytest.raises(ValidationError, match=r"'apikey'.*Did you mean 'api_key'.*model_copy\(update="):
            made.apikey = "OS-x"  # type: ignore[attr-defined]
        assert made.model_copy(update={"qps": 5}).qps == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("embed_batch_size", value) for value in (0, -1, 2049, "8", True, 1.5, None)),
        *(("num_workers", value) for value in ("2", True, 1.5)),
        ("embeddings_cache", {}),
    ],
)
def test_what_may_be_assigned_is_checked(settings: dict[str, Any], name: str, value: Any) -> None:
    """LlamaIndex assigns its own fields; a value that the constructor refuses is refused, and the old one stays."""
    with OpenSearchEmbedding(**settings) as made:
        before = getattr(made, name)
        with pytest.raises(ConfigurationError, match=name):
            setattr(made, name, value)
        assert getattr(made, name) is before
        with pytest.raises(ConfigurationError, match=name):
            OpenSearchEmbedding(**settings, **{name: value})


def test_what_is_right_is_assigned(settings: dict[str, Any], emulator: Emulator) -> None:
    """A value that the constructor takes is taken later, and counts."""
    with OpenSearchEmbedding(**settings) as made:
        made.embed_batch_size = 2
        made.num_workers = 3
        made.rate_limiter = None
        assert (made.embed_batch_size, made.num_workers) == (2, 3)
        assert made.get_text_embedding_batch(["a", "b", "c"]) == [emulator.vector(text) for text in "abc"]


# --- values that are none ---


@by_kind
@pytest.mark.parametrize(
    "name", ["qps", "timeout", "retry_timeout", "max_attempts", "max_concurrency", "batch_size", "dimension"]
)
@pytest.mark.parametrize("value", [True, False, "5", [5]])
def test_true_is_no_number(kind: Any, name: str, value: Any) -> None:
    """Pydantic would take True for 1, and a str for its number; the core takes neither, and so do the adapters."""
    with pytest.raises(ConfigurationError, match=name):
        kind(endpoint="host", api_key=KEY, **{name: value})


@by_kind
@pytest.mark.parametrize("name", ["allow_http", "compression", "show_progress_bar"])
@pytest.mark.parametrize("value", ["no", "yes", 1, 0, None])
def test_a_word_is_no_truth(kind: Any, name: str, value: Any) -> None:
    """Neither "no" nor 0 is false by itself."""
    with pytest.raises(ConfigurationError, match=name):
        kind(endpoint="host", api_key=KEY, **{name: value})


# --- copies and dumps ---


class V1Secret:
    """What pydantic v1's SecretStr is, for whoever asks."""

    def get_secret_value(self) -> str:
        """Return the secret."""
        return KEY


@by_kind
def test_a_secret_of_pydantic_v1_is_a_key(kind: Any) -> None:
    """Whatever hands out a secret string serves, in the constructor and in a copy."""
    made = kind(endpoint="host", api_key=V1Secret())
    assert isinstance(made.api_key, SecretStr)
    assert made.api_key.get_secret_value() == KEY
    again = kind(endpoint="host", api_key="OS-other").model_copy(update={"api_key": V1Secret()})
    assert again.api_key == made.api_key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydantic.v1 import SecretStr as OldSecretStr
    assert kind(endpoint="host", api_key=OldSecretStr(KEY)).api_key == made.api_key


@by_kind
def test_a_copy_with_other_settings_uses_them(kind: Any, settings: dict[str, Any], emulator: Emulator) -> None:
    """`copy` and `model_copy` alike: the key, the endpoint, the model that the copy is told."""
    with Emulator(vectors="lexical", qps=None, api_key="OS-another") as other:
        made = kind(**settings)
        update = {"api_key": "OS-another", "endpoint": other.url, name_of_model(kind): "ops-text-embedding-001"}
        for twin in (
            made.copy(update=update),
            made.model_copy(update=update),
            made.model_copy(update=update, deep=True),
        ):
            assert len(embed_query(twin)) == twin.dimension == 1536
            twin.close()
        assert len(other.requests) == 3
        assert made.copy() == made
        with pytest.raises(ConfigurationError, match="Did you mean 'qps'"):
            made.copy(update={"qpz": 5})
        with pytest.raises(ConfigurationError, match="qps"):
            made.copy(update={"qps": -1})
        made.close()
    assert emulator.requests == []


@by_kind
def test_a_dump_makes_the_same_object(kind: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`model_validate(model_dump())` and `kind(**model_dump())` keep every setting, whatever is left out of a dump."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", settings["api_key"])
    made = kind(**settings, max_concurrency=3, empty="zero", overflow="average", timeout=7.5, workspace="mine")
    dump = made.model_dump()
    for again in (kind.model_validate(dump), kind(**dump), kind(**made.model_dump(exclude={"api_key"}, mode="json"))):
        assert again.model_dump() == dump
        assert again.api_key == made.api_key
    assert len(embed_query(made)) == 1024
    made.close()


class Regional(OpenSearchEmbeddings):
    """A user's own LangChain class, whose constructor takes something else."""

    region: str = "cn"
    _seen: list[str] = pydantic.PrivateAttr(default_factory=list)

    def __init__(self, region: str, url: str) -> None:
        super().__init__(endpoint=url, api_key="OS-key-that-must-not-show", region=region)  # type: ignore[call-arg]


class RegionalIndex(OpenSearchEmbedding):
    """A user's own LlamaIndex class, whose constructor takes something else."""

    region: str = "cn"
    _seen: list[str] = pydantic.PrivateAttr(default_factory=list)

    def __init__(self, region: str, url: str) -> None:
        super().__init__(endpoint=url, api_key="OS-key-that-must-not-show", region=region)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [Regional, RegionalIndex])
def test_a_subclass_with_its_own_constructor_is_copied(kind: Any, emulator: Emulator) -> None:
    """Its fields and private attributes come along, whatever its constructor takes."""
    made = kind("eu", emulator.url)
    made._seen.append("x")
    copies: list[Callable[[Any], Any]] = [
        copy.copy,
        copy.deepcopy,
        lambda one: one.model_copy(),
        lambda one: one.model_copy(update={"region": "us"}),
        lambda one: one.copy(update={"qps": 3}),
        lambda one: pickle.loads(pickle.dumps(one)),
    ]
    for copier in copies:
        twin = copier(made)
        assert type(twin) is kind
        assert twin.region in ("eu", "us")
        assert twin._seen == ["x"]
        assert len(embed_query(twin)) == 1024
        twin.close()


# --- what users see ---


@by_kind
def test_it_is_a_context_sync_and_async(kind: Any, settings: dict[str, Any]) -> None:
    """`with` and `async with` give the object itself, and close it."""
    with kind(**settings) as made:
        assert isinstance(made, kind)
        assert len(embed_query(made)) == 1024

    async def use() -> None:
        async with kind(**settings) as made:
            assert isinstance(made, kind)
            assert len(await made.client.aembed(["a"])) == 1

    asyncio.run(use())


@by_kind
def test_the_client_has_streams_and_arrays(kind: Any, settings: dict[str, Any], emulator: Emulator) -> None:
    """`client` is the core's, with the same settings; what it spends is counted in the same place."""
    with kind(**settings) as made:
        assert isinstance(made.client, EmbeddingClient)
        assert made.client.embed_array(["a", "b"]).shape == (2, 1024)
        assert dict(made.client.iter_embed(["a"])) == {0: emulator.vector("a")}
        assert made.usage == made.client.usage
        assert made.usage.texts == 3


@by_kind
def test_the_signature_is_readable(kind: Any) -> None:
    """Each argument with its type and default, and nothing of how it is checked."""
    signature = inspect.signature(kind)
    assert set(signature.parameters) == set(kind.model_fields)
    shown = str(signature)
    for internal in ("Validator", "Serializer", "<function", "lambda", "FieldInfo"):
        assert internal not in shown


@by_kind
def test_every_field_is_described(kind: Any) -> None:
    """Editors, help() and the JSON schema show what each field is."""
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
    schema = kind.model_json_schema()["properties"]
    assert all(entry["description"] for name, entry in schema.items() if name != "class_name")


@by_kind
def test_fields_hold_what_is_in_use(kind: Any, settings: dict[str, Any]) -> None:
    """Each is what its type says, whatever was left out, or said to be None."""
    nothing = {name_of_model(kind): None, "workspace": None, "dimension": None}
    for made in (kind(**settings), kind(**settings, **nothing)):
        assert type(made.dimension) is int
        assert type(getattr(made, name_of_model(kind))) is str
        assert type(made.endpoint) is type(made.workspace) is str
        assert type(made.api_key) is SecretStr


@pytest.mark.parametrize("kind", [EmbeddingClient, *KINDS])
def test_help_names_no_file_that_is_not_installed(kind: Any) -> None:
    """The docs are in the repository, and not in what is installed."""
    texts = [kind.__doc__, *(member.__doc__ for _, member in inspect.getmembers(kind) if hasattr(member, "__doc__"))]
    assert not any("docs/" in (text or "") or "README" in (text or "") for text in texts)


# --- warnings ---


def warned_line(caught: list[warnings.WarningMessage]) -> tuple[str, str]:
    """Return the file that a warning points at, and the text of its line."""
    [warning] = [each for each in caught if "longer than the 300 tokens" in str(each.message)]
    with open(warning.filename, encoding="utf-8") as file:
        return warning.filename, file.read().splitlines()[warning.lineno - 1]


LONG = "word " * 1000


def users_calls() -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Yield ways to embed a text that is too long, by name."""
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.vectorstores import InMemoryVectorStore
    from llama_index.core import Document, VectorStoreIndex
    from llama_index.core.ingestion import IngestionPipeline

    def langchain(url: str) -> OpenSearchEmbeddings:
        return OpenSearchEmbeddings(model="ops-text-embedding-001", endpoint=url, api_key=KEY)

    def llama_index(url: str) -> OpenSearchEmbedding:
        return OpenSearchEmbedding(model_name="ops-text-embedding-001", endpoint=url, api_key=KEY)

    def core(url: str) -> EmbeddingClient:
        return EmbeddingClient("ops-text-embedding-001", endpoint=url, api_key=KEY)

    documents = [LangChainDocument(page_content=LONG)]
    nodes = [Document(text=LONG)]
    yield "embed", lambda url: core(url).embed([LONG])  # here
    yield "aembed", lambda url: asyncio.run(core(url).aembed([LONG]))  # here
    yield "iter_embed", lambda url: list(core(url).iter_embed([LONG]))  # here
    yield "documents", lambda url: langchain(url).embed_documents([LONG])  # here
    yield "query", lambda url: langchain(url).embed_query(LONG)  # here
    yield "adocuments", lambda url: asyncio.run(langchain(url).aembed_documents([LONG]))  # here
    yield "store", lambda url: InMemoryVectorStore.from_documents(documents, langchain(url))  # here
    yield "text", lambda url: llama_index(url).get_text_embedding(LONG)  # here
    yield "batch", lambda url: llama_index(url).get_text_embedding_batch([LONG])  # here
    yield "index", lambda url: VectorStoreIndex(nodes, embed_model=llama_index(url))  # here
    yield "pipeline", lambda url: IngestionPipeline(transformations=[llama_index(url)]).run(nodes=nodes)  # here


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("way", [name for name, _ in users_calls()])
def test_the_warning_points_at_the_users_line(emulator: Emulator, way: str) -> None:
    """Through frameworks and event loops, the warning of long texts names the line that a user wrote."""
    attempt = dict(users_calls())[way]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attempt(emulator.url)
    filename, line = warned_line(caught)
    assert filename == __file__
    assert line.endswith("# here")
    assert f'"{way}"' in line
