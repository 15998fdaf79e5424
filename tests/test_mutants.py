"""Cases that mutation testing has asked for: what the code does at its borders, and what errors say word by word.

Each was a change of the code that no test saw; docs/mutation.md tells how they are found, and what was left.
"""

import gzip
import itertools
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest

from opensearch_embed._texts.batches import plan
from opensearch_embed._texts.check import ENVELOPE_BYTES, check_texts, measure
from opensearch_embed._texts.length import average, split, sure_bytes, truncate
from opensearch_embed._texts.repeats import Composition, compose
from opensearch_embed._wire.conceal import chain, concealing, strip
from opensearch_embed._wire.refusal import Reply, named, refusal
from opensearch_embed._wire.reply import decode_reply
from opensearch_embed._wire.request import request_path
from opensearch_embed.errors import ApiError, ConfigurationError, InputError, ResponseError
from opensearch_embed.models import MAX_BODY_BYTES, MODELS, find_model
from opensearch_embed.options import LEAST, MOST, Options

# --- _compose ---


def test_what_is_sent_for_a_call() -> None:
    """An empty text and a repeated one are not sent, and those after them are."""
    whole = compose(["a", "", "b", "a", "", "a", "c"], [3, 0, 3, 3, 0, 3, 3])
    assert whole == Composition(
        7, ["a", "", "b", "a", "", "a", "c"], [3, 0, 3, 0, 0, 0, 3], copies={0: [3, 5]}, pieces={}, owner={}
    )
    assert [whole.texts_of(number) for number in (0, 2, 6)] == [[0, 3, 5], [2], [6]]


def test_texts_that_are_shortened() -> None:
    """Each distinct text is offered once, with its index for the caller; what comes back is sent in its place."""
    offered = []

    def shorten(text: str, index: int) -> list[str]:
        offered.append((text, index))
        return {"long": ["lo"], "longer": ["lon", "ger"]}.get(text, [text])

    texts = ["a", "long", "", "longer", "longer", "b"]
    whole = compose(texts, [3, 6, 0, 8, 8, 3], shorten, first=100)
    assert offered == [("a", 100), ("long", 101), ("longer", 103), ("b", 105)]
    assert whole == Composition(
        6,
        ["a", "lo", "", "longer", "longer", "b", "lon", "ger"],
        [3, 4, 0, 0, 0, 3, 5, 5],
        copies={3: [4]},
        pieces={3: range(6, 8)},
        owner={6: 3, 7: 3},
        first=100,
    )
    assert whole.texts_of(7) == [3, 4]


@pytest.mark.parametrize("parts", [["\ud800"], ["a", "\ud800"]])
def test_a_part_that_cannot_be_sent_is_its_texts_fault(parts: list[str]) -> None:
    """The error names the text for the caller."""
    with pytest.raises(InputError) as caught:
        compose(["a", "b"], [3, 3], lambda text, _: parts if text == "b" else [text], first=40)
    assert caught.value.index == 41


# --- _conceal ---


@pytest.mark.parametrize("key", ["OS-plain", "ends in\\", "both ' and \"", "\\\\"])
@pytest.mark.parametrize("form", [str, lambda key: orjson.dumps(key).decode()[1:-1], lambda key: repr(key)[1:-1]])
def test_a_key_is_blanked_as_a_whole_in_each_form(key: str, form: Any) -> None:
    """Nothing of it stays before or after the stars."""
    assert concealing(key)(f"<{form(key)}>") == "<***>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12345678", "12345678"),
        ('茶 is "tea"', '茶 is \\"tea\\"'),
        ('茶 is "tea"', '\\u8336 is \\"tea\\"'),
        ("茶 is tea & water", "茶 is tea &amp; water"),
    ],
)
def test_a_text_is_blanked_as_a_whole_in_each_form(text: str, shown: str) -> None:
    """As it is, in JSON with and without escapes, and in HTML."""
    assert concealing("OS-key", [text])(f"<{shown}>, null") == "<[text]>, null"


def test_a_text_of_seven_letters_is_let_through() -> None:
    """Blanking shorter ones would garble every word."""
    assert concealing("OS-key", ["1234567"])("<1234567>") == "<1234567>"


def linked(name: str, **links: Any) -> Exception:
    """An error with further ones behind it."""
    error = ValueError(name)
    for attribute, value in links.items():
        setattr(error, attribute, value)
    return error


@pytest.mark.parametrize("link", ["__cause__", "__context__", "reason", "certificate_error", "os_error"])
def test_a_chain_goes_by_every_link(link: str) -> None:
    """Also where another link was followed before it, and only once where the links make a ring."""
    last = linked("last")
    middle = linked("middle", **{link: last})
    first = linked("first", __cause__=linked("aside"), **({link: middle} if link != "__cause__" else {}))
    first.args = ("first", middle)
    last.__cause__ = first
    found = [error.args[0] for error in itertools.islice(chain(first), 20)]
    assert sorted(found) == sorted({"first", "middle", "last"} | ({"aside"} if first.__cause__ else set()))


Pair = namedtuple("Pair", ["host", "proxy", "proxy_auth", "proxy_headers_hash"])


def test_what_stays_of_a_foreign_error() -> None:
    """Words without secrets, numbers, other errors; no request, no proxy's password."""
    inner = KeyError("OS-key")
    error = ValueError("OS-key\nwords", 5, 2.5, None, True, inner, ["OS-key"], b"OS-key")
    error.told = "my OS-key"  # type: ignore[attr-defined]
    error.number = 7  # type: ignore[attr-defined]
    error.request = SimpleNamespace(real_url="http://OS-key", headers={"Authorization": "OS-key"})  # type: ignore[attr-defined]
    error.place = Pair("host", "http://user:OS-key@proxy", "OS-key", 12)  # type: ignore[attr-defined]
    strip(error, concealing("OS-key"))
    assert error.args == ("*** words", 5, 2.5, None, True, inner, None, None)
    assert inner.args == ("***",)
    assert vars(error) == {
        "told": "my ***",
        "number": 7,
        "request": SimpleNamespace(real_url="[URL]"),
        "place": Pair("host", None, None, None),
    }


def test_json_that_cannot_be_read_is_not_kept() -> None:
    """The error of orjson holds the document, and frames hold all the rest."""
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(b'{"key": OS-key}')
    assert "OS-key" in caught.value.doc
    strip(caught.value, concealing("OS-key"))
    assert caught.value.doc == ""
    assert caught.value.__traceback__ is None


# --- _length ---


def test_an_average_of_nearly_unit_vectors_is_a_unit_vector() -> None:
    """Within a thousandth, and not beyond."""
    near, far = 1 + 0.9e-3, 1 + 1.1e-3
    assert np.linalg.norm(average([[near, 0.0], [near, 0.0]], [1, 1])) == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(average([[2 - near, 0.0], [near, 0.0]], [1, 3])) == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(average([[far, 0.0], [far, 0.0]], [1, 1])) == pytest.approx(far, abs=1e-12)
    assert np.linalg.norm(average([[1.0, 0.0], [far, 0.0]], [1, 1])) == pytest.approx((1 + far) / 2, abs=1e-12)


@pytest.mark.parametrize("weights", [[0, 0, 0], [0.0, 0.0, 0.0]])
def test_an_average_of_what_weighs_nothing(weights: list[float]) -> None:
    """All count alike, for the direction and for the length."""
    assert average([[3.0, 0.0], [0.0, 3.0], [6.0, 0.0]], weights) == pytest.approx(
        (np.array([9.0, 3.0]) / np.sqrt(90) * 4).tolist()
    )


def test_an_average_with_weights_below_one() -> None:
    """Weights are shares of their sum, whatever that is."""
    assert average([[2.0, 0.0], [0.0, 2.0]], [0.1, 0.3]) == pytest.approx(average([[2.0, 0.0], [0.0, 2.0]], [1, 3]))
    assert average([[2.0, 0.0], [0.0, 2.0]], [1, 3]) == pytest.approx((np.array([1, 3]) / np.sqrt(10) * 2).tolist())


def test_an_average_of_rows_is_as_exact_as_one_of_lists() -> None:
    """Rows of float32 are not added up as float32."""
    rows = np.array([[1 / 3, 2 / 7, 5.0], [1 / 9, 4 / 11, -4.9]], np.float32)
    assert average(rows, [1, 1]) == average(rows.tolist(), [1, 1])  # type: ignore[arg-type]


def test_six_bytes_are_at_most_seven_tokens() -> None:
    """And two tokens are for the marks."""
    assert (sure_bytes(9), sure_bytes(8)) == (6, 5)


def test_a_text_of_a_sure_size_is_not_looked_at() -> None:
    """One that is a byte longer is."""
    asked: list[str] = []
    compose(["aaaa", "bbb"], [6, 5], lambda text, _: asked.append(text) or [text], sure_size=5)
    assert asked == ["aaaa"]


def test_a_text_is_cut_as_late_as_fits() -> None:
    """To the character, where it has no better place, and however its tokens are spread."""

    def count(text: str) -> int:
        return len(text) + 2 * text.count("b")

    for length in range(1, 40):
        text = "a" * length + "b" * 40
        for limit in range(3, 90, 4):
            cut = truncate(text, limit, count)
            assert count(cut) <= limit < count(text[: len(cut) + 1])


def test_white_space_at_the_end_is_no_piece() -> None:
    """As much of it as fits goes with the last words."""
    assert split("aa bb  ", 6, len) == ["aa bb "]


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("aaaa " + "b" * 12, 10, ["aaaa bbbbb", "bbbbbbb"]),
        ("aaaaa " + "b" * 12, 10, ["aaaaa", " bbbbbbbbb", "bbb"]),
        ("a" * 20 + "bb\n\n" + "b" * 30, 20, ["a" * 20, "bb\n\n" + "b" * 16, "b" * 14]),
    ],
)
def test_a_piece_is_not_cut_far_before_its_end(text: str, limit: int, pieces: list[str]) -> None:
    """A boundary in the first half of a piece, wherever that starts, is none to cut at."""
    assert split(text, limit, len) == pieces


def test_a_better_cut_must_fit_too() -> None:
    """A counter may find more tokens in less text."""

    def count(text: str) -> int:
        return 99 if text.endswith(".") else len(text)

    assert truncate("aaa aaa. bbb bbb", 10, count) == "aaa aaa. b"


def test_a_better_cut_may_fill_the_limit() -> None:
    """Where white space counts nothing, the word before it counts as much as the longest prefix."""
    assert truncate("a" * 12 + "  bbbb", 12, lambda text: len(text.replace(" ", ""))) == "a" * 12


@pytest.mark.parametrize("tone", ["\U0001f3fb", "\U0001f3fd", "\U0001f3ff"])
def test_no_skin_tone_is_cut_off(tone: str) -> None:
    """From the lightest to the darkest; also where the emoji counts nothing, so that what is left fills the limit."""
    assert truncate(f"a👍{tone}", 2, len) == "a"
    assert truncate(f"a👍{tone}", 1, lambda text: text.count("a") + text.count(tone)) == "a"


# --- _plan, _wire, models ---


def test_an_iterator_is_read() -> None:
    """Once, into a list."""
    assert check_texts(iter(["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (5, "texts[41] is not a str but int."),
        (
            "\ud800",
            "texts[41] cannot be encoded as UTF-8: it holds a lone surrogate, or an emoji as two. "
            "Mend it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').",
        ),
        (
            "",
            "texts[41] is empty, and the service takes no empty text. Leave it out. (empty='zero' makes it a zero "
            "vector, which many vector stores find before better hits, or compare as NaN.)",
        ),
    ],
)
def test_what_is_said_of_a_text(text: Any, message: str) -> None:
    """Word by word, and with its index for the caller."""
    with pytest.raises(InputError) as caught:
        measure(["a", text], first=40)
    assert str(caught.value) == message
    assert caught.value.index == 41


def test_what_is_said_of_a_text_that_is_too_large() -> None:
    """Of what will be sent, and with the text's index for the caller."""
    message = "texts[41] takes 8,000,002 bytes encoded; a request holds 8,000,000. Split the text."
    large = "a" * MAX_BODY_BYTES
    for shorten in (None, lambda text, _: [text], lambda text, _: ["b", large] if text == large else [text]):
        with pytest.raises(InputError) as caught:
            compose(["a", large], measure(["a", large], first=40), shorten, first=40)
        assert (str(caught.value), caught.value.index) == (message, 41)


def test_a_second_batch_is_filled_to_the_last_byte() -> None:
    """As the first is: nothing is left over from that."""
    room = MAX_BODY_BYTES - ENVELOPE_BYTES
    batches = list(plan(["a", "b", "c", "d"], [room, room - 11, 10, 1]))
    assert [batch.indices for batch in batches] == [[0], [1, 2], [3]]


ANSWER = b'{"usage": {"token_count": 1}, "result": {"embeddings": [{"index": 0, "embedding": [0.5]}]}}'
AGAIN = "If this goes on when the pending texts are run again, the fault is the service's or a gateway's."


def decoded(reply: Reply) -> Any:
    """Decode the answer to one text, with a vector of one number."""
    return decode_reply(reply, expected=1, dimension=1)


def test_one_token_is_counted() -> None:
    """It is the least that a text has."""
    assert decoded(Reply(200, {}, ANSWER)).tokens == 1


def test_vectors_under_a_redirect_are_no_vectors() -> None:
    """What a proxy sends with 300 is not the service's answer."""
    with pytest.raises(ApiError) as caught:
        decoded(Reply(300, {}, ANSWER))
    assert caught.value.status == 300


def test_a_refusal_that_is_compressed_and_damaged_gives_no_reason() -> None:
    """Its bytes are not shown."""
    with pytest.raises(ApiError) as caught:
        decoded(Reply(500, {"content-encoding": "gzip"}, b"damaged"))
    assert caught.value.message == ""


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        ({}, b"", "is empty"),
        ({}, b"{}", "has no array result.embeddings"),
        ({}, b'{"request_id": "r-1"}', "has no array result.embeddings (request_id r-1)"),
        (
            {},
            ANSWER.replace(b'"index": 0', b'"index": "%s"' % (b"i" * 50)),
            f"has an index '{'i' * 39} where 0 to 0 belong",
        ),
        ({"content-encoding": "b" * 50}, b"zz", f"is compressed as {'b' * 40}, which was not asked for"),
        ({"content-encoding": "gzip"}, gzip.compress(ANSWER, mtime=0)[:-1], "is compressed and cut short"),
    ],
)
def test_what_is_said_of_an_unusable_answer(headers: dict[str, str], body: bytes, why: str) -> None:
    """Word by word."""
    with pytest.raises(ResponseError) as caught:
        decoded(Reply(200, headers, body))
    assert str(caught.value) == f"The service's answer {why}. {AGAIN}"


def test_nothing_in_a_path_is_taken_for_a_part_of_it() -> None:
    """Neither in the workspace nor in the service id."""
    assert request_path("a/b", "c/d") == "/v3/openapi/workspaces/a%2Fb/text-embedding/c%2Fd"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("other",),
            f"Unknown model 'other'. Known models: {', '.join(MODELS)}. "
            "For another one, say how long its vectors are: dimension=...",
        ),
        (
            ("ops-text-embedding-002", 5),
            "Model 'ops-text-embedding-002' has dimension 1024, not 5. Leave dimension out for a known model.",
        ),
        (("other", 0), "dimension must be a whole number from 1, not 0."),
    ],
)
def test_what_is_said_of_a_model(arguments: tuple[Any, ...], message: str) -> None:
    """Word by word."""
    with pytest.raises(ConfigurationError) as caught:
        find_model(*arguments)
    assert str(caught.value) == message


# --- options ---

NUMBER = "must be a number above 0 and up to 1,000,000, not -1"
WHOLE = "must be a whole number from 1, not 0"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"qps": -1}, f"qps {NUMBER} (requests a second; qps=None means no limit)."),
        ({"timeout": -1}, f"timeout {NUMBER} (seconds for one request)."),
        ({"retry_timeout": -1}, f"retry_timeout {NUMBER} (seconds for one batch; retry_timeout=0 means no retries)."),
        (
            {"max_concurrency": 0},
            f"max_concurrency {WHOLE}: use max_concurrency=1 to send one request at a time.",
        ),
        ({"max_attempts": 0}, f"max_attempts {WHOLE}: use max_attempts=1 to send once."),
        (
            {"limiter": 5},
            "limiter must be a pyrate_limiter.Limiter, or the URL of a Redis such as redis://host:6379/0, not int. "
            "For a plain rate, use qps.",
        ),
        ({"cache": 5}, "cache must be the path of a file, or an object with get_many and put_many, not int."),
        ({"length_function": 5}, "length_function must be a function that takes a text and returns its tokens."),
        ({"empty": "no"}, "empty must be 'error' or 'zero', not 'no'."),
    ],
)
def test_what_is_said_of_an_option(option: dict[str, Any], message: str) -> None:
    """Word by word."""
    with pytest.raises(ConfigurationError) as caught:
        Options(**option)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["qps", "timeout", "retry_timeout"])
def test_the_least_and_the_most_are_taken(name: str) -> None:
    """And nothing beyond."""
    for value in (LEAST, MOST):
        Options(**{name: value})  # type: ignore[arg-type]
    for value in (LEAST / 2, MOST + 1):
        with pytest.raises(ConfigurationError):
            Options(**{name: value})  # type: ignore[arg-type]


def test_a_cache_has_both_methods() -> None:
    """One that can only read, or only write, is refused."""
    methods = {"get_many": lambda: None, "put_many": lambda: None}
    Options(cache=SimpleNamespace(**methods))
    for name in methods:
        with pytest.raises(ConfigurationError):
            Options(cache=SimpleNamespace(**{name: methods[name]}))


# --- _refusal ---

LOWER = "Lower qps, share one limiter between processes, or ask for a higher quota."


@pytest.mark.parametrize(
    ("status", "content", "body", "message"),
    [
        (
            429,
            {"code": "Throttling", "message": ".Slow. down..", "request_id": "r-1"},
            b"",
            f"The service said no (HTTP 429, Throttling, request_id r-1): .Slow. down. {LOWER}",
        ),
        (429, {"message": "XX"}, b"", f"The service said no (HTTP 429): XX. {LOWER}"),
        (429, {}, b"", f"The service said no (HTTP 429): it gave no reason. {LOWER}"),
        (200, {"code": "Odd", "message": "Words."}, b"", "The service said no (HTTP 200, Odd): Words."),
        (
            300,
            {},
            "Où?".encode("latin-1"),
            "The service said no (HTTP 300): O\ufffd?. Redirects are not followed, since the key must not travel to "
            "another host: check the endpoint.",
        ),
        (
            404,
            {},
            b"<b>no</b>",
            "The service said no (HTTP 404): <b>no</b>. The same request would be refused again: check model, "
            "workspace, endpoint and texts.",
        ),
    ],
)
def test_what_is_said_of_a_refusal(status: int, content: dict[str, Any], body: bytes, message: str) -> None:
    """Word by word."""
    error = refusal(Reply(status, {}, body), content, body)
    assert isinstance(error, ApiError)
    assert str(error) == message


@pytest.mark.parametrize(
    ("count", "words"),
    [(10, "texts[16], texts[18]"), (11, "texts[16], texts[18] and 1 more"), (2, "texts[0], texts[2]")],
)
def test_ten_texts_are_named(count: int, words: str) -> None:
    """More than ten are counted."""
    assert named([2 * number for number in range(count)]).endswith(words)
