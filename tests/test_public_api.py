"""The public surface: names, signatures, what an import loads, and that adapters take what the core takes."""

import inspect
import json
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest

import opensearch_embed
from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import EmbeddingClient, errors

PUBLIC = [
    "ApiError",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectFailed",
    "DEFAULT_MODEL",
    "EmbeddingClient",
    "InputError",
    "InputType",
    "InvalidRequest",
    "MODELS",
    "ModelSpec",
    "OpenSearchEmbedError",
    "QuotaExhausted",
    "RateLimited",
    "ResponseError",
    "ServiceUnavailable",
    "Settings",
    "SqliteCache",
    "TimedOut",
    "TransportError",
    "Usage",
    "VectorCache",
]

# Argument of the client, its default: names, order and defaults of the contract.
ARGUMENTS: dict[str, Any] = {
    "model": None,
    "endpoint": None,
    "api_key": None,
    "workspace": None,
    "dimension": None,
    "qps": 50.0,
    "limiter": None,
    "max_concurrency": None,
    "batch_size": 32,
    "timeout": 30.0,
    "retry_timeout": 60.0,
    "max_attempts": 10,
    "empty": "error",
    "on_error": "raise",
    "overflow": "send",
    "length_function": None,
    "cache": None,
    "compression": False,
    "allow_http": False,
    "ca_bundle": None,
    "proxy": None,
}

# What the client has beyond the contract.
EXTRAS: dict[str, Any] = {}

HEAVY = (
    *("requests", "urllib3", "aiohttp", "numpy", "orjson", "tenacity", "pyrate_limiter", "tqdm", "certifi"),
    *("opentelemetry", "pydantic", "langchain_core", "llama_index", "typer", "asyncio", "ssl", "urllib.request"),
)
NOT_FOR_A_CLIENT = (
    *("requests", "urllib3", "aiohttp", "numpy", "tqdm", "certifi"),
    *("opentelemetry", "pydantic", "langchain_core", "llama_index", "typer"),
)


def test_the_names_are_these() -> None:
    """`__all__` is this list, and each name is there."""
    assert opensearch_embed.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(opensearch_embed, name) is not None
    assert set(PUBLIC) <= set(dir(opensearch_embed))


def test_every_error_is_public() -> None:
    """No error can be raised that a user cannot name."""
    raised = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert raised <= set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that is not there is refused as in any module."""
    with pytest.raises(AttributeError, match="'opensearch_embed' has no attribute 'Client'"):
        _ = opensearch_embed.Client  # type: ignore[attr-defined]


def test_all_names_can_be_imported_with_a_star() -> None:
    """`from opensearch_embed import *` brings each public name, though they are loaded lazily."""
    names: dict[str, Any] = {}
    exec("from opensearch_embed import *", names)  # noqa: S102 - only a module's top level may do this
    assert set(PUBLIC) <= set(names)


def test_the_version_is_the_packages() -> None:
    """`__version__` is what was installed."""
    assert opensearch_embed.__version__ == version("opensearch-embed")


def loaded_by(statement: str) -> set[str]:
    """Return the names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_an_import_loads_nothing_heavy() -> None:
    """`import opensearch_embed` loads no library of others, and not even the standard library's heavy parts."""
    assert loaded_by("import opensearch_embed") & set(HEAVY) == set()


def test_errors_and_models_load_nothing_heavy() -> None:
    """Who only catches an error, or looks a model up, pays for nothing else."""
    statement = "from opensearch_embed import MODELS, InputError, OpenSearchEmbedError"
    assert loaded_by(statement) & set(HEAVY) == set()


def test_a_client_loads_http_when_it_first_sends() -> None:
    """A client is made without HTTP libraries, numpy or frameworks."""
    statement = "from opensearch_embed import EmbeddingClient\nEmbeddingClient(endpoint='h', api_key='k')"
    assert loaded_by(statement) & set(NOT_FOR_A_CLIENT) == set()


def test_the_clients_arguments_are_the_contracts() -> None:
    """Names, order and defaults; all but the model by name alone."""
    parameters = list(inspect.signature(EmbeddingClient).parameters.values())
    assert {parameter.name: parameter.default for parameter in parameters} == ARGUMENTS | EXTRAS
    assert [parameter.name for parameter in parameters if parameter.name not in EXTRAS] == list(ARGUMENTS)
    assert parameters[0].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {parameter.kind for parameter in parameters[1:]} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("method", ["embed", "aembed", "embed_array", "aembed_array"])
def test_the_four_methods_take_the_same(method: str) -> None:
    """Texts, a role, and progress by name; the twins with `a` are coroutines."""
    function = getattr(EmbeddingClient, method)
    shown = [(p.name, p.default, p.kind.name) for p in inspect.signature(function).parameters.values()]
    assert shown[1:] == [
        ("texts", inspect.Parameter.empty, "POSITIONAL_OR_KEYWORD"),
        ("input_type", "document", "POSITIONAL_OR_KEYWORD"),
        ("progress", False, "KEYWORD_ONLY"),
    ]
    assert inspect.iscoroutinefunction(function) is method.startswith("a")


def test_every_argument_is_documented() -> None:
    """The client's docstring says what each argument means."""
    for name in ARGUMENTS | EXTRAS:
        assert f"\n        {name}: " in (EmbeddingClient.__doc__ or "")


# Adapter, the name it gives the model, what it adds.
ADAPTERS: list[tuple[Any, str, set[str]]] = [
    (OpenSearchEmbeddings, "model", {"show_progress_bar"}),
    (
        OpenSearchEmbedding,
        "model_name",
        {"embed_batch_size", "callback_manager", "num_workers", "embeddings_cache", "rate_limiter"},
    ),
]


@pytest.mark.parametrize(("adapter", "model", "added"), ADAPTERS)
def test_an_adapter_takes_what_the_core_takes(adapter: Any, model: str, added: set[str]) -> None:
    """Each argument of the client is a field with the same default; what is added is the framework's."""
    expected = {model if name == "model" else name: default for name, default in ARGUMENTS.items()}
    fields = {name: field.get_default(call_default_factory=True) for name, field in adapter.model_fields.items()}
    assert {name: default for name, default in fields.items() if name not in added | set(EXTRAS)} == expected
    assert {name: default for name, default in fields.items() if name in EXTRAS}.items() <= EXTRAS.items()
    assert set(fields) - set(expected) - set(EXTRAS) == added


def test_the_adapters_own_defaults() -> None:
    """LangChain's bar is off; LlamaIndex hands over 1024 texts at once, which is 32 requests."""
    assert OpenSearchEmbeddings.model_fields["show_progress_bar"].default is False
    assert OpenSearchEmbedding.model_fields["embed_batch_size"].default == 1024
    assert OpenSearchEmbedding.class_name() == "OpenSearchEmbedding"
