"""Progress bars: one step a request, and none of them costs a vector. And what usage remembers."""

import contextlib
import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from interfaces import settings_for
from servers import Connection, RawRequest, RawServer, honest, refuse, vector

from opensearch_embed import EmbeddingClient
from opensearch_embed.usage import MOST_REFUSED, Meter


class Broken(io.StringIO):
    """A standard error whose terminal is gone."""

    def write(self, _: str) -> int:
        """Fail."""
        raise OSError("gone")


def closed() -> io.StringIO:
    """A standard error that somebody has closed."""
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [None, Broken(), closed()], ids=["none", "broken", "closed"])
def test_a_bar_that_nobody_sees_costs_no_vector(stderr: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without a standard error, or with a broken one, gets its vectors."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        monkeypatch.setattr(sys, "stderr", stderr)
        assert call(client.embed, ["tea"], progress=True) == [vector("tea")]


def test_a_bar_moves_with_each_request(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows each request's texts when they are there, and not only the end."""
    shown = io.StringIO()

    def late(connection: Connection, request: RawRequest) -> None:
        connection.server.stopping.wait(0.03)
        honest(connection, request)

    texts = [f"text number {number}" for number in range(12)]
    with (
        RawServer(default=late) as server,
        EmbeddingClient(**settings_for(server.url, batch_size=2, max_concurrency=1)) as client,
    ):
        monkeypatch.setattr(sys, "stderr", shown)
        call(client.embed, texts, progress=True)
    assert [int(done) for done in dict.fromkeys(re.findall(r" (\d+)/12 ", shown.getvalue()))] == [0, 2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, OSError])
def test_a_bar_that_was_interrupted_stops_no_other(interrupt: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a bar is drawn leaves no lock behind that later bars would wait for."""
    shown = io.StringIO()

    def interrupted(_: str) -> int:
        monkeypatch.undo()
        raise interrupt

    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        monkeypatch.setattr(sys, "stderr", shown)
        monkeypatch.setattr(shown, "write", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            call(client.embed, ["tea"], progress=True)
        texts = [f"text number {number}" for number in range(320)]
        with ThreadPoolExecutor(1) as other:  # the lock was this thread's own
            found = other.submit(call, client.embed, texts, progress=True).result(20)
    assert found == [vector(text) for text in texts]


def test_what_usage_remembers_is_bounded(call: Any) -> None:
    """The latest refused texts are kept, so many."""
    with (
        RawServer(default=refuse(400, "InvalidParameter")) as server,
        EmbeddingClient(**settings_for(server.url, on_error="skip", batch_size=1)) as client,
    ):
        call(client.embed_array, ["tea", "coffee"])
        assert client.usage.refused == (0, 1)
    meter = Meter()
    for start in range(0, 3 * MOST_REFUSED, 1000):
        meter.add(refused=tuple(range(start, start + 1000)))
    assert meter.usage.refused == tuple(range(2 * MOST_REFUSED, 3 * MOST_REFUSED))
