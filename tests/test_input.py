"""Bad input, sync and async: each raises the contract's error, before anything is sent, and says how to mend it."""

from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from interfaces import INTERFACES
from langchain_core.documents import Document
from llama_index.core.schema import TextNode

from opensearch_embed import DEFAULT_MODEL, MODELS, ConfigurationError, EmbeddingClient, InputError
from opensearch_embed.emulator import Emulator

Make = Callable[..., EmbeddingClient]


class Series(UserList[str]):
    """As pandas has it, for what matters here: its texts, in their order."""


class DataFrame:
    """As pandas and polars have it, for what matters here: it yields the names of its columns."""

    columns = ("text",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


Call = Callable[..., Any]

# What it shows, settings, what the message says.
CONFIGURATIONS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("no key", {"api_key": None}, ["api_key=", "OPENSEARCH_API_KEY", "opensearch-embed emulator"]),
    ("a blank key", {"api_key": "  "}, ["api_key is blank", "OPENSEARCH_API_KEY", "opensearch-embed emulator"]),
    ("no endpoint", {"endpoint": None}, ["endpoint=", "OPENSEARCH_ENDPOINT", "opensearch-embed emulator"]),
    ("a blank endpoint", {"endpoint": ""}, ["endpoint is blank", "OPENSEARCH_ENDPOINT", "opensearch-embed emulator"]),
    ("an unknown model", {"model": "ops-text-embedding-03"}, ["'ops-text-embedding-03'", "dimension=", *MODELS]),
    ("another dimension", {"dimension": 3}, ["1024, not 3", "Leave dimension out"]),
    ("plain http", {"endpoint": "http://api.example"}, ["http://api.example", "in clear", "https", "allow_http=True"]),
    ("no concurrency", {"max_concurrency": 0}, ["max_concurrency", "not 0", "max_concurrency=1"]),
    ("no rate", {"qps": 0}, ["qps", "not 0", "qps=None"]),
    ("a rate below 0", {"qps": -1}, ["qps", "not -1"]),
    ("no time", {"timeout": 0}, ["timeout", "not 0", "seconds"]),
    ("endless time", {"timeout": float("inf")}, ["timeout", "not inf"]),
    ("no attempts", {"max_attempts": 0}, ["max_attempts", "not 0", "max_attempts=1"]),
    ("half an attempt", {"max_attempts": 1.5}, ["max_attempts", "not 1.5"]),
    ("time below 0 for retries", {"retry_timeout": -1}, ["retry_timeout", "not -1", "retry_timeout=0"]),
    ("an unknown rule for empty texts", {"empty": "skip"}, ["empty", "'error'", "'zero'", "'skip'"]),
    ("a limiter that is none", {"limiter": 50}, ["limiter", "pyrate_limiter.Limiter", "int", "qps"]),
]


@pytest.mark.parametrize(("settings", "words"), [pytest.param(*case, id=name) for name, *case in CONFIGURATIONS])
def test_a_setting_without_sense(make_client: Make, emulator: Emulator, settings: Any, words: list[str]) -> None:
    """The constructor raises a ConfigurationError, which is a ValueError, and shows no key."""
    with pytest.raises(ConfigurationError) as caught:
        make_client(**settings)
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in str(caught.value)
    assert emulator.api_key not in str(caught.value)
    assert emulator.requests == []


@pytest.mark.parametrize("name", ["max_concurency", "apikey", "workspaces", "batchsize", "model_name"])
def test_a_misspelt_argument(make_client: Make, name: str) -> None:
    """Nothing swallows an argument that is not known."""
    with pytest.raises(TypeError, match=name):
        make_client(**{name: 1})


@pytest.mark.parametrize(
    "values", [{"qps": 1e308}, {"qps": 1e-308}, {"timeout": 10**400}, {"timeout": 1e10}], ids=lambda v: repr(v)[:20]
)
def test_an_absurd_number(make_client: Make, values: Any) -> None:
    """A number that no clock, and no system call, can count with is our error, too."""
    with pytest.raises(ConfigurationError):
        make_client(**values)


LARGE = "茶" * 2_700_000

# What it shows, texts, the index of the one at fault, what the message says.
TEXTS: list[tuple[str, list[Any], int, list[str]]] = [
    ("a number", ["tea", 5, None], 1, ["texts[1]", "not a str but int"]),
    ("None", ["tea", None], 1, ["texts[1]", "not a str but NoneType", "missing value"]),
    ("NaN", ["tea", "coffee", float("nan")], 2, ["texts[2]", "not a str but float", "NaN", "leave it out"]),
    ("NaN of numpy", ["tea", np.float32("nan")], 1, ["texts[1]", "not a str but float32"]),
    ("a document", [Document(page_content="tea")], 0, ["texts[0]", "not a str but Document", "page_content"]),
    ("a node", ["tea", TextNode(text="tea")], 1, ["texts[1]", "not a str but TextNode", "get_content()"]),
    ("an arrow scalar", ["tea", SimpleNamespace(as_py=str)], 1, ["texts[1]", "to_pylist()"]),
    ("white space", ["tea", " \n\t\u3000"], 1, ["texts[1] is empty", "white space alone", "Leave it out"]),
    ("bytes", [b"tea"], 0, ["texts[0]", "not a str but bytes"]),
    ("a list", ["tea", "coffee", ["water"]], 2, ["texts[2]", "not a str but list"]),
    ("an empty text", ["tea"] * 99 + [""], 99, ["texts[99] is empty", "Leave it out. (empty='zero'", "NaN"]),
    ("a lone surrogate", ["tea", "\ud83c"], 1, ["texts[1] cannot be encoded", "lone surrogate", "'replace'"]),
    ("too large", ["tea", LARGE], 1, ["texts[1] takes 8,100,002 bytes", "8,000,000", "Split"]),
]


@pytest.mark.parametrize(("texts", "index", "words"), [pytest.param(*case, id=name) for name, *case in TEXTS])
@pytest.mark.parametrize("method", ["embed", "embed_array"])
def test_a_text_that_cannot_be_sent(
    make_client: Make, emulator: Emulator, call: Call, method: str, texts: Any, index: int, words: list[str]
) -> None:
    """One such text among many, and nothing is sent; the error names it, and all texts are pending."""
    client = make_client()
    with pytest.raises(InputError) as caught:
        call(getattr(client, method), texts)
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.index == index
    assert (error.completed, error.pending) == ({}, list(range(len(texts))))
    for word in words:
        assert word in str(error)
    assert len(str(error)) < 250
    assert emulator.requests == []
    assert client.usage.requests == 0


@pytest.mark.parametrize("texts", ["tea", "", b"tea", bytearray(b"tea"), memoryview(b"tea")])
def test_a_bare_string(make_client: Make, emulator: Emulator, call: Call, texts: Any) -> None:
    """A str where texts belong is refused, and the message shows the list that was meant."""
    with pytest.raises(InputError) as caught:
        call(make_client().embed, texts)
    for word in (f"bare {type(texts).__name__}", "embed([text])"):
        assert word in str(caught.value)
    assert (caught.value.index, caught.value.pending) == (None, [])
    assert emulator.requests == []


# What falls apart into something else than its texts, what the message says.
FALLS_APART: list[tuple[Any, list[str]]] = [
    ({"a": "tea"}, ["texts is a dict", "list(texts.values())"]),
    (UserDict(a="tea"), ["texts is a UserDict", "list(texts.values())"]),
    ({"tea", "coffee"}, ["texts is a set", "no order"]),
    (frozenset({"tea"}), ["texts is a frozenset", "no order"]),
    (DataFrame(), ["texts is a DataFrame", "df['text']"]),
    (Document(page_content="tea"), ["texts is a Document", "page_content"]),
    (TextNode(text="tea"), ["texts is a TextNode", "get_content()"]),
]


@pytest.mark.parametrize(("texts", "words"), FALLS_APART, ids=lambda value: type(value).__name__)
def test_what_falls_apart_into_something_else(
    make_client: Make, emulator: Emulator, call: Call, texts: Any, words: list[str]
) -> None:
    """What has texts in it and yields something else is refused, and the message says what to pass."""
    client = make_client()
    for attempt in (
        lambda: call(client.embed, texts),
        lambda: call(client.embed_array, texts),
        lambda: client.iter_embed(texts),
        lambda: client.aiter_embed(texts),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        for word in words:
            assert word in str(caught.value)
    assert emulator.requests == []


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("texts", ["tea", b"tea", {"a": "tea"}, {"tea"}, 5, None, DataFrame()])
def test_each_adapter_refuses_what_is_no_list(emulator: Emulator, interface: str, texts: Any) -> None:
    """The frameworks hand over what they are given, a str letter by letter: that is refused, too."""
    embed = INTERFACES[interface](model=DEFAULT_MODEL, endpoint=emulator.url, api_key=emulator.api_key)
    with pytest.raises(InputError, match="texts"):
        embed(texts)
    assert emulator.requests == []


@pytest.mark.parametrize("texts", [None, 5, 1.5, object(), np.array("tea")])
def test_what_is_no_list(make_client: Make, emulator: Emulator, call: Call, texts: Any) -> None:
    """What cannot be iterated is refused by its type."""
    with pytest.raises(InputError, match=f"iterable of str, not {type(texts).__name__}"):
        call(make_client().embed, texts)
    assert emulator.requests == []


@pytest.mark.parametrize("input_type", ["passage", "Query", "", None, 1, ["query"]])
@pytest.mark.parametrize("texts", [["tea"], []])
def test_an_unknown_input_type(
    make_client: Make, emulator: Emulator, call: Call, texts: list[str], input_type: Any
) -> None:
    """The error shows the value and those that there are, even where there is nothing to send."""
    with pytest.raises(InputError) as caught:
        call(make_client().embed, texts, input_type)
    for word in ("'document'", "'query'", repr(input_type)):
        assert word in str(caught.value)
    assert caught.value.index is None
    assert emulator.requests == []


def test_all_texts_are_pending_for_an_unknown_input_type(make_client: Make, call: Call) -> None:
    """`completed` and `pending` make up the input, whatever was wrong."""
    with pytest.raises(InputError) as caught:
        call(make_client().embed, ["tea", "coffee"], "passage")
    assert caught.value.pending == [0, 1]


def test_empty_texts_get_zero_vectors(make_client: Make, emulator: Emulator, call: Call) -> None:
    """With empty="zero" an empty text is not sent, and the others get their own vectors."""
    client = make_client(empty="zero")
    zero = [0.0] * client.dimension
    assert call(client.embed, ["", "tea", "", "coffee"]) == [
        zero,
        emulator.vector("tea"),
        zero,
        emulator.vector("coffee"),
    ]
    assert [request.body["input"] for request in emulator.requests] == [["tea", "coffee"]]
    rows = call(client.embed_array, ["", "tea"])
    assert rows.tolist() == [zero, emulator.vector("tea")]
    assert client.usage.texts == 3


def test_nothing_but_empty_texts_sends_nothing(make_client: Make, emulator: Emulator, call: Call) -> None:
    """Where all texts are empty, their zero vectors need no request, and are not one and the same list."""
    client = make_client(empty="zero")
    one, other = call(client.embed, ["", ""])
    assert one == other == [0.0] * client.dimension
    assert one is not other
    assert call(client.embed_array, ["", ""]).tolist() == [one, other]
    assert emulator.requests == []


def test_white_space_is_as_good_as_nothing(make_client: Make, emulator: Emulator, call: Call) -> None:
    """A text of white space alone is an empty one; white space around words is sent as it is."""
    client = make_client(empty="zero")
    zero = [0.0] * client.dimension
    assert call(client.embed, [" \n", " tea\n", "\t"]) == [zero, emulator.vector(" tea\n"), zero]
    assert emulator.requests[0].body["input"] == [" tea\n"]


@pytest.mark.parametrize("empty", ["error", "zero"])
@pytest.mark.parametrize("query", ["", "  "])
def test_an_empty_query_is_refused_whatever_is_said(
    make_client: Make, emulator: Emulator, call: Call, empty: str, query: str
) -> None:
    """A zero vector is no question: in a store it is nearest to anything, or NaN."""
    client = make_client(empty=empty)
    for method in (client.embed, client.embed_array):
        with pytest.raises(InputError, match=r"texts\[1\] is empty.*a query of nothing") as caught:
            call(method, ["tea", query], "query")
        assert caught.value.index == 1
    assert emulator.requests == []


def test_nothing_gives_nothing(make_client: Make, emulator: Emulator, call: Call) -> None:
    """No texts, no vectors, no request; an array has its width all the same."""
    client = make_client()
    for nothing in ([], (), iter([])):
        assert call(client.embed, nothing) == []
    rows = call(client.embed_array, [])
    assert (rows.shape, rows.dtype) == ((0, client.dimension), np.float32)
    assert emulator.requests == []


@pytest.mark.parametrize(
    "make_texts",
    [
        *(list, tuple, iter, lambda texts: (text for text in texts), np.array),
        *(lambda texts: dict.fromkeys(texts).keys(), lambda texts: dict(enumerate(texts)).values(), deque, UserList),
        lambda texts: np.array(texts, dtype=object),
        Series,
    ],
    ids=["list", "tuple", "iterator", "generator", "array", "keys", "values", "deque", "UserList", "objects", "Series"],
)
def test_any_iterable_serves(
    make_client: Make, emulator: Emulator, call: Call, make_texts: Callable[[list[str]], Iterable[str]]
) -> None:
    """Any iterable of str is embedded in its order."""
    texts = ["tea", "茶", 'a "quoted"\nline']
    assert call(make_client().embed, make_texts(texts)) == [emulator.vector(text) for text in texts]


@pytest.mark.parametrize("count", [1, 33])
def test_an_array_holds_the_same_vectors(make_client: Make, emulator: Emulator, call: Call, count: int) -> None:
    """embed_array gives float32 rows, one a text, in order, with the role that is asked for."""
    texts = [f"text {index}" for index in range(count)]
    client = make_client()
    rows = call(client.embed_array, texts, "query")
    assert (rows.shape, rows.dtype) == ((count, client.dimension), np.float32)
    assert rows.tolist() == [emulator.vector(text, "query") for text in texts]
    assert {request.body["input_type"] for request in emulator.requests} == {"query"}


def test_the_default_role_is_document(make_client: Make, emulator: Emulator, call: Call) -> None:
    """Texts are documents, unless said otherwise; the two roles differ."""
    client = make_client()
    assert call(client.embed, ["tea"]) == [emulator.vector("tea", "document")]
    assert call(client.embed, ["tea"], "query") == [emulator.vector("tea", "query")]
    assert emulator.vector("tea", "query") != emulator.vector("tea", "document")
