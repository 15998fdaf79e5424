"""The fixture `opensearch_emulator`, for the tests of whoever uses this package. pytest finds it by itself.

pytest loads this file in every run, so it imports nothing heavy: the emulator comes with the first test that wants it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from opensearch_embed.emulator import Emulator


MARKER = "opensearch_emulator"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARKER}(**settings): settings of the test's `opensearch_emulator`, such as qps=5, latency_ms=500"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test that has the mark its emulator, lest it go to the real service for want of an argument."""
    names = getattr(item, "fixturenames", None)
    if names is not None and MARKER not in names and item.get_closest_marker(MARKER) is not None:
        names.insert(0, MARKER)


@pytest.fixture
def opensearch_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Emulator]":
    """A running emulator of Alibaba Cloud OpenSearch, with lexical vectors and no quota.

    `@pytest.mark.opensearch_emulator(qps=5, latency_ms=500)` gives it other settings: the arguments of `Emulator`. Of
    several such marks, on a class or module too, the nearest decides each setting. A test with such a mark has the
    emulator whether or not it takes the fixture.

    For the test, OPENSEARCH_ENDPOINT and OPENSEARCH_API_KEY lead to it: clients made with no arguments, core, LangChain
    or LlamaIndex, use it. What they know of the real service is put aside.
    """
    from opensearch_embed.emulator import Emulator

    settings: dict[str, Any] = {}
    for mark in request.node.iter_markers(MARKER):
        if mark.args:
            raise pytest.UsageError(f"The settings of the mark {MARKER} have names, such as qps=5: not {mark.args}.")
        settings = {**mark.kwargs, **settings}
    with Emulator(**({"vectors": "lexical", "qps": None} | settings)) as emulator:
        # These go before the other names, so that a developer's own would win.
        monkeypatch.delenv("AISEARCH_ENDPOINT", raising=False)
        monkeypatch.delenv("AISEARCH_API_KEY", raising=False)
        monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
        monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)
        for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach this machine
            monkeypatch.setenv(name, "127.0.0.1", prepend=",")
        yield emulator
