"""The emulator as a server that others reach: it keeps no more than it must, waits for nobody, and records no key."""

import contextlib
import json
import socket
from typing import Any

import pytest

from opensearch_embed import AuthenticationError, EmbeddingClient
from opensearch_embed.emulator import Emulator, handler, thread

KEY = "OS-The-Key-Of-The-Emulator"
PATH = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"


def ask(emulator: Emulator, head: dict[str, str], body: bytes = b"", path: str = PATH) -> str:
    """Send a request over a bare socket; return the first line of the answer."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])), timeout=10) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode() + body)
        return sock.makefile("rb").readline().decode().strip()


@pytest.mark.parametrize(("key", "status"), [("wrong", 401), (KEY, 413)])
def test_a_large_body_is_refused_before_it_comes(key: str, status: int) -> None:
    """Whoever says that 300 MB follow is answered at once."""
    with Emulator(api_key=KEY) as emulator:
        head = {"Authorization": f"Bearer {key}", "Content-Length": "300000000", "Content-Type": "application/json"}
        assert f" {status} " in ask(emulator, head)


@pytest.mark.parametrize(("key", "size", "status"), [("wrong", 150_000, 401), (KEY, 8_000_001, 413)])
def test_a_body_in_chunks_is_refused_when_it_is_too_large(key: str, size: int, status: int) -> None:
    """Though it does not say how long it will be, and never ends."""
    with Emulator(api_key=KEY) as emulator:
        head = {"Authorization": f"Bearer {key}", "Transfer-Encoding": "chunked", "Content-Type": "application/json"}
        assert f" {status} " in ask(emulator, head, b"%x\r\n%s\r\n" % (size, b"x" * size))
        assert emulator.requests[0].body == b""


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost: a\r\n"], ids=["nothing", "half a head"])
def test_a_half_open_connection_ends(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and asks for nothing is hung up on; who has asked is not."""
    monkeypatch.setattr(thread, "HEAD_SECONDS", 0.3)
    with Emulator(api_key=KEY) as emulator, EmbeddingClient(endpoint=emulator.url, api_key=KEY) as client:
        client.embed(["first"])
        with socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])), timeout=10) as sock:
            sock.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        assert client.embed(["tea"]) == [emulator.vector("tea")]


def test_a_body_that_does_not_come_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that stops in the middle of its body is answered, some time."""
    monkeypatch.setattr(handler, "BODY_SECONDS", 0.3)
    with Emulator(api_key=KEY) as emulator:
        head = {"Authorization": f"Bearer {KEY}", "Content-Length": "100", "Content-Type": "application/json"}
        assert " 408 " in ask(emulator, head, b"{")


@pytest.mark.parametrize("key", [KEY, KEY.upper(), KEY.lower()])
def test_no_record_has_the_key(key: str) -> None:
    """Not in the name of a header, nor in its value, the path, or the body, in any case; the answer is as it is."""
    body: dict[str, Any] = {"input": [f"a text with {key}"], "input_type": "document"}
    with Emulator(api_key=KEY) as emulator:
        for raw in (json.dumps(body).encode(), b"no JSON: " + key.encode(), json.dumps({key: [key]}).encode()):
            head = {
                "Authorization": f"Bearer {KEY}",
                f"X-{key}": key,
                "Content-Length": str(len(raw)),
                "Content-Type": "application/json",
            }
            ask(emulator, head, raw, f"{PATH}?key={key}")
        assert len(emulator.requests) == 3
        for record in emulator.requests:
            assert KEY.lower() not in repr(record).lower()
        assert emulator.requests[0].body["input"] == ["a text with ***"]


def test_a_text_with_the_key_gets_its_own_vector() -> None:
    """Blanking is for the record alone."""
    text = f"a text with {KEY}"
    with Emulator(api_key=KEY) as emulator, EmbeddingClient(endpoint=emulator.url, api_key=KEY) as client:
        assert client.embed([text]) == [emulator.vector(text)]


def test_a_workspace_can_be_enforced(call: Any) -> None:
    """A key is valid for one workspace: with `workspace=`, for that one alone."""
    with Emulator(api_key=KEY, workspace="my space") as emulator:
        settings: dict[str, Any] = {"endpoint": emulator.url, "api_key": KEY, "qps": None}
        with EmbeddingClient(workspace="my space", **settings) as client:
            assert call(client.embed, ["tea"]) == [emulator.vector("tea")]
        with (
            EmbeddingClient(**settings) as client,
            pytest.raises(AuthenticationError, match="workspace") as caught,
        ):
            call(client.embed, ["tea"])
    assert caught.value.status == 403
