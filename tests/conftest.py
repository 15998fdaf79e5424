"""Fixtures for all tests: a clean environment, an emulator, and one way to call the client, sync or async."""

import asyncio
import inspect
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from interfaces import EMULATOR_KEY, made_of

from opensearch_embed import EmbeddingClient
from opensearch_embed.emulator import Emulator

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background deaf to Ctrl-C, and so would be the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

FOREIGN_VARIABLES = (
    *(f"OPENSEARCH_{name}" for name in ("API_KEY", "ENDPOINT", "WORKSPACE", "MODEL")),
    *(f"AISEARCH_{name}" for name in ("API_KEY", "ENDPOINT", "WORKSPACE", "MODEL")),
    *(f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")),
    *(f"{name}_proxy" for name in ("http", "https", "all", "no")),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own settings out of the tests."""
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A fresh emulator without limits, whose key is easy to search for."""
    with Emulator(vectors="lexical", qps=None, api_key=EMULATOR_KEY) as running:
        yield running


@pytest.fixture
def make_client(emulator: Emulator) -> Iterator[Callable[..., EmbeddingClient]]:
    """Make clients of the emulator; what is not said is unlimited."""
    yield from made_of(EmbeddingClient, emulator)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call `client.embed` or `client.aembed` alike: `call(client.embed, texts, "query")`."""

    def invoke(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return method(*args, **kwargs)
        twin = getattr(method.__self__, f"a{method.__name__}")  # type: ignore[attr-defined]
        assert inspect.iscoroutinefunction(twin)
        return asyncio.run(twin(*args, **kwargs))

    return invoke
