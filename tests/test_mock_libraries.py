"""What libraries that answer in place of the network do to the client, as docs/testing.md tells it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import requests_mock
import responses
import vcr
from interfaces import settings_for
from servers import KEY, MODEL, RawRequest, RawServer, answer, vector

from opensearch_embed import EmbeddingClient

URL = f"https://service.test/v3/openapi/workspaces/default/text-embedding/{MODEL}"


def body_for(*texts: str) -> bytes:
    """The honest answer to these texts."""
    import json

    sent = json.dumps({"input": texts, "input_type": "document"}).encode()
    return answer(RawRequest("POST", URL, {}, sent))


def test_responses_answers_sync_methods() -> None:
    """In order, errors first: the retry gets the next answer."""
    with responses.RequestsMock() as mock, EmbeddingClient(**settings_for("https://service.test")) as client:
        mock.post(URL, json={"code": "Throttling"}, status=429, headers={"Retry-After": "0"})
        mock.post(URL, body=body_for("tea"))
        assert client.embed(["tea"]) == [vector("tea")]
        assert len(mock.calls) == 2


def test_requests_mock_never_sees_a_request() -> None:
    """It stands in for sessions, and there is none: the request goes out."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client, requests_mock.Mocker() as mock:
        assert client.embed(["tea"]) == [vector("tea")]
        assert (mock.call_count, len(server.requests)) == (0, 1)


def test_vcrpy_never_sees_a_sync_method(tmp_path: Path) -> None:
    """Nothing is recorded: the request goes out each time."""
    path = tmp_path / "cassette.yaml"
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client, vcr.use_cassette(str(path)):
        assert client.embed(["tea"]) == [vector("tea")]
        assert len(server.requests) == 1
    assert not path.exists()


@pytest.mark.parametrize("texts", [["tea"], ["tea", "coffee"]])
def test_vcrpy_records_and_replays_async_methods(texts: list[str], tmp_path: Path) -> None:
    """The second run sends nothing, and the cassette has no key if it is told so."""
    path = str(tmp_path / "cassette.yaml")
    settings: dict[str, Any] = {"filter_headers": ["authorization"], "match_on": ["method", "uri", "body"]}
    right = [vector(text) for text in texts]
    with RawServer() as server, EmbeddingClient(**settings_for(server.url, batch_size=1)) as client:
        for _ in range(2):
            with vcr.use_cassette(path, **settings):
                assert asyncio.run(client.aembed(texts)) == right
        assert len(server.requests) == len(texts)
    assert KEY not in Path(path).read_text()
