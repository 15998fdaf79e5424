"""How alike texts are, as the emulator's front page asks for it."""

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from opensearch_embed.emulator import Emulator, front


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator with default settings."""
    with Emulator() as running:
        yield running


def compare(server: Emulator, texts: Any, **sent: Any) -> requests.Response:
    """Ask how alike texts are."""
    return requests.post(f"{server.url}/similarities", timeout=5, **{"json": {"texts": texts}} | sent)


def test_similarities_are_cosines_of_the_vectors(server: Emulator) -> None:
    """Each pair has the product of the vectors that the service gives these texts as documents."""
    texts = ["strong tea", "weak tea", "茶", "strong tea"]
    vectors = np.array([server.vector(text) for text in texts])
    assert np.allclose(compare(server, texts).json()["similarities"], vectors @ vectors.T, atol=1e-4)


def test_similarities_know_meaning_where_the_emulator_does() -> None:
    """With semantic vectors, a sentence is nearer to its translation than to another."""
    with Emulator(vectors="semantic") as server:
        texts = ["Venice stands on wooden piles.", "威尼斯建在木桩上。", "Sourdough rises by wild yeast."]
        first, _, _ = compare(server, texts).json()["similarities"]
        assert requests.get(f"{server.url}/status", timeout=5).json()["vectors"] == "semantic"
    assert first[1] > first[2] + 0.3


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"json": {"texts": ["tea"]}}, "Give 2 to 20 texts, not 1."),
        ({"json": {"texts": ["tea"] * 21}}, "Give 2 to 20 texts, not 21."),
        ({"json": {"texts": ["tea", "x" * 1001]}}, "Text 2 has 1,001 characters: give 1 to 1,000."),
        ({"json": {"texts": ["", "tea"]}}, "Text 1 has 0 characters: give 1 to 1,000."),
        ({"json": {"texts": ["tea", 7]}}, "texts must be an array of strings."),
        ({"json": ["tea", "coffee"]}, "texts must be an array of strings."),
        ({"json": {"texts": ["tea", "x" * 200_000]}}, "That is too much text."),
        ({"json": None, "data": b'{"texts": ', "headers": {"Content-Type": "application/json"}}, "must be JSON"),
        ({"json": None, "data": b'{"texts": ["a", "b"]}', "headers": {"Content-Type": "text/plain"}}, "Content-Type"),
    ],
)
def test_what_cannot_be_compared_is_told(server: Emulator, sent: dict[str, Any], message: str) -> None:
    """A refusal says in a sentence what would be right."""
    response = compare(server, None, **sent)
    assert response.status_code == 400
    assert message in response.json()["message"]


def test_a_body_that_does_not_come_is_not_waited_for(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops in the middle is answered, some time."""
    monkeypatch.setattr(front, "BODY_SECONDS", 0.1)
    fields = b"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(b"POST /similarities HTTP/1.1\r\n" + fields + b"{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
