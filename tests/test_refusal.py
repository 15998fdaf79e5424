"""What a refusal means: which error, which delay, and that no secret of ours is repeated."""

import email.utils
import json
import math
import pickle
import time
import traceback
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensearch_embed._wire.conceal import EXCERPT_CHARS, concealing, strip
from opensearch_embed._wire.refusal import ERRORS_BY_CODE, Reply, error_class, retry_after
from opensearch_embed._wire.reply import decode_reply
from opensearch_embed.errors import (
    ApiError,
    AuthenticationError,
    InvalidRequest,
    OpenSearchEmbedError,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
)

KEY = "OS-0123456789abcdef0123456789abcdef"
TEXT = 'A "quoted" text\nof two lines, with  gaps and 茶'
FREE = "Free allocated quota exceeded."

# Status, code, message -> error: everything that service.md documents, then what it does not.
CLASSES: list[tuple[int, str | None, str, type[ApiError]]] = [
    (400, "InvalidParameter", "input is missing", InvalidRequest),
    (400, "ServiceIdNotExist", "no such service", InvalidRequest),
    (429, "Throttling", "too many calls", RateLimited),
    (429, "Throttling.RateQuota", "over the QPS limit", RateLimited),
    (429, "Throttling.AllocationQuota", "tokens per minute used up", RateLimited),
    (429, "Throttling.AllocationQuota", FREE, QuotaExhausted),
    (429, "Throttling.AllocationQuota", "The FREE quota is used up", QuotaExhausted),
    (429, "Throttling.AllocationQuota", "免费额度已用完", QuotaExhausted),
    (500, "InternalServerError", "server fault", ServiceUnavailable),
    # The code decides, whatever the status.
    (200, "Throttling.RateQuota", "", RateLimited),
    (400, "Throttling.RateQuota", "", RateLimited),
    (500, "Throttling", "", RateLimited),
    (200, "InternalServerError", "", ServiceUnavailable),
    (400, "InternalServerError", "", ServiceUnavailable),
    (500, "InvalidParameter", "", InvalidRequest),
    (429, "ServiceIdNotExist", "", InvalidRequest),
    # A kind of throttling that is not known is throttling; a free quota is one of allocation only.
    (429, "Throttling.Burst", "", RateLimited),
    (429, "Throttling.RateQuota", FREE, RateLimited),
    (429, "Throttling", FREE, RateLimited),
    # No code, or an unknown one: the status decides.
    *((401, code, "", AuthenticationError) for code in (None, "", "Unknown", "throttling")),
    *((403, code, "", AuthenticationError) for code in (None, "", "Unknown")),
    *(
        (status, code, "", InvalidRequest)
        for status in (400, 402, 404, 405, 407, 413, 422, 424, 426, 451, 498)
        for code in (None, "Unknown")
    ),
    *((status, code, "", ServiceUnavailable) for status in (408, 421, 425, 499) for code in (None, "Unknown")),
    (408, "InvalidParameter", "", InvalidRequest),
    *((429, code, FREE, RateLimited) for code in (None, "", "Unknown")),
    *((status, code, "", ServiceUnavailable) for status in (500, 502, 503, 504, 599) for code in (None, "Unknown")),
    *((status, None, "", ApiError) for status in (300, 301, 302, 303, 304, 307, 308)),
    (200, "Unknown", "", ApiError),
]


@pytest.mark.parametrize(("status", "code", "message", "kind"), CLASSES)
def test_the_code_decides_then_the_status(status: int, code: str | None, message: str, kind: type[ApiError]) -> None:
    """Each status, code and message is one error."""
    assert error_class(status, code, message) is kind


def test_the_table_holds_every_documented_code() -> None:
    """A code that is added to the code must be added to the table above."""
    assert set(ERRORS_BY_CODE) <= {code for _, code, _, _ in CLASSES}


def test_a_polite_message_is_no_exhausted_quota() -> None:
    """A quota that clears is retried, even if its message says that one may feel free to ask."""
    message = "Tokens per minute exceeded. Please feel free to contact us."
    assert error_class(429, "Throttling.AllocationQuota", message) is RateLimited


def refused(body: bytes | dict[str, Any], status: int = 400, **headers: str) -> ApiError:
    """Return the error for a reply."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        decode_reply(
            Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content),
            expected=1,
            dimension=2,
        )
    return caught.value


def test_an_error_carries_what_the_service_said() -> None:
    """Status, code, message and request id are attributes, and all of them are in the words of the error."""
    error = refused({"request_id": "r-1", "latency": 2, "code": "InvalidParameter", "message": "input is missing"})
    assert type(error) is InvalidRequest
    assert (error.status, error.code, error.message) == (400, "InvalidParameter", "input is missing")
    assert (error.request_id, error.retry_after) == ("r-1", None)
    assert str(error) == (
        "The service said no (HTTP 400, InvalidParameter, request_id r-1): input is missing. "
        "The same request would be refused again: check model, workspace, endpoint and texts."
    )


# Body, message, code: bodies that the service does not document.
STRANGE: list[tuple[bytes, str, str | None]] = [
    (b"<html>\n <h1>Bad  Gateway</h1>\n</html>", "<html> <h1>Bad Gateway</h1> </html>", None),
    (b"", "", None),
    (b"\xff\xfe no text", "\ufffd\ufffd no text", None),
    (b'{"code": "Thrott', '{"code": "Thrott', None),
    (b'"a string"', '"a string"', None),
    (b"[1, 2]", "[1, 2]", None),
    (b"{}", "{}", None),
    (b'{"error": "not ours"}', '{"error": "not ours"}', None),
    (b'{"code": {"a": 1}, "message": ["b"]}', '{"code": {"a": 1}, "message": ["b"]}', None),
    (b'{"code": 42, "message": 7}', "7", "42"),
    (b'{"code": null, "message": null}', '{"code": null, "message": null}', None),
    (b'{"code": "", "message": ""}', '{"code": "", "message": ""}', ""),
    (b'{"Code": "Forbidden", "Message": "no", "RequestId": "r-2"}', "no", "Forbidden"),
]


@pytest.mark.parametrize(("body", "message", "code"), STRANGE)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 502, 503])
def test_a_strange_body_is_shown_and_the_status_decides(
    status: int, body: bytes, message: str, code: str | None
) -> None:
    """HTML, nothing, half of a JSON: the status says which error, and the first part of the body is its message."""
    error = refused(body, status)
    assert type(error) is error_class(status, None)
    assert (error.status, error.message, error.code) == (status, message, code)
    assert f"HTTP {status}" in str(error)
    assert (message or "it gave no reason.") in str(error)


# Reply, what its error advises.
ADVICE = [
    (401, {}, "OPENSEARCH_API_KEY"),
    (403, {}, "workspace"),
    (429, {}, "qps"),
    (429, {"code": "Throttling.AllocationQuota", "message": FREE}, "billing"),
    (503, {}, "run the pending texts again later"),
    (302, {}, "Redirects are not followed"),
    (399, {"code": "InvalidParameter"}, "check the endpoint"),
]


@pytest.mark.parametrize(("status", "body", "words"), ADVICE)
def test_an_error_says_what_to_do(status: int, body: dict[str, Any], words: str) -> None:
    """Where something can be done, the error says what."""
    assert words in str(refused(body, status))


# Message of a 400 to 32 texts, the batch_size that its error names.
MAXIMA: list[tuple[str, int | None]] = [
    ("input must have at most 10 strings", 10),
    ("The batch size is invalid, it should not be larger than 25.", 25),
    ("input.contents: max 16", 16),
    ("The maximum number of texts is 8", 8),
    ("maximum batch size (16) exceeded", 16),
    ("input must have 1 to 16 strings, not 32.", 16),
    ("array length 32 exceeds 10", 10),
    ("no more than 4 texts", 4),
    ("limit: 20, got 32", 20),
    ("len(input) must be <= 12", 12),
    ("一次最多 10 条文本", 10),
    ("数量超过上限10", 10),
    ("at most 32 strings", None),
    ("at most 8192 tokens", None),
    ("at most 20 tokens", None),
    ("at most 8 MB", None),
    ("at most 8MB", None),
    ("at most 1.5 things", None),
    ("input[3] must not be an empty string", None),
    ("32 texts are 7 too many", None),
    ("", None),
]


@pytest.mark.parametrize(("message", "limit"), MAXIMA)
def test_a_smaller_maximum_names_batch_size(message: str, limit: int | None) -> None:
    """A 400 that names fewer texts than were sent says the setting that keeps to it; no other number does."""
    body = json.dumps({"code": "InvalidParameter", "message": message}).encode()
    with pytest.raises(InvalidRequest) as caught:
        decode_reply(Reply(400, {}, body), expected=32, dimension=2)
    assert (f"say batch_size={limit}." in str(caught.value)) is (limit is not None)
    assert ("batch_size" in str(caught.value)) is (limit is not None)


def test_a_maximum_that_was_kept_names_no_batch_size() -> None:
    """Nor does a number where no more texts than that were sent, or another refusal's."""
    body = json.dumps({"message": "at most 10 strings"}).encode()
    for status, expected in ((400, 10), (400, 1), (404, 32), (503, 32)):
        with pytest.raises(ApiError) as caught:
            decode_reply(Reply(status, {}, body), expected=expected, dimension=2)
        assert "batch_size" not in str(caught.value)


# Status, headers, body, whether it is a web page.
PAGES: list[tuple[int, dict[str, str], bytes, bool]] = [
    (403, {}, b"<html><title>Blocked</title></html>", True),
    (403, {}, b"\r\n <!DOCTYPE html>\n<p>No.</p>", True),
    (405, {"content-type": "text/html; charset=utf-8"}, b"Blocked.", True),
    (451, {"content-type": "Application/XHTML+xml"}, b"", True),
    (405, {}, b"<b>no</b>", False),
    (403, {"content-type": "application/json"}, b'{"code": "Forbidden", "message": "no"}', False),
    (403, {"content-type": "text/html"}, b'{"code": "Forbidden", "message": "no"}', False),
    (403, {}, b"", False),
]


@pytest.mark.parametrize(("status", "headers", "body", "page"), PAGES)
def test_a_web_page_is_not_the_services_word(status: int, headers: dict[str, str], body: bytes, page: bool) -> None:
    """A page is told from an answer; its error names those between, and never the key alone."""
    error = refused(body, status, **headers)
    assert error.is_page is page
    assert ("firewall" in str(error)) is page
    assert "OPENSEARCH_API_KEY" in str(error) or status != 403


def test_a_text_that_is_a_code_changes_no_class() -> None:
    """A service that is over its rate stays so when one of the texts happens to be the name of that."""
    reply = Reply(200, {}, b'{"code": "Throttling.RateQuota", "message": "slow down"}')
    with pytest.raises(RateLimited):
        decode_reply(reply, expected=1, dimension=2, conceal=concealing(KEY, ["Throttling.RateQuota"]))


def test_a_gateways_names_are_understood() -> None:
    """Gateways of the same vendor write RequestId where the service writes request_id."""
    assert refused({"RequestId": "r-2"}, 403).request_id == "r-2"


@pytest.mark.parametrize("body", [b"x" * 100_000, json.dumps({"message": "x" * 100_000}).encode()])
def test_a_long_message_is_cut(body: bytes) -> None:
    """As much of a foreign message as helps goes into an error, and no more."""
    error = refused(body, 502)
    assert error.message == "x" * EXCERPT_CHARS
    assert len(str(error)) < EXCERPT_CHARS + 200


def test_a_long_code_is_cut() -> None:
    """A server that sends a novel for a code or a request id does not get it printed whole."""
    error = refused({"code": "c" * 100_000, "request_id": "r" * 100_000})
    assert len(str(error)) < 10_000


NOW = 784111777.0
"""In seconds since 1970, the moment that the dates below name."""

# Header, seconds.
RETRY_AFTER: list[tuple[str, float | None]] = [
    ("0", 0.0),
    ("1", 1.0),
    ("0.25", 0.25),
    (" 7 ", 7.0),
    ("86400", 86400.0),
    ("Sun, 06 Nov 1994 08:49:37 GMT", 10.0),
    ("Sun, 06 Nov 1994 09:49:37 +0100", 10.0),
    ("Sunday, 06-Nov-94 08:49:37 GMT", 10.0),
    ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ("-5", None),
    ("nan", None),
    ("inf", None),
    ("1e999", None),
    ("", None),
    (" ", None),
    ("soon", None),
    ("5 seconds", None),
    ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 99999 08:49:37 GMT", None),
    ("Sun, 06 Nov 1994 08:49:37 +9999999", None),
]


@pytest.mark.parametrize(("value", "seconds"), RETRY_AFTER)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Seconds and dates are understood, a past date is no wait, and what is neither is no request to wait."""
    assert retry_after(Reply(429, {"retry-after": value}, b"", received_at=NOW - 10)) == seconds
    assert refused(b"", 429, retry_after="3").retry_after == 3.0


def test_without_retry_after_nothing_is_asked() -> None:
    """No header, no delay."""
    assert retry_after(Reply(429, {}, b"", received_at=NOW)) is None


@pytest.fixture
def in_shanghai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time of the service's home."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_shanghai")
@pytest.mark.parametrize("date", ["Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 -0000"])
def test_retry_after_is_in_gmt(date: str) -> None:
    """HTTP's third form of date names no zone and means GMT, wherever the client is."""
    assert retry_after(Reply(429, {"retry-after": date}, b"", received_at=NOW - 10)) == 10.0


@settings(deadline=None)
@given(st.one_of(st.text(max_size=40), st.datetimes().map(email.utils.format_datetime), st.floats().map(str)))
def test_any_retry_after_is_answered(value: str) -> None:
    """Any header gives a finite delay that is not negative, or none."""
    seconds = retry_after(Reply(429, {"retry-after": value}, b"", received_at=NOW))
    assert seconds is None or 0 <= seconds < math.inf


def everything(error: BaseException) -> str:
    """All that may be printed, logged or stored of an error."""
    parts = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    cause = error.__cause__
    if cause is not None:
        parts += [str(cause), repr(cause), repr(vars(cause))]
    return "\n".join(parts) + pickle.dumps(error).decode("latin-1")


def redacted(body: bytes, status: int = 400, key: str = KEY, **headers: str) -> OpenSearchEmbedError:
    """Return the error for a reply, as the client raises it."""
    reply = Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    conceal = concealing(key, [TEXT, "short"])
    with pytest.raises(OpenSearchEmbedError) as caught:
        decode_reply(reply, expected=1, dimension=2, conceal=conceal)
    strip(caught.value.__cause__, conceal)
    return caught.value.with_traceback(None)


def echo(secret: str) -> list[Any]:
    """Replies that repeat what was sent, wherever a reply has room for it."""
    quoted = json.dumps(f"no: {secret}").encode()
    index = b'{"result": {"embeddings": [{"index": %s}]}}'
    return [
        pytest.param(b'{"code": "InvalidParameter", "message": %s}' % quoted, 400, id="message"),
        pytest.param(b'{"code": %s}' % quoted, 400, id="code"),
        pytest.param(b'{"code": %s}' % quoted, 200, id="code with 200"),
        pytest.param(b'{"request_id": %s}' % quoted, 500, id="request id"),
        pytest.param(b'{"request_id": %s}' % quoted, 200, id="request id of a bad yes"),
        pytest.param(b"<html>" + quoted, 502, id="HTML"),
        pytest.param(quoted + b" and more", 200, id="not JSON"),
        pytest.param(index % quoted, 200, id="index"),
    ]


@pytest.mark.parametrize(("body", "status"), echo("OS-abcdefghijkl"))
def test_the_key_is_not_repeated(body: bytes, status: int) -> None:
    """No part of an error shows the key, wherever a server echoes it."""
    error = redacted(body, status, key="OS-abcdefghijkl")
    assert "abcdefghijkl" in body.decode()
    assert "abcdefghijkl" not in everything(error)


@pytest.mark.parametrize(("body", "status"), [case for case in echo(TEXT) if case.id != "HTML"])
def test_a_whole_text_is_not_repeated(body: bytes, status: int) -> None:
    """No part of an error shows a whole text, wherever a server echoes it; words as short as "short" stay."""
    error = redacted(body, status)
    for shown in (TEXT, orjson.dumps(TEXT).decode()[1:-1], repr(TEXT)[1:-1]):
        assert shown not in everything(error)


def test_what_is_blanked_leaves_a_mark() -> None:
    """The rest of the message stays readable."""
    error = redacted(json.dumps({"message": f"key {KEY} and text {TEXT} in short"}).encode())
    assert error.message == "key *** and text [text] in short"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>" + b"x" * (EXCERPT_CHARS - 6 - 20) + KEY.encode(),
        json.dumps({"message": "x" * (EXCERPT_CHARS - 20) + KEY}).encode(),
    ],
)
def test_the_key_is_not_repeated_in_part(body: bytes) -> None:
    """A message that is cut in the middle of an echoed key does not show the key's first half."""
    assert KEY[:8] not in everything(redacted(body))


def test_a_strange_index_does_not_show_a_part_of_the_key() -> None:
    """An echoed key where an index belongs is not shown in part, either."""
    body = json.dumps({"result": {"embeddings": [{"index": f"for the key {KEY}"}]}}).encode()
    assert KEY[:8] not in everything(redacted(body, 200))


def test_a_text_is_not_repeated_by_a_page() -> None:
    """A gateway's page that echoes a text of several lines does not bring it into the error."""
    shown = everything(redacted(f"<html>refused: {TEXT}</html>".encode(), 502))
    assert "of two lines, with gaps and 茶" not in shown


def test_a_key_with_odd_characters_is_not_repeated() -> None:
    """A key with a quote or a backslash is blanked in JSON that came cut, too."""
    key = 'OS-"abc\\def"'
    body = json.dumps({"message": f"wrong key {key}"}).encode()[:-1]
    assert json.dumps(key)[1:-1] not in str(redacted(body, key=key))


def test_the_cause_keeps_no_document() -> None:
    """The JSON error behind ours keeps neither the reply nor the frames that saw it."""
    error = redacted(f'{{"message": "{KEY}'.encode(), 200)
    assert isinstance(error, ResponseError)
    assert isinstance(error.__cause__, json.JSONDecodeError)
    assert error.__cause__.doc == ""
    assert error.__cause__.__traceback__ is None
    assert error.__traceback__ is None


# Text that was sent, words that came back, what is told of them.
TOLD = [
    ("a text of words", "<p>no: a text of words</p>", "<p>no: [text]</p>"),
    ("a text\nof words", "no: a text of words", "no: [text]"),
    ("a text\nof words", "no: a text\n of\twords", "no: [text]"),
    ('a "text" of words', 'no: a "text" of words', "no: [text]"),
    ('a "text" of words', 'no: a \\"text\\" of words', "no: [text]"),
    ("a text\nof words", "no: a text\\nof words", "no: [text]"),
    ("words", "no words", "no words"),
    ("a text of words", "no: a text of", "no: a text of"),
    (" " * 9, "no: words", "no: words"),
    ("", "no: words", "no: words"),
    ("x", "the KEY os-0123 and OS-0123", "the KEY *** and ***"),
]


@pytest.mark.parametrize(("text", "words", "told"), TOLD)
def test_what_is_told(text: str, words: str, told: str) -> None:
    """The key in any case and whole texts in any form are blanked, on one line; short texts and parts are not."""
    assert concealing("OS-0123", [text])(words) == told


def test_a_text_of_much_white_space_is_blanked() -> None:
    """A text that is longer than the words that repeat it, because of its white space, is blanked all the same."""
    assert (
        concealing("OS-0123", ["first line" + " " * 99 + "second line"])("no: first line second line") == "no: [text]"
    )
