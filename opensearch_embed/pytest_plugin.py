"""The fixture `opensearch_emulator`, for the tests of whoever uses this package. pytest finds it by itself.

pytest loads this file in every run, so it imports nothing heavy: the emulator comes with the first test that wants it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from opensearch_embed.emulator import Emulator


@pytest.fixture
def opensearch_emulator(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Emulator]":
    """A running emulator of Alibaba Cloud OpenSearch, with lexical vectors and no quota.

    For the test, OPENSEARCH_ENDPOINT and OPENSEARCH_API_KEY lead to it: clients made with no arguments, core, LangChain
    or LlamaIndex, use it. What they know of the real service is put aside.
    """
    from opensearch_embed.emulator import Emulator

    with Emulator(vectors="lexical", qps=None) as emulator:
        # These go before the other names, so that a developer's own would win.
        monkeypatch.delenv("AISEARCH_ENDPOINT", raising=False)
        monkeypatch.delenv("AISEARCH_API_KEY", raising=False)
        monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
        monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)
        for name in ("NO_PROXY", "no_proxy"):  # a proxy cannot reach this machine
            monkeypatch.setenv(name, "127.0.0.1", prepend=",")
        yield emulator
