"""The wire: requests and their exact bytes, replies and what they give. No socket is opened here.

Nobody has recorded the real service, so the replies are our own, of the documented shape.
"""

import codecs
import gzip
import json
import math
import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensearch_embed._wire import large
from opensearch_embed._wire.numbers import as_array, as_lists
from opensearch_embed._wire.refusal import Reply
from opensearch_embed._wire.reply import decode_reply, max_reply_bytes
from opensearch_embed._wire.request import encode_request, request_path
from opensearch_embed.errors import (
    ApiError,
    InvalidRequest,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
)
from opensearch_embed.models import MODELS


@pytest.fixture(scope="module", params=["orjson", "simdjson"], autouse=True)
def reader(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whatever holds of answers holds of both parsers: all are read as small ones are, and all as large ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "LARGE_BYTES", 0 if request.param == "simdjson" else math.inf)
        yield request.param


# Texts, input type, exact bytes of the body.
REQUESTS: list[tuple[list[str], Any, bytes]] = [
    (["tea"], "document", b'{"input":["tea"],"input_type":"document"}'),
    (["tea", "coffee"], "query", b'{"input":["tea","coffee"],"input_type":"query"}'),
    (["茶"], "query", b'{"input":["\xe8\x8c\xb6"],"input_type":"query"}'),
    (["🍵"], "document", b'{"input":["\xf0\x9f\x8d\xb5"],"input_type":"document"}'),
    (['"\\/'], "document", b'{"input":["\\"\\\\/"],"input_type":"document"}'),
    (["\n\t\x00\x7f"], "document", b'{"input":["\\n\\t\\u0000\x7f"],"input_type":"document"}'),
    (["\u2028 "], "document", b'{"input":["\xe2\x80\xa8 "],"input_type":"document"}'),
]

# Workspace, service id, path.
PATHS = [
    ("default", "ops-text-embedding-002", "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"),
    ("a/b?c#d", "x y", "/v3/openapi/workspaces/a%2Fb%3Fc%23d/text-embedding/x%20y"),
    ("默认", "m", "/v3/openapi/workspaces/%E9%BB%98%E8%AE%A4/text-embedding/m"),
]

SAMPLE = b"""{"request_id": "B4AB89C8-B135-****-A6F8-2BAB801A2CE4", "latency": 38, "usage": {"token_count": 9},
"result": {"embeddings": [{"index": 0, "embedding": [-8.240503375418484E-4, 0.03325465694069862]},
{"index": 1, "embedding": [1.0E-5, -0.0]}]}}"""


def body(*vectors: tuple[str, str], rest: str = "") -> bytes:
    """A reply of the documented shape, of JSON given as text: (index, embedding), and what else it has."""
    items = ", ".join(f'{{"index": {index}, "embedding": {embedding}}}' for index, embedding in vectors)
    return f'{{"request_id": "r-1", "latency": 1.5, {rest} "result": {{"embeddings": [{items}]}}}}'.encode()


def reply(content: bytes, status: int = 200, complete: bool = True, **headers: str) -> Reply:
    """A reply whose headers are given as arguments, with low lines for hyphens."""
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content, complete)


GOOD = body(("0", "[0.5, 1.5]"), ("1", "[-0.5, 2]"), rest='"usage": {"token_count": 7},')
GOOD_VECTORS = [[0.5, 1.5], [-0.5, 2.0]]
TWO_MEMBERS = gzip.compress(GOOD[:50]) + gzip.compress(GOOD[50:])
RAW_DEFLATED = zlib.compress(GOOD, wbits=-15)

# What it shows, reply to two texts of dimension 2, vectors, tokens.
UNDERSTOOD: list[tuple[str, Reply, list[list[float]], int]] = [
    ("the documented sample", reply(SAMPLE), [[-8.240503375418484e-4, 0.03325465694069862], [1e-5, -0.0]], 9),
    ("in order", reply(GOOD), GOOD_VECTORS, 7),
    ("out of order", reply(body(("1", "[3.0, 4.0]"), ("0", "[1.0, 2.0]"))), [[1.0, 2.0], [3.0, 4.0]], 0),
    ("whole numbers", reply(body(("0", "[1, 0]"), ("1", "[-1, 2.5]"))), [[1.0, 0.0], [-1.0, 2.5]], 0),
    ("Java's doubles", reply(body(("0", "[1.0E10, 4.9E-324]"), ("1", "[-1E+2, 0E0]"))), [[1e10, 5e-324], [-100, 0]], 0),
    ("a huge whole number", reply(body(("0", f"[{2**64}, 0]"), ("1", "[0, 0]"))), [[2.0**64, 0], [0, 0]], 0),
    ("no usage", reply(body(("0", "[1.0, 2.0]"), ("1", "[3.0, 4.0]"))), [[1, 2], [3, 4]], 0),
    ("usage null", reply(body(("0", "[1, 2]"), ("1", "[3, 4]"), rest='"usage": null,')), [[1, 2], [3, 4]], 0),
    (
        "token count no number",
        reply(body(("0", "[1, 2]"), ("1", "[3, 4]"), rest='"usage": {"token_count": "7"},')),
        [[1, 2], [3, 4]],
        0,
    ),
    (
        "code beside a result",
        reply(body(("0", "[1, 2]"), ("1", "[3, 4]"), rest='"code": "Success", "message": "",')),
        [[1, 2], [3, 4]],
        0,
    ),
    ("another 2xx", reply(GOOD, status=201), GOOD_VECTORS, 7),
    ("identity", reply(GOOD, content_encoding="identity"), GOOD_VECTORS, 7),
    ("blank encoding", reply(GOOD, content_encoding=" "), GOOD_VECTORS, 7),
    ("gzip", reply(gzip.compress(GOOD), content_encoding="gzip"), GOOD_VECTORS, 7),
    ("GZIP", reply(gzip.compress(GOOD), content_encoding=" GZIP "), GOOD_VECTORS, 7),
    ("x-gzip", reply(gzip.compress(GOOD), content_encoding="x-gzip"), GOOD_VECTORS, 7),
    ("plain JSON called gzip", reply(GOOD, content_encoding="gzip"), GOOD_VECTORS, 7),
    ("plain JSON called br", reply(b"\n" + GOOD, content_encoding="br"), GOOD_VECTORS, 7),
    ("two members", reply(TWO_MEMBERS, content_encoding="gzip"), GOOD_VECTORS, 7),
    ("padded gzip", reply(gzip.compress(GOOD) + bytes(9), content_encoding="gzip"), GOOD_VECTORS, 7),
    ("raw deflate", reply(RAW_DEFLATED, content_encoding="deflate"), GOOD_VECTORS, 7),
    ("byte order mark", reply(codecs.BOM_UTF8 + GOOD), GOOD_VECTORS, 7),
    ("byte order mark in gzip", reply(gzip.compress(codecs.BOM_UTF8 + GOOD), content_encoding="gzip"), GOOD_VECTORS, 7),
    ("byte order mark, called gzip", reply(codecs.BOM_UTF8 + GOOD, content_encoding="gzip"), GOOD_VECTORS, 7),
    ("deflate", reply(zlib.compress(GOOD), content_encoding="deflate"), GOOD_VECTORS, 7),
]

PARTS = gzip.compress(b" " * (max_reply_bytes(2) // 2))
BOMB = gzip.compress(b" " * (max_reply_bytes(2) + 1))

# What it shows, reply to two texts of dimension 2 that is good for nothing, what the error says.
UNUSABLE: list[tuple[str, Reply, str]] = [
    ("cut", reply(GOOD[:40], complete=False), "was cut short after 40 bytes"),
    ("cut at the end of the JSON", reply(GOOD, complete=False), "was cut short after"),
    ("empty", reply(b""), "is empty"),
    ("half of the JSON", reply(GOOD[:-9]), "not JSON"),
    ("HTML", reply(b"<html>hello</html>"), "not JSON"),
    ("not UTF-8", reply(b'{"a": "\xff"}'), "not JSON"),
    ("NaN", reply(body(("0", "[NaN, 1.0]"), ("1", "[0, 0]"))), "not JSON"),
    ("Infinity", reply(body(("0", "[-Infinity, 1.0]"), ("1", "[0, 0]"))), "not JSON"),
    ("more than a double holds", reply(body(("0", "[1e400, 1.0]"), ("1", "[0, 0]"))), "not JSON"),
    ("nested without end", reply(b"[" * 100_000), "not JSON"),
    ("two replies", reply(GOOD + GOOD), "not JSON"),
    ("an array", reply(b"[]"), "has no array result.embeddings"),
    ("null", reply(b"null"), "has no array result.embeddings"),
    ("a string", reply(b'"result"'), "has no array result.embeddings"),
    ("no result", reply(b'{"request_id": "r-1"}'), "has no array result.embeddings (request_id r-1)"),
    ("code null", reply(b'{"code": null, "message": "words"}'), "has no array result.embeddings"),
    ("result null", reply(b'{"result": null}'), "has no array result.embeddings"),
    ("result an array", reply(b'{"result": []}'), "has no array result.embeddings"),
    ("result a string", reply(b'{"result": "x"}'), "has no array result.embeddings"),
    ("no embeddings", reply(b'{"result": {}}'), "has no array result.embeddings"),
    ("embeddings null", reply(b'{"result": {"embeddings": null}}'), "has no array result.embeddings"),
    ("embeddings an object", reply(b'{"result": {"embeddings": {"0": [1, 2]}}}'), "has no array result.embeddings"),
    ("embeddings empty", reply(b'{"result": {"embeddings": []}}'), "has 0 vectors for 2 texts: index 0 is missing"),
    ("an item is a number", reply(b'{"result": {"embeddings": [1, 2]}}'), "has an index None where"),
    ("an item is null", reply(b'{"result": {"embeddings": [null, null]}}'), "has an index None where"),
    ("an item is an array", reply(b'{"result": {"embeddings": [[1, 2], [3, 4]]}}'), "has an index None where"),
    ("no index", reply(b'{"result": {"embeddings": [{"embedding": [1, 2]}]}}'), "has an index None where"),
    ("no embedding", reply(b'{"result": {"embeddings": [{"index": 1}]}}'), "has no array of numbers for index 1"),
    ("one vector too few", reply(body(("0", "[1, 2]"))), "has 1 vectors for 2 texts: index 1 is missing"),
    ("the other is missing", reply(body(("1", "[1, 2]"))), "index 0 is missing"),
    ("an index twice", reply(body(("1", "[1, 2]"), ("1", "[1, 2]"))), "has index 1 twice"),
    ("a vector too many", reply(body(("0", "[1, 2]"), ("1", "[1, 2]"), ("0", "[1, 2]"))), "has index 0 twice"),
    ("an index too large", reply(body(("0", "[1, 2]"), ("2", "[1, 2]"))), "has an index 2 where 0 to 1 belong"),
    ("an index below 0", reply(body(("0", "[1, 2]"), ("-1", "[1, 2]"))), "has an index -1"),
    ("counted from 1", reply(body(("1", "[1, 2]"), ("2", "[1, 2]"))), "has an index 2"),
    ("an index with a point", reply(body(("0.0", "[1, 2]"), ("1", "[1, 2]"))), "has an index 0.0"),
    ("an index as text", reply(body(('"0"', "[1, 2]"), ("1", "[1, 2]"))), "has an index '0'"),
    ("an index true", reply(body(("0", "[1, 2]"), ("true", "[1, 2]"))), "has an index True"),
    ("an index null", reply(body(("0", "[1, 2]"), ("null", "[1, 2]"))), "has an index None"),
    ("an index that is long", reply(body((f'"{"x" * 9999}"', "[1, 2]"))), "xxx where 0 to 1"),
    ("too few numbers", reply(body(("0", "[1.0, 2.0]"), ("1", "[1.0]"))), "has 1 numbers for index 1 where 2 belong"),
    ("too many numbers", reply(body(("0", "[1, 2, 3]"), ("1", "[1, 2]"))), "has 3 numbers for index 0 where 2 belong"),
    ("no numbers", reply(body(("0", "[]"), ("1", "[]"))), "has 0 numbers for index 0"),
    ("an embedding null", reply(body(("0", "null"), ("1", "[1, 2]"))), "has no array of numbers for index 0"),
    ("an embedding as text", reply(body(("0", '"12"'), ("1", "[1, 2]"))), "has no array of numbers for index 0"),
    (
        "text among numbers",
        reply(body(("0", '[1, "2"]'), ("1", "[1, 2]"))),
        "has something that is not a number for index 0",
    ),
    (
        "null among numbers",
        reply(body(("0", "[1, 2]"), ("1", "[null, 2.5]"))),
        "has something that is not a number for index 1",
    ),
    (
        "true among numbers",
        reply(body(("0", "[true, 2.5]"), ("1", "[1, 2]"))),
        "has something that is not a number for index 0",
    ),
    (
        "an array among numbers",
        reply(body(("0", "[[1, 2], 3]"), ("1", "[1, 2]"))),
        "has something that is not a number for index 0",
    ),
    ("a bomb", reply(BOMB, content_encoding="gzip"), f"grows past {max_reply_bytes(2):,} bytes"),
    ("damaged gzip", reply(b"\x1f\x8b" + b"x" * 20, content_encoding="gzip"), "is compressed and damaged"),
    ("gzip that is none", reply(b"none", content_encoding="gzip"), "is compressed and damaged"),
    ("deflate that is none", reply(b"none", content_encoding="deflate"), "is compressed and damaged"),
    ("raw deflate called gzip", reply(RAW_DEFLATED, content_encoding="gzip"), "is compressed and damaged"),
    ("raw deflate cut short", reply(RAW_DEFLATED[:-9], content_encoding="deflate"), "is compressed and cut short"),
    ("second member cut", reply(TWO_MEMBERS[:-9], content_encoding="gzip"), "is compressed and cut short"),
    ("junk after gzip", reply(gzip.compress(GOOD) + b"junk", content_encoding="gzip"), "is compressed and"),
    ("bomb in parts", reply(PARTS * 3, content_encoding="gzip"), f"grows past {max_reply_bytes(2):,} bytes"),
    ("UTF-16", reply(b"\xff\xfe" + GOOD.decode().encode("utf-16-le")), "is not JSON"),
    ("gzip cut short", reply(gzip.compress(GOOD)[:-9], content_encoding="gzip"), "is compressed and cut short"),
    ("gzip of nothing", reply(b"", content_encoding="gzip"), "is compressed and cut short"),
    ("an encoding of its own", reply(b"\x8b\x03", content_encoding="br"), "is compressed as br"),
]


READERS = [as_lists, as_array]


def decode(received: Reply, expected: int = 2, dimension: int = 2, read: Any = as_lists) -> Any:
    """Decode a reply to two texts, of dimension 2."""
    return decode_reply(received, expected=expected, dimension=dimension, read=read)


@pytest.mark.parametrize(("texts", "input_type", "encoded"), REQUESTS)
def test_a_request_is_these_bytes(texts: list[str], input_type: Any, encoded: bytes) -> None:
    """A body holds the two documented fields and no other, in compact UTF-8, and every JSON reader reads it back."""
    assert encode_request(texts, input_type) == encoded
    assert json.loads(encoded) == {"input": texts, "input_type": input_type}


@pytest.mark.parametrize(("workspace", "service_id", "path"), PATHS)
def test_a_path_is_quoted(workspace: str, service_id: str, path: str) -> None:
    """Nothing in a workspace or a model can lead out of its part of the path."""
    assert request_path(workspace, service_id) == path


@pytest.mark.parametrize(("received", "vectors", "tokens"), [pytest.param(*c, id=name) for name, *c in UNDERSTOOD])
def test_a_good_reply_gives_its_vectors(received: Reply, vectors: list[list[float]], tokens: int) -> None:
    """Vectors come in the order of the texts, as floats to the last bit, with the service's count of tokens."""
    embedded = decode(received)
    assert embedded.vectors == vectors
    assert {type(number) for vector in embedded.vectors for number in vector} == {float}
    assert embedded.tokens == tokens
    assert str(vectors[0][0]) not in repr(embedded)


@pytest.mark.parametrize(("received", "vectors"), [pytest.param(*case[:2], id=name) for name, *case in UNDERSTOOD])
def test_a_good_reply_gives_rows(received: Reply, vectors: list[list[float]]) -> None:
    """The same vectors as rows of float32, each number the nearest that there is."""
    rows = decode(received, read=as_array).vectors
    assert rows.dtype == np.float32
    assert rows.tolist() == [[float(np.float32(number)) for number in vector] for vector in vectors]


@pytest.mark.parametrize(
    "numbers", ["[1.7E308, 1.7E308]", "[3.5E38, 0.5]", "[-1, 1e39]", f"[{2**63}0000000000000000000000, 1]"]
)
def test_float_holds_what_float32_does_not(numbers: str) -> None:
    """Numbers beyond float32 are given as float, their sum infinite or not; as rows they are refused."""
    received = reply(body(("0", numbers), ("1", "[0.5, 0.5]")))
    assert decode(received).vectors[0] == json.loads(numbers)
    with pytest.raises(ResponseError, match="too large for float32"):
        decode(received, read=as_array)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("received", "words"), [pytest.param(*case, id=name) for name, *case in UNUSABLE])
def test_a_reply_that_cannot_be_used_says_why(received: Reply, words: str, read: Any) -> None:
    """A yes that does not hold exactly the vectors asked for is a ResponseError with the reason, in a short message."""
    with pytest.raises(ResponseError) as caught:
        decode(received, read=read)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "when the pending texts are run again" in str(caught.value)


def test_an_unusable_reply_names_the_request() -> None:
    """The service's name for the request is on the error, and in its words, wherever the answer has one."""
    with pytest.raises(ResponseError) as caught:
        decode(reply(body(("0", "[1]"))))
    assert caught.value.request_id == "r-1"
    assert "(request_id r-1)" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


# What it shows, a 2xx whose body says no, the error.
YES_THAT_SAYS_NO = [
    ("over the rate", b'{"code": "Throttling.RateQuota", "message": "slow down"}', RateLimited),
    ("the free quota", b'{"code": "Throttling.AllocationQuota", "message": "Free quota exceeded"}', QuotaExhausted),
    ("a wrong parameter", b'{"code": "InvalidParameter"}', InvalidRequest),
    ("a server fault", b'{"code": "InternalServerError"}', ServiceUnavailable),
    ("an unknown code", b'{"code": "Strange"}', ApiError),
    ("a code that is a number", b'{"code": 17}', ApiError),
]


@pytest.mark.parametrize(("content", "kind"), [pytest.param(*case, id=name) for name, *case in YES_THAT_SAYS_NO])
def test_a_code_instead_of_a_result_is_a_refusal(content: bytes, kind: type[ApiError]) -> None:
    """A 200 that carries a code and no result is the error that the code names, status 200 and all."""
    with pytest.raises(ApiError) as caught:
        decode(reply(content))
    assert type(caught.value) is kind
    assert caught.value.status == 200
    assert caught.value.code == str(json.loads(content)["code"])


def test_a_code_beside_a_null_result_is_a_refusal() -> None:
    """A 200 with a code and `"result": null`, as servers write that print every field, is the code's error."""
    with pytest.raises(RateLimited):
        decode(reply(b'{"code": "Throttling.RateQuota", "message": "slow down", "result": null}'))


# What it shows, a reply that is not 2xx, its error, its code.
REFUSED: list[tuple[str, Reply, type[ApiError], str | None]] = [
    ("documented", reply(b'{"code": "InvalidParameter", "message": "m"}', 400), InvalidRequest, "InvalidParameter"),
    ("a good body", reply(GOOD, 500), ServiceUnavailable, None),
    ("HTML", reply(b"<html>502 Bad Gateway</html>", 502), ServiceUnavailable, None),
    ("nothing", reply(b"", 503), ServiceUnavailable, None),
    ("cut", reply(b'{"code": "Thrott', 429, complete=False), RateLimited, None),
    ("an array", reply(b"[1, 2]", 404), InvalidRequest, None),
    ("gzip", reply(gzip.compress(b'{"code": "Throttling"}'), 400, content_encoding="gzip"), RateLimited, "Throttling"),
    ("damaged gzip", reply(b"x", 400, content_encoding="gzip"), InvalidRequest, None),
    ("a bomb", reply(BOMB, 500, content_encoding="gzip"), ServiceUnavailable, None),
    ("an encoding of its own", reply(b"\x8b", 500, content_encoding="br"), ServiceUnavailable, None),
    ("a redirect", reply(b"", 307, location="https://elsewhere.example"), ApiError, None),
]


@pytest.mark.parametrize(("received", "kind", "code"), [pytest.param(*case, id=name) for name, *case in REFUSED])
def test_another_status_is_a_refusal(received: Reply, kind: type[ApiError], code: str | None) -> None:
    """Whatever its body, a reply that is not 2xx is an ApiError with the status."""
    with pytest.raises(ApiError) as caught:
        decode(received)
    assert type(caught.value) is kind
    assert caught.value.status == received.status
    assert caught.value.code == code


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=32), st.randoms(use_true_random=False))
def test_order_is_restored(vectors: list[tuple[float, float]], chance: random.Random) -> None:
    """For any permutation of `index`, decoding gives the same vectors, to the last bit."""
    items = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    chance.shuffle(items)
    content = json.dumps({"result": {"embeddings": items}}).encode()
    decoded = decode(reply(content), expected=len(vectors)).vectors
    assert list(map(tuple, decoded)) == vectors
    assert [math.copysign(1, n) for v in decoded for n in v] == [math.copysign(1, n) for v in vectors for n in v]


numbers = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), finite, st.integers(-(2**63), 2**64))
anything = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=3), st.lists(finite, max_size=2))


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4))
def test_rows_are_the_nearest_float32(vectors: list[tuple[float, ...]]) -> None:
    """Rows hold what numpy's own conversion gives, bit for bit; what float32 cannot hold is refused."""
    with np.errstate(over="ignore"):
        nearest = np.array(vectors, np.float64).astype(np.float32)
    if np.isfinite(nearest).all():
        assert as_array(list(map(list, vectors))).tobytes() == nearest.tobytes()
    else:
        with pytest.raises(ValueError, match="too large for float32"):
            as_array(list(map(list, vectors)))


@settings(deadline=None)
@given(st.lists(st.lists(anything, min_size=2, max_size=2), min_size=1, max_size=3))
def test_both_readers_refuse_the_same(vectors: list[list[Any]]) -> None:
    """What is not a number is refused by both, and neither takes true for one."""
    if {type(number) for vector in vectors for number in vector} <= {float, int}:
        assert {type(number) for vector in as_lists(vectors) for number in vector} == {float}
    else:
        for read in READERS:
            with pytest.raises(ValueError, match=r"has (something that is not )?a number"):
                read(list(map(list, vectors)))


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
any_json = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
)
likely_keys = st.sampled_from(["result", "embeddings", "index", "embedding", "code", "message", "request_id", "usage"])
likely_json = st.recursive(
    st.one_of(scalars, st.sampled_from([0, 1, 0.5, [0.5, 1.5]])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(likely_keys, inner, max_size=5)),
)


def check_answer(received: Reply) -> None:
    """Assert that a reply gives two vectors of two finite floats, or one of our errors in a few words."""
    for read in READERS:
        try:
            vectors = list(map(list, decode(received, read=read).vectors))
        except (ApiError, ResponseError) as error:
            assert len(str(error)) < 2000  # noqa: PT017 - either way is fine
        else:
            assert [len(vector) for vector in vectors] == [2, 2]
            assert all(isinstance(n, (float, np.float32)) and math.isfinite(n) for vector in vectors for n in vector)


statuses = st.sampled_from([200, 200, 200, 204, 302, 400, 401, 429, 500, 503])
encodings = st.sampled_from(["", "identity", "gzip", "deflate", "br"])


@settings(max_examples=60, deadline=None)
@given(st.one_of(any_json, likely_json), statuses)
def test_any_json_is_answered(content: Any, status: int) -> None:
    """Arbitrary JSON never raises anything but our errors."""
    check_answer(reply(json.dumps(content).encode(), status))


@settings(deadline=None)
@given(st.dictionaries(likely_keys, likely_json), st.lists(likely_json, max_size=3))
def test_any_result_is_answered(content: dict[str, Any], embeddings: list[Any]) -> None:
    """Arbitrary values where the vectors belong never raise anything but our errors."""
    check_answer(reply(json.dumps(content | {"result": {"embeddings": embeddings}}).encode()))


@settings(deadline=None)
@given(st.binary(max_size=200), statuses, encodings, st.booleans())
def test_any_bytes_are_answered(content: bytes, status: int, encoding: str, complete: bool) -> None:
    """Arbitrary bytes, compressed or said to be, never raise anything but our errors."""
    check_answer(reply(content, status, complete, content_encoding=encoding))


@settings(deadline=None)
@given(
    st.sampled_from(
        [(GOOD, ""), (SAMPLE, ""), (gzip.compress(GOOD, mtime=0), "gzip"), (zlib.compress(GOOD), "deflate")]
    ),
    st.integers(0, 400),
    st.integers(0, 8),
    st.binary(max_size=4),
)
def test_a_damaged_reply_is_answered(good: tuple[bytes, str], start: int, length: int, patch: bytes) -> None:
    """A good reply with any few bytes replaced, dropped or added never raises anything but our errors."""
    content, encoding = good
    check_answer(reply(content[:start] + patch + content[start + length :], content_encoding=encoding))


@pytest.mark.parametrize("service_id", MODELS)
def test_an_honest_reply_is_not_too_large(service_id: str) -> None:
    """The limit for a reply lets the longest doubles of a full request through, and not ten times that."""
    dimension = MODELS[service_id].dimension
    longest = len(json.dumps([{"index": 31, "embedding": [-2.2250738585072014e-308] * dimension}] * 32))
    assert longest < max_reply_bytes(dimension) < 10 * longest


def test_a_reply_shows_neither_headers_nor_body() -> None:
    """A server may echo the key: no repr of a reply shows what it sent."""
    assert "OS-secret" not in repr(reply(b"OS-secret", x_echo="OS-secret"))
