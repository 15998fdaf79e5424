"""Names that people know from other packages, and what each is called here: arguments, and places to import from.

A guess by likeness comes after this table: `request_timeout` is like `retry_timeout`, and means `timeout`.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

from opensearch_embed.errors import ConfigurationError

MODEL = "model"
"""Stands for the argument that names the model, which LlamaIndex calls `model_name`."""

_NAMES: dict[str, tuple[str, ...]] = {
    MODEL: (
        *("model", "model_name", "model_id", "service_id", "service_name", "deployment", "azure_deployment"),
        *("embedding_model", "embed_model", "engine", "engine_name"),
    ),
    "api_key": (
        *("apikey", "key", "token", "api_token", "access_token", "secret", "credentials", "auth", "http_auth"),
        *("openai_api_key", "dashscope_api_key", "aisearch_api_key", "opensearch_api_key", "alibaba_api_key"),
        *("alibabacloud_api_key", "azure_api_key", "cohere_api_key", "voyage_api_key", "access_key_secret"),
    ),
    "endpoint": (
        *("url", "host", "hosts", "hostname", "base_url", "api_base", "api_url", "api_host", "server_url", "domain"),
        *("openai_api_base", "opensearch_url", "opensearch_endpoint", "aisearch_endpoint", "endpoint_url"),
        *("azure_endpoint", "dashscope_api_base", "voyage_api_base", "base_http_api_url"),
    ),
    "workspace": ("workspace_name", "workspace_id", "aisearch_workspace", "namespace"),
    "dimension": ("dim", "dims", "dimensions", "embedding_dim", "embedding_size", "output_dimensionality", "size"),
    "batch_size": ("chunk_size", "embed_batch_size", "max_batch_size", "embedding_batch_size"),
    "timeout": ("request_timeout", "timeout_seconds", "read_timeout", "connect_timeout", "default_timeout"),
    "qps": ("max_qps", "rps", "max_rps", "rate", "rate_limit", "requests_per_second", "rpm", "requests_per_minute"),
    "limiter": ("rate_limiter",),
    "max_attempts": ("max_retries", "retries", "num_retries", "max_retry", "retry_count"),
    "max_concurrency": ("max_workers", "num_workers", "workers", "concurrency", "parallelism", "max_connections"),
    "overflow": ("truncate", "truncation", "check_embedding_ctx_length", "embedding_ctx_length"),
    "length_function": ("tokenizer", "tiktoken_model_name", "count_tokens", "len_function"),
    "cache": ("cache_path", "cache_folder", "cache_dir", "embeddings_cache"),
    "ca_bundle": ("verify", "verify_ssl", "verify_certs", "ca_certs", "ssl_context", "cafile"),
    "proxy": ("proxies", "openai_proxy", "http_proxy", "https_proxy", "proxy_url"),
    "show_progress_bar": ("show_progress", "progress", "progress_bar"),
}
_MEANT = {known: ours for ours, names in _NAMES.items() for known in names}

_REMARKS = {
    "max_retries": "It counts the first attempt too: max_retries=2 is max_attempts=3.",
    "retries": "It counts the first attempt too.",
    "dimensions": "A model of this service has one length: leave it out, unless the model is not in the catalogue.",
    "output_dimensionality": "A model of this service has one length: leave it out.",
    "rpm": "It counts requests a second.",
    "requests_per_minute": "It counts requests a second.",
    "verify": "Certificates are always checked.",
    "verify_ssl": "Certificates are always checked.",
    "verify_certs": "Certificates are always checked.",
}

_WITHOUT = {
    "default_headers": "The client sends its own headers alone.",
    "user_agent": "The client sends its own headers alone.",
    "headers": "The client sends its own headers alone.",
    "default_query": "The client makes its own URL.",
    "model_kwargs": "Each argument is one of its own.",
    "openai_api_version": "The service has one version.",
    "tiktoken_enabled": "Texts are sent, not tokens.",
    **dict.fromkeys(("organization", "openai_organization"), "The account is the key's."),
    **dict.fromkeys(
        ("client", "async_client", "http_client", "http_async_client", "httpx_client", "httpx_async_client"),
        "The client has its own connections; `proxy`, `ca_bundle` and `timeout` are about them.",
    ),
    "input_type": "It is said with each call: embed_query is for queries, all else for documents.",
    "text_type": "It is said with each call: embed_query is for queries, all else for documents.",
    "normalize": "Vectors are handed on as the service sends them.",
    **dict.fromkeys(
        ("encoding_format", "embedding_type", "embedding_types", "output_dtype", "output_type"), "Vectors are floats."
    ),
}
"""Names that have no argument here, and why."""

_HOMES = {
    "OpenSearchEmbeddings": ("langchain_opensearch_embed", "LangChain"),
    "OpenSearchEmbedding": ("llama_index_opensearch_embed", "LlamaIndex"),
    "Emulator": ("opensearch_embed.emulator", "tests and development"),
}

Given = ParamSpec("Given")
SelfT = TypeVar("SelfT")


class UnknownArgument(ConfigurationError, TypeError):
    """What Python itself raises for an argument that is not known, and one of our errors too."""


def unknown(name: str, known: Iterable[str]) -> str:
    """Return what is said of an argument that is not known: which one may have been meant. Its value is not shown."""
    import difflib

    known = list(known)
    meant = _MEANT.get(name.lower())
    if meant == MODEL:
        meant = next(field for field in ("model", "model_name") if field in known)
    if meant not in known or meant == name:
        meant = next(iter(difflib.get_close_matches(name.lower(), known, 1)), None)
    if name.lower() in _WITHOUT:
        return f"Unknown argument {name!r}. {_WITHOUT[name.lower()]}"
    if meant is None:
        return f"Unknown argument {name!r}. Known: {', '.join(known)}."
    return " ".join(filter(None, [f"Unknown argument {name!r}. Did you mean {meant!r}?", _REMARKS.get(name.lower())]))


def advised(
    **hiding: Callable[[Any], Any],
) -> Callable[[Callable[Concatenate[SelfT, Given], None]], Callable[Concatenate[SelfT, Given], None]]:
    """Let a constructor say which argument may have been meant, where one is not known.

    What `hiding` names is wrapped at once, so that no frame shows a secret.
    """

    def decorate(init: Callable[Concatenate[SelfT, Given], None]) -> Callable[Concatenate[SelfT, Given], None]:
        code = init.__code__
        names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

        @functools.wraps(init)
        def checked(self: SelfT, /, *args: Given.args, **kwargs: Given.kwargs) -> None:
            if strangers := [name for name in kwargs if name not in names]:
                kwargs.clear()  # so that no frame shows a key by another name
                raise UnknownArgument(" ".join(unknown(name, names) for name in strangers))
            for name in kwargs.keys() & hiding:
                kwargs[name] = hiding[name](kwargs[name])
            init(self, *args, **kwargs)

        return checked

    return decorate


def missing(module: str, name: str, public: Iterable[str] = ()) -> Exception:
    """Return the error of a name that a module has not: where it is, if another of ours has it.

    It is an `ImportError` then, since the words of an `AttributeError` do not reach who imports.
    """
    home, use = _HOMES.get(name, ("opensearch_embed", "all") if name in public else ("", ""))
    if not home or home == module:
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    return ImportError(f"{name} is not in {module}: from {home} import {name} (for {use})", name=module)
