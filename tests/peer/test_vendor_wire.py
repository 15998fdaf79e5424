"""The vendor's own SDK, and the LlamaIndex plugin built on it, work against the emulator unchanged.

Nobody here has a key for the service, so these clients, written by others, are the best judge of the emulator's wire.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from opensearch_embed.emulator import Emulator

pytestmark = pytest.mark.peer

MODEL = "ops-text-embedding-002"


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator with default settings."""
    with Emulator() as running:
        yield running


@pytest.fixture
def sdk(server: Emulator) -> Any:
    """The vendor's client, set up as its documentation shows."""
    client = pytest.importorskip("alibabacloud_searchplat20240529.client", reason="dependency group `peer`")
    models = pytest.importorskip("alibabacloud_tea_openapi.models")
    endpoint = server.url.removeprefix("http://")
    return client.Client(models.Config(bearer_token=server.api_key, endpoint=endpoint, protocol="http"))


@pytest.fixture
def plugin(server: Emulator) -> Any:
    """The LlamaIndex plugin that users have today."""
    package = pytest.importorskip("llama_index.embeddings.alibabacloud_aisearch", reason="dependency group `peer`")
    endpoint = server.url.removeprefix("http://")
    return package.AlibabaCloudAISearchEmbedding(endpoint=endpoint, aisearch_api_key=server.api_key)


def make_request(**fields: Any) -> Any:
    """The SDK's request object."""
    from alibabacloud_searchplat20240529.models import GetTextEmbeddingRequest

    return GetTextEmbeddingRequest(**fields)


def vectors_of(response: Any) -> list[list[float]]:
    """The vectors of an SDK response, in the order of its array."""
    return [item.embedding for item in response.body.result.embeddings]


def test_the_sdk_reads_every_field_of_an_answer(server: Emulator, sdk: Any) -> None:
    """The SDK finds request id, latency, token count, indices, and the very vectors of the oracle."""
    response = sdk.get_text_embedding("default", MODEL, make_request(input=["tea", "茶"], input_type="query"))
    assert vectors_of(response) == [server.vector("tea", "query"), server.vector("茶", "query")]
    assert [item.index for item in response.body.result.embeddings] == [0, 1]
    assert response.body.usage.token_count == 2
    assert response.body.request_id
    assert response.body.latency >= 0


async def test_the_async_sdk_reads_an_answer(server: Emulator, sdk: Any) -> None:
    """The SDK's async twin sends a single string without a role, which is a document."""
    response = await sdk.get_text_embedding_async("default", MODEL, make_request(input="tea"))
    assert vectors_of(response) == [server.vector("tea", "document")]


def test_the_sdk_reads_an_error(server: Emulator, sdk: Any) -> None:
    """The SDK finds status, code, message and request id in a refusal."""
    from Tea.exceptions import TeaException

    with pytest.raises(TeaException) as caught:
        sdk.get_text_embedding("default", "ops-text-embedding-003", make_request(input="tea"))
    assert caught.value.code == "ServiceIdNotExist"
    assert caught.value.data["statusCode"] == 400
    assert "ops-text-embedding-003" in caught.value.message
    assert caught.value.data["request_id"]
    assert server.usage.outcomes == {400: 1}


def test_the_sdks_keys_are_blanked(server: Emulator, sdk: Any) -> None:
    """The SDK sends the key in a second header too; no record has it."""
    sdk.get_text_embedding("default", MODEL, make_request(input="tea"))
    assert server.requests[0].headers["x-acs-bearer-token"] == "***"
    assert server.api_key not in repr(server.requests)


def test_the_plugin_gets_the_oracles_vectors(server: Emulator, plugin: Any) -> None:
    """The plugin's sync methods work, with the role that each stands for."""
    assert plugin.get_text_embedding("tea") == server.vector("tea", "document")
    assert plugin.get_query_embedding("tea") == server.vector("tea", "query")
    assert plugin.get_text_embedding_batch(["tea", "茶"]) == [server.vector("tea"), server.vector("茶")]


async def test_the_async_plugin_gets_the_oracles_vectors(server: Emulator, plugin: Any) -> None:
    """The plugin's async methods work, with the role that each stands for."""
    assert await plugin.aget_text_embedding("tea") == server.vector("tea", "document")
    assert await plugin.aget_query_embedding("tea") == server.vector("tea", "query")
    assert await plugin.aget_text_embedding_batch(["tea", "茶"]) == [server.vector("tea"), server.vector("茶")]


def test_the_plugin_waits_out_a_throttling(server: Emulator, plugin: Any) -> None:
    """The plugin knows the emulator's 429 for the service's, and tries again."""
    server.fail_next(429, code="Throttling.RateQuota")
    assert plugin.get_text_embedding("tea") == server.vector("tea")
    assert server.usage.outcomes == {429: 1, 200: 1}
