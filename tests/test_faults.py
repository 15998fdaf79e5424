"""Every way in which a request fails, over a real socket: which error, what it says, what was done and what was not."""

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import pytest
from interfaces import INTERFACES, settings_for
from servers import (
    HOST,
    REQUEST_ID,
    Action,
    Connection,
    RawRequest,
    RawServer,
    altered,
    answer,
    chunked,
    close_after_request,
    close_when_idle,
    cut,
    cut_chunks,
    garbled,
    gzipped,
    honest,
    http,
    in_chunks,
    raw,
    refuse,
    replaced,
    reply,
    reset_after_request,
    reset_in_body,
    until_close,
    vector,
)

from opensearch_embed import (
    ApiError,
    AuthenticationError,
    ConnectFailed,
    EmbeddingClient,
    InvalidRequest,
    OpenSearchEmbedError,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
    TransportError,
)

TEXTS = [f"text number {number}" for number in range(80)]  # three batches: 32, 32, 16
PAGE = "<html><body><h1>Gateway says no</h1></body></html>"
FREE = "Free allocated quota exceeded."


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes:
        name: What it is.
        action: What the server does.
        error: The class that is raised.
        says: Patterns that the error's text has, such as the code and what to do next.
        status: HTTP status on the error.
        code: The service's code on the error.
        request_id: The service's name for the request, on the error.
    """

    name: str
    action: Action
    error: type[OpenSearchEmbedError]
    says: tuple[str, ...] = ()
    status: int | None = None
    code: str | None = None
    request_id: str | None = None


def api_faults(error: type[ApiError], status: int, code: str | None, *says: str, **headers: str) -> Iterator[Fault]:
    """Yield a refusal with the service's body; without a code, one with a page, an empty one, and an unknown JSON."""
    says = (f"HTTP {status}", *says)
    if code is not None:
        yield Fault(
            f"{status} {code}",
            refuse(status, code, "These are the words.", **headers),
            error,
            (*says, re.escape(code), REQUEST_ID, "These are the words"),
            status,
            code,
            REQUEST_ID,
        )
    else:
        yield Fault(f"{status} page", reply(status, PAGE, Content_Type="text/html"), error, (*says, "Gateway"), status)
        yield Fault(f"{status} empty", reply(status), error, (*says, "no reason"), status)
        other = {"detail": "in another form"}
        yield Fault(f"{status} other JSON", reply(status, other), error, (*says, "in another form"), status)


def set_index(value: Any) -> Action:
    """Answer with another index on the second vector."""
    return altered(lambda items: items[1].update(index=value))


def set_number(value: Any) -> Action:
    """Answer with another first number in the second vector."""
    return altered(lambda items: items[1]["embedding"].__setitem__(0, value))


def duplicate(items: list[dict[str, Any]]) -> None:
    """Send the second vector under the first one's index besides its own."""
    items.append({"index": 0, "embedding": items[1]["embedding"]})


def rename(items: list[dict[str, Any]]) -> None:
    """Leave the index out."""
    del items[1]["index"]


LIMITED = "qps"
BILLING = "[Bb]illing"
KEY_ADVICE = "OPENSEARCH_API_KEY"
ENDPOINT_ADVICE = "endpoint"
LATER = "later"

REFUSED: list[Fault] = [
    *api_faults(InvalidRequest, 400, "InvalidParameter"),
    *api_faults(InvalidRequest, 400, "ServiceIdNotExist"),
    *api_faults(InvalidRequest, 400, "SomethingNew"),
    *api_faults(InvalidRequest, 400, None),
    *api_faults(AuthenticationError, 401, None, KEY_ADVICE),
    *api_faults(AuthenticationError, 403, None, KEY_ADVICE),
    *api_faults(AuthenticationError, 401, "Unauthorized", KEY_ADVICE),
    *api_faults(AuthenticationError, 403, "Forbidden", KEY_ADVICE),
    *api_faults(InvalidRequest, 404, None),
    *api_faults(InvalidRequest, 413, None),
    *api_faults(InvalidRequest, 200, "InvalidParameter"),
    *[
        Fault(
            f"429 free quota: {words}",
            refuse(429, "Throttling.AllocationQuota", words),
            QuotaExhausted,
            (words, BILLING, REQUEST_ID),
            429,
            "Throttling.AllocationQuota",
            REQUEST_ID,
        )
        for words in (FREE, "The free tier of the model has been exhausted: quota exceeded.", "免费额度已用完。")
    ],
    *[
        Fault(
            f"{status} to {location}",
            reply(status, b"moved", Location=location),
            ApiError,
            (f"HTTP {status}", "[Rr]edirect", ENDPOINT_ADVICE),
            status,
        )
        for status, location in [
            (301, "http://other.test/"),
            (302, "http://[::1"),
            (303, "/elsewhere"),
            (307, "http://127.0.0.1:1/"),
            (308, "http://:99999999/"),
        ]
    ],
    Fault(
        "403 of the vendor's gateway",
        reply(403, {"Code": "Forbidden.Access", "Message": "You have no rights.", "RequestId": REQUEST_ID}),
        AuthenticationError,
        ("HTTP 403", "Forbidden.Access", "no rights", REQUEST_ID, KEY_ADVICE),
        403,
        "Forbidden.Access",
        REQUEST_ID,
    ),
    Fault("304", raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"), ApiError, ("HTTP 304",), 304),
    Fault(
        "200 with a code and result null",
        reply(200, {"request_id": REQUEST_ID, "code": "InvalidParameter", "message": "words", "result": None}),
        InvalidRequest,
        ("InvalidParameter", "words"),
        200,
        "InvalidParameter",
        REQUEST_ID,
    ),
]
"""Trying again is pointless: exactly one request."""

RETRIED: list[Fault] = [
    *api_faults(RateLimited, 429, "Throttling", LIMITED),
    *api_faults(RateLimited, 429, "Throttling.RateQuota", LIMITED),
    *api_faults(RateLimited, 429, "Throttling.AllocationQuota", LIMITED, Retry_After="0"),
    *api_faults(RateLimited, 429, None, LIMITED),
    *api_faults(RateLimited, 200, "Throttling.RateQuota", LIMITED),
    *api_faults(ServiceUnavailable, 500, "InternalServerError", LATER),
    *api_faults(ServiceUnavailable, 200, "InternalServerError", LATER),
    *[fault for status in (500, 502, 503) for fault in api_faults(ServiceUnavailable, status, None, LATER)],
    *api_faults(ServiceUnavailable, 503, "SomethingNew", LATER),
    Fault(
        "429 that offers help",
        refuse(429, "Throttling.AllocationQuota", "Quota exceeded; feel free to open a ticket.", Retry_After="0"),
        RateLimited,
        (LIMITED,),
        429,
        "Throttling.AllocationQuota",
        REQUEST_ID,
    ),
    Fault("cut body", cut, ResponseError, ("cut short",)),
    Fault("cut chunks", cut_chunks, ResponseError, ("cut short",)),
    Fault("reset in mid-body", reset_in_body, ResponseError, ("cut short",)),
    Fault("garbled body", garbled, ResponseError, ("not JSON",)),
    Fault("200 page", reply(200, PAGE, Content_Type="text/html"), ResponseError, ("not JSON",)),
    Fault("200 empty", reply(200), ResponseError, ("empty",)),
    Fault("204", raw(b"HTTP/1.1 204 No Content\r\n\r\n"), ResponseError, ("empty",)),
    Fault("200 {}", reply(200, {}), ResponseError, ("result",)),
    Fault("200 []", reply(200, "[]"), ResponseError, ("result",)),
    Fault("200 null", reply(200, "null"), ResponseError, ("result",)),
    Fault("embeddings is no list", replaced(b"[{", b'{"a": [{'), ResponseError),
    *[
        Fault(name, action, ResponseError, (*says, REQUEST_ID), None, None, REQUEST_ID)
        for name, action, *says in [
            ("index missing", altered(rename), "index"),
            ("index twice", altered(duplicate), "index 0.*twice"),
            ("index of another", set_index(0), "index 0.*twice"),
            ("index out of range", set_index(32), "index.* 32"),
            ("index below zero", set_index(-1), "index.* -1"),
            ("index not whole", set_index(1.5), r"index.* 1\.5"),
            ("index a float", set_index(1.0), r"index.* 1\.0"),
            ("index true", set_index(True), "index.* True"),
            ("index text", set_index("1"), "index.* '1'"),
            ("index null", set_index(None), "index.* None"),
            ("too few vectors", altered(lambda items: items.pop()), "31 vectors for 32"),
            ("no vectors", altered(lambda items: items.clear()), "0 vectors for 32"),
            ("too many vectors", altered(lambda items: items.append(items[0] | {"index": 32})), "index.* 32"),
            ("too few numbers", altered(lambda items: items[1]["embedding"].pop()), "3 numbers.*4"),
            ("too many numbers", altered(lambda items: items[1]["embedding"].append(0.5)), "5 numbers.*4"),
            ("no numbers", altered(lambda items: items[1].update(embedding=None)), "index 1"),
            ("a null number", set_number(None), "not a number", "index 1"),
            ("a text number", set_number("0.5"), "not a number"),
            ("a true number", set_number(True), "not a number"),
            ("a nested number", set_number([0.5]), "not a number"),
            ("an item that is null", altered(lambda items: items.__setitem__(1, None))),
        ]
    ],
    *[
        Fault(f"number {text}", replaced(b'"embedding": [', b'"embedding": [' + text.encode() + b", "), ResponseError)
        for text in ("NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400)
    ],
    Fault("connection closed", close_after_request, TransportError, ("No answer from http",)),
    Fault("connection reset", reset_after_request, TransportError, ("No answer from http",)),
    Fault("head cut", raw(b"HTTP/1"), TransportError, ("No answer from http",)),
    Fault("head reset", raw(b"HTTP/1.1 200", then="reset"), TransportError, ("No answer from http",)),
    Fault("not HTTP", raw(b"220 mail.test ESMTP\r\n\r\n"), TransportError, ("No answer from http",)),
    Fault("not text", raw(b"\x16\x03\x01\x00\xff\x00\r\n\r\n"), TransportError, ("No answer from http",)),
    Fault("endless head", raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000), TransportError, ("No answer",)),
    Fault("damaged gzip", reply(200, b"\x1f\x8b junk", Content_Encoding="gzip"), ResponseError, ("damaged",)),
    Fault("gzip cut short", reply(200, gzip.compress(b"{}")[:-4], Content_Encoding="gzip"), ResponseError, ("short",)),
    Fault("another encoding", reply(200, b"zzzz", Content_Encoding="zstd"), ResponseError, ("zstd",)),
    Fault(
        "gzip bomb", reply(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"), ResponseError, ("grows",)
    ),
]
"""Trying again may help."""


FRAMEWORK_FAULTS = {
    "400 InvalidParameter",
    "401 page",
    "429 Throttling.RateQuota",
    f"429 free quota: {FREE}",
    "500 InternalServerError",
    "302 to http://[::1",
    "cut body",
    "index of another",
    "connection reset",
}
"""One of each kind goes through the frameworks as well: what they add is alike for all of them."""


def matrix(faults: list[Fault]) -> list[Any]:
    """Return each fault with the core, and one of each kind with LangChain and LlamaIndex."""
    return [
        pytest.param(interface, fault, id=f"{interface}-{fault.name}")
        for interface in INTERFACES
        for fault in faults
        if interface == "core" or fault.name in FRAMEWORK_FAULTS
    ]


@pytest.fixture(params=INTERFACES)
def open_interface(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Open the core, LangChain's or LlamaIndex's class on a server; its method for lists is returned."""
    opened: list[Any] = []

    def open_on(server: RawServer, **settings: Any) -> Any:
        method = INTERFACES[request.param](**settings_for(server.url, **settings))
        opened.append(method.__self__)
        return method

    yield open_on
    for owner in opened:
        owner.close()


def check_error(error: OpenSearchEmbedError, fault: Fault) -> None:
    """The error is the one of this fault, and says what it should."""
    assert type(error) is fault.error
    for pattern in fault.says:
        assert re.search(pattern, str(error))
    assert len(str(error)) < 1000
    for name in ("status", "code", "request_id"):
        expected = getattr(fault, name)
        assert getattr(error, name, None) == expected


def check_bookkeeping(error: OpenSearchEmbedError, done: int, total: int) -> None:
    """`completed` and `pending` are together the input; what is completed is right."""
    assert sorted([*error.completed, *error.pending]) == list(range(total))
    assert {index: list(map(float, found)) for index, found in error.completed.items()} == {
        index: vector(TEXTS[index]) for index in range(done)
    }
    assert f"{done} of {total} texts" in "".join(error.__notes__)


@pytest.mark.parametrize(("open_interface", "fault"), matrix(REFUSED), indirect=["open_interface"])
def test_a_refusal_is_reported_at_once(fault: Fault, open_interface: Any, call: Any) -> None:
    """A fault that no retry can mend costs one request; nothing more is sent, and what was done is kept."""
    with RawServer(honest, fault.action) as server:
        embed = open_interface(server, max_concurrency=1)
        with pytest.raises(OpenSearchEmbedError) as caught:
            call(embed, TEXTS)
        check_error(caught.value, fault)
        check_bookkeeping(caught.value, 32, len(TEXTS))
        assert len(server.requests) == 2


@pytest.mark.parametrize(("open_interface", "fault"), matrix(RETRIED), indirect=["open_interface"])
def test_the_last_error_is_reported_when_retries_are_used_up(fault: Fault, open_interface: Any, call: Any) -> None:
    """A passing fault that does not pass is reported like any other, with all that was done before."""
    with RawServer(honest, fault.action) as server:
        embed = open_interface(server, max_concurrency=1, retry_timeout=0)
        with pytest.raises(OpenSearchEmbedError) as caught:
            call(embed, TEXTS)
        check_error(caught.value, fault)
        check_bookkeeping(caught.value, 32, len(TEXTS))
        assert len(server.requests) == 2


def test_every_passing_fault_is_survived(open_interface: Any, call: Any) -> None:
    """With each passing fault once, every vector is right, and each fault costs one request more."""
    texts = [f"text number {number}" for number in range(32 * len(RETRIED))]
    with RawServer(*(fault.action for fault in RETRIED)) as server:
        embed = open_interface(server, retry_timeout=30)
        assert call(embed, texts) == [vector(text) for text in texts]
        assert len(server.requests) == 2 * len(RETRIED)


def test_usage_counts_what_retries_cost(call: Any) -> None:
    """Requests and retries are counted as sent; texts and tokens as answered."""
    fault = refuse(500, "InternalServerError", Retry_After="0")
    with (
        RawServer(fault, fault, honest, garbled) as server,
        EmbeddingClient(**settings_for(server.url, max_concurrency=1)) as client,
    ):
        call(client.embed, TEXTS)
        usage = client.usage
    assert (usage.requests, usage.retries, usage.texts, usage.tokens) == (6, 3, 80, 80)
    assert len(server.requests) == 6


def test_max_attempts_is_how_often_a_batch_is_sent(call: Any) -> None:
    """A fault that stays is tried `max_attempts` times, and then reported."""
    fault = refuse(500, "InternalServerError", Retry_After="0")
    with RawServer(default=fault) as server, EmbeddingClient(**settings_for(server.url, max_attempts=4)) as client:
        with pytest.raises(ServiceUnavailable):
            call(client.embed, ["tea"])
        assert len(server.requests) == 4
        assert client.usage.retries == 3


def test_a_broken_connection_counts_as_an_attempt(call: Any) -> None:
    """A connection that breaks is tried `max_attempts` times, and then reported."""
    with RawServer(default=reset_after_request) as server:
        with EmbeddingClient(**settings_for(server.url, max_attempts=2)) as client, pytest.raises(TransportError):
            call(client.embed, ["tea"])
        assert len(server.requests) == 2


def test_being_throttled_does_not_count_as_an_attempt(call: Any) -> None:
    """A batch may be throttled more often than `max_attempts`: for that only the time counts."""
    throttled = [refuse(429, "Throttling.RateQuota", Retry_After="0")] * 5
    with RawServer(*throttled) as server, EmbeddingClient(**settings_for(server.url, max_attempts=1)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("status", "retry_after"),
    [pytest.param(429, None, id="429-date"), pytest.param(429, "1", id="429-seconds"), (503, "0.6")],
)
def test_retry_after_is_waited_for(status: int, retry_after: str | None, call: Any) -> None:
    """The next request comes after the time that `Retry-After` names in seconds or as a date, and not before."""
    sent_at: list[float] = []

    def refuse_for_a_while(connection: Connection, request: RawRequest) -> None:
        sent_at.append(time.time())
        # A date has whole seconds, so this one is 1 to 2 seconds away.
        value = retry_after or formatdate(int(time.time()) + 2, usegmt=True)
        refuse(status, "Throttling", Retry_After=value)(connection, request)

    def accept(connection: Connection, request: RawRequest) -> None:
        sent_at.append(time.time())
        honest(connection, request)

    with RawServer(refuse_for_a_while, default=accept) as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]
    assert sent_at[1] - sent_at[0] >= (0.95 if retry_after is None else float(retry_after) - 0.01)


def test_a_senseless_retry_after_is_ignored(call: Any) -> None:
    """A `Retry-After` that means nothing leaves the usual backoff."""
    values = ["soon", "", "-1", "nan", "inf", "1e400", "Wed, 99 Foo 2026 00:00:00 GMT", "\u0662"]
    script = [refuse(429, "Throttling", Retry_After=value) for value in values]
    texts = [f"text number {number}" for number in range(32 * len(values))]
    with RawServer(*script) as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, texts) == [vector(text) for text in texts]
        assert len(server.requests) == 2 * len(values)


def test_retry_after_is_on_the_error(call: Any) -> None:
    """What the service asked to wait can be read from the error."""
    with (
        RawServer(default=refuse(429, "Throttling", Retry_After="7.5")) as server,
        EmbeddingClient(**settings_for(server.url, retry_timeout=1)) as client,
        pytest.raises(RateLimited) as caught,
    ):
        call(client.embed, ["tea"])
    assert caught.value.retry_after == 7.5


@pytest.mark.parametrize("action", [gzipped, in_chunks, until_close], ids=lambda action: action.__name__)
def test_other_forms_of_an_honest_answer_are_understood(action: Action, open_interface: Any, call: Any) -> None:
    """Compressed, in chunks, or ended by the end of the connection: the vectors are the same."""
    with RawServer(default=action) as server:
        embed = open_interface(server)
        assert call(embed, TEXTS) == [vector(text) for text in TEXTS]
        assert len(server.requests) == 3


def test_compressed_chunks_are_understood(call: Any) -> None:
    """A reply that is compressed and in chunks is still the same reply."""

    def act(connection: Connection, request: RawRequest) -> None:
        headers = {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}
        connection.send(http(200, chunked(gzip.compress(answer(request)), 7), headers))

    with RawServer(default=act) as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, TEXTS) == [vector(text) for text in TEXTS]


@pytest.mark.parametrize("status", [200, 302, 500])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_body_without_end_is_not_swallowed(status: int, compressed: bool, call: Any) -> None:
    """A body that does not end, or that grows without bound when decompressed, is given up soon."""
    sent = 0
    block = gzip.compress(bytes(10_000_000), compresslevel=1) if compressed else bytes(1_000_000)
    encoding = {"Content-Encoding": "gzip"} if compressed else {}

    def pour(connection: Connection, _: RawRequest) -> None:
        nonlocal sent
        location = {"Location": "/elsewhere", "Transfer-Encoding": "chunked"}
        connection.send(http(status, b"", encoding | location))
        while sent < 1_000_000_000:
            connection.send(b"%x\r\n%s\r\n" % (len(block), block))
            sent += len(block)

    with (
        RawServer(default=pour) as server,
        EmbeddingClient(**settings_for(server.url, max_attempts=1, timeout=20)) as client,
        pytest.raises((ResponseError, ApiError)) as caught,
    ):
        call(client.embed, ["tea"])
    assert not isinstance(caught.value, TransportError)
    assert sent < 100_000_000


def test_a_refusal_that_comes_before_the_body_is_sent_is_read(call: Any) -> None:
    """A gateway that says 413 after the headers, and lets the rest run into the void, is understood."""

    class EarlyServer(RawServer):
        def _serve(self, connection: Connection) -> None:
            request = connection.read_request(with_body=False)
            assert request is not None
            self.note(request)
            connection.send(http(413, PAGE.encode(), {"Content-Type": "text/html", "Connection": "close"}))
            connection.wait()
            connection.close()

    with (
        EarlyServer() as server,
        EmbeddingClient(**settings_for(server.url, timeout=20)) as client,
        pytest.raises(InvalidRequest) as caught,
    ):
        call(client.embed, ["x" * 6_000_000])
    assert caught.value.status == 413
    assert len(server.requests) == 1


def test_a_keep_alive_connection_that_dies_as_we_send_is_replaced(open_interface: Any, call: Any) -> None:
    """A server that resets an idle connection just as the next request comes costs a retry, and nothing else."""
    with RawServer(close_when_idle) as server:
        embed = open_interface(server, max_concurrency=1)
        assert call(embed, TEXTS) == [vector(text) for text in TEXTS]
        assert server.connections == 2


def test_a_connection_is_kept_over_many_requests(call: Any) -> None:
    """One connection serves all requests of a call, whatever the form of the answers."""
    with RawServer(honest, in_chunks, gzipped, refuse(500, "InternalServerError", Retry_After="0")) as server:
        with EmbeddingClient(**settings_for(server.url, max_concurrency=1)) as client:
            call(client.embed, [f"text number {number}" for number in range(160)])
        assert server.connections == 1


def test_a_refused_connection_is_retried_and_reported(open_interface: Any, call: Any) -> None:
    """Where nobody listens, `ConnectFailed` says where; all is pending."""
    with RawServer() as server:
        pass
    embed = open_interface(server, max_attempts=2)
    with pytest.raises(ConnectFailed, match=re.escape(server.url)) as caught:
        call(embed, TEXTS)
    check_bookkeeping(caught.value, 0, len(TEXTS))


def test_a_connection_reset_at_its_start_is_survived(call: Any) -> None:
    """A server that resets a new connection before it has read anything is tried again."""

    def reset_the_first(connection: Connection) -> None:
        if connection.server.connections == 1:
            connection.reset()

    with RawServer(on_connect=reset_the_first) as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]
        assert client.usage.requests == 2


def test_an_unknown_host_is_connect_failed(call: Any) -> None:
    """A name that DNS does not know is `ConnectFailed` and names the endpoint."""
    settings = settings_for("https://no-such-host.invalid", max_attempts=1)
    with EmbeddingClient(**settings) as client, pytest.raises(ConnectFailed, match=r"no-such-host\.invalid") as caught:
        call(client.embed, ["tea"])
    assert "its name leads nowhere" in str(caught.value)


def test_a_port_where_nobody_listens_is_told_apart(call: Any) -> None:
    """On this machine it may be an emulator that is not running."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    settings = settings_for(f"http://{HOST}:{port}", max_attempts=1)
    with EmbeddingClient(**settings) as client, pytest.raises(ConnectFailed, match="nothing listens there") as caught:
        call(client.embed, ["tea"])
    assert "Is the emulator running" in str(caught.value)


def test_an_impossible_host_name_is_one_of_our_errors(call: Any) -> None:
    """A host name that DNS cannot even be asked for is reported as one of our errors."""
    with pytest.raises(OpenSearchEmbedError):
        call(EmbeddingClient(**settings_for(f"https://{'a' * 64}.test", max_attempts=1)).embed, ["tea"])


def test_one_fatal_error_stops_a_job_at_full_speed(open_interface: Any, call: Any) -> None:
    """With many requests under way, one refusal ends the job; the rest is not sent, and nothing that came is lost."""
    texts = [f"text number {number}" for number in range(1024)]  # 32 batches, one of LlamaIndex's

    refused = threading.Event()

    def refuse_one(connection: Connection, request: RawRequest) -> None:
        if "text number 320" in request.json["input"]:
            refused.set()
            refuse(400, "InvalidParameter")(connection, request)
            return
        if refused.is_set():
            # The client gets time to see the refusal.
            connection.server.stopping.wait(0.1)
        honest(connection, request)

    with RawServer(default=refuse_one) as server:
        embed = open_interface(server, max_concurrency=4)
        with pytest.raises(InvalidRequest) as caught:
            call(embed, texts)
        error = caught.value
        assert sorted([*error.completed, *error.pending]) == list(range(1024))
        assert set(range(320, 352)) <= set(error.pending)
        assert all(list(found) == vector(texts[index]) for index, found in error.completed.items())
        assert len(server.requests) < 24


def test_a_fatal_error_wakes_the_batches_that_wait(call: Any) -> None:
    """A refusal ends the job at once, though other batches were asked to wait for half a minute."""
    held: list[Connection] = []

    def first_wait_then_fail(connection: Connection, request: RawRequest) -> None:
        if "text number 0" not in request.json["input"]:
            refuse(429, "Throttling", Retry_After="30")(connection, request)
            held.append(connection)
            return
        connection.server.wait_for_requests(3)
        while len(held) < 2:
            connection.server.stopping.wait(0.01)
        refuse(400, "InvalidParameter")(connection, request)

    with RawServer(default=first_wait_then_fail) as server, EmbeddingClient(**settings_for(server.url)) as client:
        start = time.monotonic()
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, TEXTS)
        assert time.monotonic() - start < 15
    check_bookkeeping(caught.value, 0, len(TEXTS))


def test_arrays_keep_what_was_done(call: Any) -> None:
    """`embed_array` reports completed rows as `embed` does vectors."""
    with (
        RawServer(honest, refuse(400, "InvalidParameter")) as server,
        EmbeddingClient(**settings_for(server.url, max_concurrency=1)) as client,
        pytest.raises(InvalidRequest) as caught,
    ):
        call(client.embed_array, TEXTS)
    check_bookkeeping(caught.value, 32, len(TEXTS))


def test_a_number_beyond_float32_is_refused_for_arrays_alone(call: Any) -> None:
    """1e39 is a number for lists, but not for a float32 array, which says so and which request it was."""
    with (
        RawServer(set_number(1e39), default=set_number(1e39)) as server,
        EmbeddingClient(**settings_for(server.url, retry_timeout=0)) as client,
    ):
        assert call(client.embed, ["a", "b"])[1][0] == 1e39
        with pytest.raises(ResponseError, match="float32") as caught:
            call(client.embed_array, ["a", "b"])
    assert caught.value.request_id == REQUEST_ID


def test_whole_numbers_are_floats(call: Any) -> None:
    """A number that is printed without a point becomes a float."""
    with RawServer(set_number(1)) as server, EmbeddingClient(**settings_for(server.url)) as client:
        number = call(client.embed, ["a", "b"])[1][0]
    assert (number, type(number)) == (1.0, float)


def test_fields_nobody_documented_are_ignored(call: Any) -> None:
    """Additional fields, a missing usage and a null code do not spoil an answer."""

    def act(connection: Connection, request: RawRequest) -> None:
        content = json.loads(answer(request)) | {"new": [1], "code": None}
        del content["usage"]
        content["result"]["embeddings"][0]["text"] = "?"
        connection.send(http(201, json.dumps(content).encode()))

    with RawServer(default=act) as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, TEXTS) == [vector(text) for text in TEXTS]
        assert client.usage.tokens == 0


def test_cookies_are_not_kept(call: Any) -> None:
    """A cookie that the server sets is not sent back: each request stands for itself."""

    def set_cookie(connection: Connection, request: RawRequest) -> None:
        connection.send(http(200, answer(request), {"Set-Cookie": "session=1; Path=/"}))

    with RawServer(default=set_cookie) as server:
        with EmbeddingClient(**settings_for(server.url, max_concurrency=1)) as client:
            call(client.embed, TEXTS)
        assert [request.headers.get("Cookie") for request in server.requests] == [None] * 3
