"""`register()`: a string names the model, in `init_embeddings` and in LangGraph's stores. With the real packages."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from langchain.embeddings import base, init_embeddings
from langgraph.store.memory import InMemoryStore

from langchain_opensearch_embed import OpenSearchEmbeddings, register
from opensearch_embed import ConfigurationError
from opensearch_embed.emulator import Emulator

MODEL = "ops-text-embedding-001"


@pytest.fixture(autouse=True)
def own_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain's table as it was, before each test and after it."""
    monkeypatch.setattr(base, "_BUILTIN_PROVIDERS", dict(base._BUILTIN_PROVIDERS))
    base._get_embeddings_class_creator.cache_clear()


def test_init_embeddings_makes_ours(emulator: Emulator) -> None:
    """With the settings that are given, checked as the constructor checks them."""
    register()
    embeddings = init_embeddings(f"opensearch:{MODEL}", endpoint=emulator.url, api_key=emulator.api_key, timeout=7)
    assert isinstance(embeddings, OpenSearchEmbeddings)
    assert (embeddings.model, embeddings.timeout) == (MODEL, 7)
    assert embeddings.embed_query("tea") == emulator.vector("tea", "query", MODEL)


def test_a_provider_may_be_named_apart(emulator: Emulator) -> None:
    """`provider=` does the same."""
    register()
    embeddings = init_embeddings(MODEL, provider="opensearch", endpoint=emulator.url, api_key=emulator.api_key)
    assert isinstance(embeddings, OpenSearchEmbeddings)


def test_a_wrong_setting_is_told_as_ever() -> None:
    """What the constructor refuses, it refuses here in the same words."""
    register()
    with pytest.raises(ConfigurationError, match="batch_size"):
        init_embeddings(f"opensearch:{MODEL}", endpoint="h", api_key="OS-x", chunk_size=3)


def test_twice_is_harmless(emulator: Emulator) -> None:
    """Whoever needs it calls it; the other providers stay."""
    before = {name: row for name, row in base._BUILTIN_PROVIDERS.items() if name != "opensearch"}
    register()
    register()
    assert {name: row for name, row in base._BUILTIN_PROVIDERS.items() if name != "opensearch"} == before
    assert init_embeddings(f"opensearch:{MODEL}", endpoint=emulator.url, api_key=emulator.api_key)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_langgraph_takes_the_string(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, is_async: bool) -> None:
    """A store's index embeds what is put as documents and what is searched as a query, set up by the environment."""
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
    monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)
    register()
    store = InMemoryStore(index={"embed": f"opensearch:{MODEL}", "dims": 1536})

    async def use() -> list[Any]:
        await store.aput(("facts",), "1", {"text": "green tea is steeped"})
        await store.aput(("facts",), "2", {"text": "a bicycle has wheels"})
        return await store.asearch(("facts",), query="how do I make green tea?")

    if is_async:
        found = asyncio.run(use())
    else:
        store.put(("facts",), "1", {"text": "green tea is steeped"})
        store.put(("facts",), "2", {"text": "a bicycle has wheels"})
        found = store.search(("facts",), query="how do I make green tea?")
    assert [item.key for item in found] == ["1", "2"]
    assert {request.body["input_type"] for request in emulator.requests} == {"document", "query"}


@pytest.mark.parametrize(
    "table", [None, {"openai": "langchain_openai"}, {"openai": ("langchain_openai", "OpenAIEmbeddings")}]
)
def test_a_release_that_does_not_let_it_is_told(monkeypatch: pytest.MonkeyPatch, table: Any) -> None:
    """LangChain's table is its own affair: of another form, or none, the error says what to write instead."""
    monkeypatch.setattr(base, "_BUILTIN_PROVIDERS", table)
    with pytest.raises(ConfigurationError, match=r"langchain [\d.]+ .*OpenSearchEmbeddings\(model="):
        register()
    assert table is None or "opensearch" not in table


def test_a_provider_of_others_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should LangChain come to mean something else by the name, it keeps it."""
    other = ("langchain_elsewhere", "Embeddings", lambda cls, **_: cls())
    monkeypatch.setitem(base._BUILTIN_PROVIDERS, "opensearch", other)
    with pytest.raises(ConfigurationError, match="another provider"):
        register()
    assert base._BUILTIN_PROVIDERS["opensearch"] is other


def test_without_langchain_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter needs langchain-core alone; the error says what this needs, and what does without."""
    monkeypatch.setitem(sys.modules, "langchain.embeddings.base", None)
    with pytest.raises(ConfigurationError, match=r"pip install langchain.*OpenSearchEmbeddings\(model="):
        register()


def test_the_adapter_imports_no_langchain_by_itself() -> None:
    """Only `register()` needs it."""
    code = "import sys, langchain_opensearch_embed\nprint('langchain' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
