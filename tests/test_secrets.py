"""The key is in the Authorization header and nowhere else: errors, tracebacks, logs, serialised forms, records."""

import asyncio
import copy
import dataclasses
import html
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from interfaces import INTERFACES, settings_for
from servers import (
    HOST,
    KEY,
    Action,
    RawServer,
    altered,
    garbled,
    hang,
    honest,
    raw,
    refuse,
    reply,
    reset_after_request,
    reset_in_body,
    vector,
)

from opensearch_embed import ConfigurationError, EmbeddingClient, InputError, InvalidRequest, OpenSearchEmbedError
from opensearch_embed.emulator import Emulator

FRAGMENTS = {KEY[start : start + 8].lower() for start in range(len(KEY) - 7)}
"""A part of a key is a secret too."""

POISON = "a private sentence,\nwith <two> lines & more 汉字"
"""A text that is long enough to be somebody's secret."""


def keyless(url: str, **others: Any) -> dict[str, Any]:
    """Return settings without the key: that comes from the environment, so that no frame of a test holds it."""
    settings = settings_for(url, **others)
    del settings["api_key"]
    return settings


@pytest.fixture(autouse=True)
def key_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the key as users do."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Have every library log at DEBUG, and find no key in it after the test."""
    caplog.set_level(logging.DEBUG)
    yield
    check_clean(caplog.text)
    for record in caplog.get_records("call"):
        check_clean(repr(record.__dict__))


def check_clean(text: str) -> None:
    """No part of the key is in the text."""
    found = [fragment for fragment in FRAGMENTS if fragment in text.lower()]
    if found:
        at = text.lower().index(found[0])
        pytest.fail(f"part of the key shows: ...{text[max(0, at - 300) : at + 60]!r}")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and all behind it."""
    queue, seen = [error], set()
    while queue:
        link = queue.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            queue += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]


def everything_shown(error: BaseException) -> str:
    """Return all that a user, a log, a debugger or an error tracker sees of an error."""
    shown = [*traceback.TracebackException.from_exception(error, capture_locals=True).format()]
    for link in chain(error):
        shown += [repr(link), str(link), repr(link.args), repr(vars(link)), *getattr(link, "__notes__", ())]
    return "\n".join(shown)


# --- errors ---

ECHOES: dict[str, Action] = {
    "message": refuse(400, "InvalidParameter", f"The key {KEY} is wrong."),
    "code": refuse(400, KEY),
    "code of a 200": refuse(200, KEY, KEY),
    "request id": reply(500, {"request_id": KEY, "code": "InternalServerError", "message": KEY}),
    "page": reply(401, f"<html>Bearer {KEY} is unknown</html>"),
    "other JSON": reply(403, {"detail": {"sent": f"Bearer {KEY}"}}),
    "throttled": refuse(429, "Throttling", KEY, Retry_After=KEY),
    "cut header": raw(f"HTTP/1.1 200 OK\r\nX-Echo: {KEY}".encode()),
    "redirect": reply(302, KEY, Location=f"http://{HOST}:1/{KEY}"),
    "bad redirect": reply(302, KEY, Location=f"http://[{KEY}"),
    "cookie": refuse(400, "InvalidParameter", KEY, Set_Cookie=f"{KEY}={KEY}; Expires={KEY}"),
    "content type": reply(400, KEY, Content_Type=f"text/html; charset={KEY}"),
    "content encoding": reply(200, b"{}", Content_Encoding=KEY),
    "garbled": reply(200, f'{{"request_id": "{KEY}", "'),
    "bad request id": reply(200, {"request_id": KEY, "result": {"embeddings": []}}),
    "bad index": altered(lambda items: items[0].update(index=KEY)),
    "long bad index": altered(lambda items: items[0].update(index="-" * 20 + KEY)),
    "bad number": altered(lambda items: items[0].update(embedding=[KEY] * 4)),
    "bad result": reply(200, {"request_id": KEY, "result": {KEY: KEY}}),
    "status line": raw(f"HTTP/1.1 {KEY} OK\r\n\r\n".encode()),
    "no status line": raw(f"{KEY}\r\n\r\n".encode()),
    "reason": raw(f"HTTP/1.1 400 {KEY}\r\nContent-Length: 0\r\n\r\n".encode()),
    "header name": raw(f"HTTP/1.1 200 OK\r\nX {KEY}: 1\r\nContent-Length: 0\r\n\r\n".encode()),
    "header without colon": raw(f"HTTP/1.1 200 OK\r\n{KEY}\r\nContent-Length: 0\r\n\r\n".encode()),
    "content length": raw(f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n".encode()),
    "chunk size": raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode()),
    "gzip": reply(200, f"\x1f\x8b{KEY}", Content_Encoding="gzip"),
}
"""A server that sends the key back, wherever it can."""

SILENT: dict[str, Action] = {
    "hang": hang,
    "reset": reset_after_request,
    "reset in body": reset_in_body,
    "garbled": garbled,
}


@pytest.mark.parametrize("action", [*ECHOES.values(), *SILENT.values()], ids=[*ECHOES, *SILENT])
def test_no_error_shows_the_key(action: Action, call: Any) -> None:
    """Neither an error nor what is behind it shows the key, though the server echoes it; nor do locals."""
    with (
        RawServer(default=action) as server,
        EmbeddingClient(**keyless(server.url, retry_timeout=0, timeout=0.5 if action is hang else 10)) as client,
        pytest.raises(OpenSearchEmbedError) as caught,
    ):
        call(client.embed, ["tea", "coffee"])
    check_clean(everything_shown(caught.value))
    check_clean(repr(pickle.dumps(caught.value)))


@pytest.mark.parametrize("interface", ["langchain", "llama_index"])
def test_no_error_of_a_framework_shows_the_key(interface: str, call: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What the frameworks add to an error, its traceback or the logs does not show the key either."""
    for action in (ECHOES["message"], ECHOES["bad index"], reset_after_request):
        with RawServer(default=action) as server:
            embed = INTERFACES[interface](**keyless(server.url, retry_timeout=0))
            with pytest.raises(OpenSearchEmbedError) as caught:
                call(embed, ["tea", "coffee"])
            embed.__self__.close()
        check_clean(everything_shown(caught.value))
    check_clean(caplog.text)


@pytest.mark.parametrize("status", [400, 200])
def test_no_error_shows_a_part_of_the_key(status: int, call: Any) -> None:
    """Wherever a long message is cut, no piece of an echoed key is left at its end."""
    offsets = [*range(300 - len(KEY), 301, 5), *range(3000 - len(KEY), 3001, 5)]
    script = [refuse(status, "InvalidParameter", "x" * offset + KEY) for offset in offsets]
    script += [reply(status, b"y" * offset + KEY.encode()) for offset in offsets]
    with RawServer(*script) as server, EmbeddingClient(**keyless(server.url, retry_timeout=0)) as client:
        for _ in script:
            with pytest.raises(OpenSearchEmbedError) as caught:
                call(client.embed, ["tea"])
            check_clean(everything_shown(caught.value))


@pytest.mark.parametrize("url", [f"http://{HOST}:1", "https://no-such-host.invalid"], ids=["refused", "unknown"])
def test_no_failed_connection_shows_the_key(url: str, call: Any) -> None:
    """A connection that cannot be made tells where, and not with which key."""
    with EmbeddingClient(**keyless(url, retry_timeout=0)) as client, pytest.raises(OpenSearchEmbedError) as caught:
        call(client.embed, ["tea"])
    check_clean(everything_shown(caught.value))


@pytest.mark.parametrize("name", [HOST, "other.test"])
def test_no_refused_certificate_shows_the_key(name: str, tmp_path: Path, call: Any) -> None:
    """A certificate that is refused, or a server that hangs behind a good one, does not show the key."""
    authority = Authority(tmp_path)
    with RawServer(hang, tls=authority.tls(name)) as server:
        settings = keyless(server.url, ca_bundle=authority.bundle, retry_timeout=0, timeout=0.5)
        with EmbeddingClient(**settings) as client, pytest.raises(OpenSearchEmbedError) as caught:
            call(client.embed, ["tea"])
    check_clean(everything_shown(caught.value))


def test_no_cancelled_request_shows_the_key() -> None:
    """The traceback of a cancelled call, with the locals of the HTTP library's frames, does not show the key."""

    async def cancel_one() -> str:
        task = asyncio.create_task(client.aembed(["tea"]))
        await asyncio.to_thread(server.wait_for_requests, 1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return everything_shown(error)
        return pytest.fail("it was not cancelled")

    with RawServer(default=hang) as server, EmbeddingClient(**keyless(server.url)) as client:
        shown = asyncio.run(cancel_one(), debug=True)
    assert "aio.py" in shown
    check_clean(shown)


BAD_SETTINGS: list[dict[str, Any]] = [
    {"qps": -1},
    {"timeout": "soon"},
    {"endpoint": "http://remote.test"},
    {"endpoint": ""},
    {"model": "unknown-model", "dimension": None},
    {"dimension": 0},
    {"ca_bundle": "/no/such/file"},
    {"proxy": "socks5://127.0.0.1:1"},
    {"empty": "maybe"},
    {"max_attempts": 0},
]


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("bad", BAD_SETTINGS, ids=lambda bad: next(iter(bad)))
def test_no_configuration_error_shows_the_key(interface: str, bad: dict[str, Any]) -> None:
    """A constructor that is given the key and fails for another reason does not show it, locals included."""
    with pytest.raises(ConfigurationError) as caught:
        INTERFACES[interface](api_key=KEY, **(keyless(f"http://{HOST}:1") | bad))
    # The helper's own frame holds the settings that it was given.
    ours = caught.value.with_traceback(_without_tests(caught.value.__traceback__))
    check_clean(everything_shown(ours))


def _without_tests(frames: Any) -> Any:
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        frames = frames.tb_next
    return frames


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize(
    "damage",
    [lambda key: key + "\n" + key, lambda key: "ключ" + key, lambda key: [key]],
    ids=["newline", "not ASCII", "list"],
)
def test_an_unusable_key_is_not_shown(interface: str, damage: Callable[[str], Any]) -> None:
    """A key that no header can carry, or that is no str, is reported without being quoted."""
    with pytest.raises(ConfigurationError) as caught:
        INTERFACES[interface](**keyless(f"http://{HOST}:1"), api_key=damage(KEY))
    for link in chain(caught.value):
        check_clean(f"{link!r}{link}{link.args}")


def test_a_misspelt_argument_does_not_show_the_key() -> None:
    """`apikey=` fails, and the error says the name alone."""
    for interface in ("langchain", "llama_index"):
        with pytest.raises(ConfigurationError, match="apikey") as caught:
            INTERFACES[interface](**keyless(f"http://{HOST}:1"), apikey=KEY)
        for link in chain(caught.value):
            check_clean(f"{link!r}{link}{link.args}")


# --- whole texts ---


@pytest.mark.parametrize("status", [400, 500, 200])
@pytest.mark.parametrize("form", ["words", "json", "ascii json", "page", "escaped page"])
def test_no_error_shows_a_whole_text(form: str, status: int, call: Any) -> None:
    """A text that the server quotes, in whatever form, is not repeated by the error."""
    quoted = {
        "words": POISON,
        "json": json.dumps({"code": "InvalidParameter", "message": POISON}, ensure_ascii=False),
        "ascii json": json.dumps({"code": "InvalidParameter", "message": f"bad: {json.dumps([POISON])}"}),
        "page": f"<html><p>Cannot read {POISON}</p></html>",
        "escaped page": f"<html><p>Cannot read {html.escape(POISON)}</p></html>",
    }[form]
    with (
        RawServer(default=reply(status, quoted)) as server,
        EmbeddingClient(**keyless(server.url, retry_timeout=0)) as client,
        pytest.raises(OpenSearchEmbedError) as caught,
    ):
        call(client.embed, ["tea", POISON])
    for link in chain(caught.value):
        assert "private sentence" not in f"{link!r}{link}{vars(link)}"


@pytest.mark.parametrize("text", ["a private sentence \ud800", "", 7], ids=["surrogate", "empty", "number"])
def test_no_input_error_shows_a_text(text: Any, call: Any) -> None:
    """A text that cannot be sent is named by its index, not by its words."""
    with EmbeddingClient(**keyless(f"http://{HOST}:1")) as client, pytest.raises(InputError) as caught:
        call(client.embed, ["another private sentence", text])
    assert caught.value.index == 1
    for link in chain(caught.value):
        assert "private" not in f"{link!r}{link.args}"


# --- what is not an error ---


def test_the_key_is_sent_once() -> None:
    """A request holds the key in one header, and nowhere else."""
    with RawServer() as server, EmbeddingClient(**keyless(server.url)) as client:
        client.embed(["tea"])
        (request,) = server.requests
    assert f"{request.target}{request.headers.items()}{request.body!r}".count(KEY) == 1


def test_the_client_does_not_print_the_key(call: Any) -> None:
    """No representation of a client, its settings or its parts shows the key, before or after use."""
    with RawServer() as server, EmbeddingClient(**keyless(server.url)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]
        parts = [client, client.settings, client.model, client.usage, client.__getstate__(), vars(client)]
        parts += [
            vars(client._made),
            vars(client._made.engine),
            vars(client._made.engine.connections),
            dataclasses.asdict(client.settings),
        ]
        parts += [copy.deepcopy(client), f"{client.settings.api_key}", client.settings.api_key]
        for part in parts:
            check_clean(f"{part!r}{part}")


def test_langchain_serialises_without_the_key(call: Any) -> None:
    """Nothing that LangChain or pydantic make of the embeddings shows the key."""
    from langchain_core.load import dumpd, dumps

    with RawServer() as server:
        embed = INTERFACES["langchain"](**keyless(server.url))
        call(embed, ["tea"])
        embeddings = embed.__self__
        shown = [embeddings, str(embeddings), dict(embeddings), embeddings.model_dump(), embeddings.model_dump_json()]
        shown += [embeddings.model_dump(mode="json"), type(embeddings).model_json_schema(), dumps(embeddings)]
        shown += [dumpd(embeddings), embeddings.model_copy(), vars(embeddings), copy.deepcopy(embeddings)]
        embeddings.close()
    for form in shown:
        check_clean(repr(form))


def test_llama_index_serialises_without_the_key(call: Any) -> None:
    """Nothing that LlamaIndex or pydantic make of the embedding shows the key."""
    with RawServer() as server:
        embed = INTERFACES["llama_index"](**keyless(server.url))
        call(embed, ["tea"])
        embedding = embed.__self__
        shown = [embedding, str(embedding), dict(embedding), embedding.to_dict(), embedding.to_json()]
        shown += [embedding.model_dump(), embedding.model_dump_json(), type(embedding).model_json_schema()]
        shown += [embedding.model_copy(), vars(embedding), copy.deepcopy(embedding)]
        if hasattr(embedding, "to_payload"):
            shown.append(embedding.to_payload())
        embedding.close()
    for form in shown:
        check_clean(repr(form))


def test_llama_index_events_do_not_carry_the_key(call: Any) -> None:
    """The framework's instrumentation, which tracing services listen to, is not told the key."""
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler
    from llama_index.core.instrumentation.events.base import BaseEvent

    events: list[BaseEvent] = []

    class Listener(BaseEventHandler):
        def handle(self, event: BaseEvent, **_: Any) -> None:
            events.append(event)

    dispatcher = get_dispatcher()
    listener = Listener()
    dispatcher.add_event_handler(listener)
    try:
        with RawServer(honest, ECHOES["message"]) as server:
            embed = INTERFACES["llama_index"](**keyless(server.url, max_concurrency=1))
            with pytest.raises(InvalidRequest):
                call(embed, [f"text number {number}" for number in range(40)])
            embed.__self__.close()
    finally:
        dispatcher.event_handlers.remove(listener)
    assert events
    for event in events:
        check_clean(f"{event!r}{event.model_dump()}")


def test_the_emulator_keeps_no_key(emulator: Emulator, call: Any) -> None:
    """The emulator's records show no key: neither the right one nor a wrong one, which may be a real one."""
    with EmbeddingClient(endpoint=emulator.url, api_key=emulator.api_key, qps=None) as client:
        call(client.embed, ["tea"])
    with EmbeddingClient(endpoint=emulator.url, qps=None) as stranger, pytest.raises(OpenSearchEmbedError) as caught:
        call(stranger.embed, ["tea"])
    assert len(emulator.requests) == 2
    check_clean(repr(emulator.requests))
    check_clean(everything_shown(caught.value))
    assert emulator.api_key not in repr([record.headers for record in emulator.requests])
    assert emulator.api_key not in repr(emulator)


def test_the_cache_holds_no_key(tmp_path: Path, call: Any) -> None:
    """The file that a cache is kept in has vectors, and no key."""
    with RawServer() as server:
        settings = keyless(server.url, cache=str(tmp_path / "embeddings.sqlite"))
        with EmbeddingClient(**settings) as client:
            call(client.embed, ["tea"])
            kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert kept
    check_clean(kept.decode("latin-1"))
