"""A name with several addresses, of which some are dead; and encryption inside of encryption, drawn out."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from interfaces import settings_for
from servers import HOST, Connection, Proxy, RawRequest, RawServer, honest, pump, vector

from opensearch_embed import ConnectFailed, EmbeddingClient, TimedOut


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes no more connections, and refuses none."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind((HOST, 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@pytest.fixture
def resolve_to(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `localhost` have these ports for addresses: the system gives whole ones, ports included."""
    real = socket.getaddrinfo

    def patch(*ports: int) -> None:
        def lookup(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host != "localhost":
                return real(host, port, *args, **kwargs)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, found)) for found in ports]

        monkeypatch.setattr(socket, "getaddrinfo", lookup)

    return patch


@pytest.mark.parametrize("dead", ["silent", "refusing", "silent refusing", "refusing silent"])
def test_one_dead_address_of_several_costs_a_few_seconds(
    dead: str, silent: int, resolve_to: Callable[..., None], call: Any
) -> None:
    """The next address is tried soon, within the same attempt, though `timeout` is long."""
    with RawServer() as server:
        resolve_to(*({"silent": silent, "refusing": 1}[kind] for kind in dead.split()), server.port)
        began = time.monotonic()
        with EmbeddingClient(**settings_for(f"http://localhost:{server.port}", max_attempts=1)) as client:
            assert call(client.embed, ["tea"]) == [vector("tea")]
        assert time.monotonic() - began < 8


def test_the_whole_timeout_stays_for_the_answer(silent: int, resolve_to: Callable[..., None], call: Any) -> None:
    """What a dead address took is not missing to the answer."""

    def late(connection: Connection, request: RawRequest) -> None:
        connection.server.stopping.wait(1.4)
        honest(connection, request)

    with RawServer(late) as server:
        resolve_to(silent, server.port)
        settings = settings_for(f"http://localhost:{server.port}", timeout=2, max_attempts=1)
        with EmbeddingClient(**settings) as client:
            assert call(client.embed, ["tea"]) == [vector("tea")]


def test_dead_addresses_alone_end_with_retry_timeout(silent: int, resolve_to: Callable[..., None], call: Any) -> None:
    """What is made up for does not go past the batch's time."""
    resolve_to(silent, silent, silent)
    began = time.monotonic()
    settings = settings_for(f"http://localhost:{silent}", timeout=1.5, retry_timeout=1.5)
    with EmbeddingClient(**settings) as client, pytest.raises((TimedOut, ConnectFailed)):
        call(client.embed, ["tea"])
    assert time.monotonic() - began < 4


def test_encryption_inside_of_encryption_keeps_the_deadline(tmp_path: Path, call: Any) -> None:
    """A proxy that is reached by https, and draws out what the service says, gets `timeout` seconds."""
    authority = Authority(tmp_path)

    class Slow(Proxy):
        """Passes the service's bytes on one at a time."""

        def _forward(self, connection: Connection, _: RawRequest) -> None:
            with socket.create_connection((HOST, self._upstream)) as upstream:
                connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=pump, args=[connection.sock, upstream], daemon=True).start()
                while data := upstream.recv(65536):
                    connection.trickle(data, 0.05)
            connection.close()

    with (
        RawServer(tls=authority.tls("service.test")) as service,
        Slow(service.port, tls=authority.tls(HOST)) as proxy,
    ):
        settings = settings_for("https://service.test", proxy=proxy.url, ca_bundle=authority.bundle)
        began = time.monotonic()
        with EmbeddingClient(**settings, timeout=1, max_attempts=1) as client, pytest.raises(TimedOut):
            call(client.embed, ["tea"])
        assert time.monotonic() - began < 5
