"""Which texts travel together: nothing is lost, order is kept, both limits hold, and no request is wasted."""

import enum
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensearch_embed._texts.batches import Batch, plan
from opensearch_embed._texts.check import ENVELOPE_BYTES, check_input_type, check_texts, encoded_size, measure
from opensearch_embed._texts.repeats import compose
from opensearch_embed._wire.request import encode_request
from opensearch_embed.errors import InputError
from opensearch_embed.models import MAX_BODY_BYTES, MAX_TEXTS_PER_REQUEST

LARGEST = MAX_BODY_BYTES - ENVELOPE_BYTES
"""Encoded bytes of the largest text, its quotes included."""

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Of one to four bytes in UTF-8, of two and six as JSON escapes.
long_text = st.builds(
    lambda char, times: char * times, st.sampled_from('a"\x00é茶🍵'), st.sampled_from([1, 9, 400_000])
)


def joined(batches: Iterable[Batch]) -> list[tuple[int, str]]:
    """All that the batches hold, in their order."""
    return [pair for batch in batches for pair in zip(batch.indices, batch.texts, strict=True)]


def check_batches(texts: Sequence[str], batches: Sequence[Batch]) -> None:
    """Assert all that a plan promises, by the bodies that would really be sent."""
    assert joined(batches) == [(index, text) for index, text in enumerate(texts) if text.strip()]
    for batch in batches:
        assert 1 <= len(batch.texts) <= MAX_TEXTS_PER_REQUEST
        assert len(encode_request(batch.texts, "document")) <= MAX_BODY_BYTES
        assert len(encode_request(batch.texts, "query")) <= MAX_BODY_BYTES
    for one, other in itertools.pairwise(batches):
        # The next text would not have fitted: no request could have been saved.
        texts_of_both = [*one.texts, other.texts[0]]
        too_many = len(texts_of_both) > MAX_TEXTS_PER_REQUEST
        assert too_many or len(encode_request(texts_of_both, "document")) > MAX_BODY_BYTES


@settings(deadline=None)
@given(st.lists(any_text, max_size=100))
def test_many_small_texts(texts: list[str]) -> None:
    """Any short texts are planned whole and in order, 32 to a request."""
    batches = list(plan(texts, measure(texts, empty="zero")))
    check_batches(texts, batches)
    assert len(batches) == -(-sum(map(bool, map(str.strip, texts))) // MAX_TEXTS_PER_REQUEST)


@settings(max_examples=30, deadline=None)
@given(st.lists(long_text, max_size=12))
def test_few_large_texts(texts: list[str]) -> None:
    """Texts of megabytes are planned whole and in order, 8 MB to a request, whatever their letters weigh."""
    check_batches(texts, list(plan(texts, measure(texts))))


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, 10), st.integers(0, LARGEST)), max_size=120))
def test_any_sizes(sizes: list[int]) -> None:
    """Whatever the sizes, the plan loses nothing, keeps both limits, and no batch has room for the next text."""
    texts = [f"text {index}" for index in range(len(sizes))]
    batches = list(plan(texts, sizes))
    weights = [ENVELOPE_BYTES + sum(sizes[i] for i in b.indices) + len(b.indices) - 1 for b in batches]
    assert joined(batches) == [(i, texts[i]) for i, size in enumerate(sizes) if size]
    assert all(len(batch.indices) <= MAX_TEXTS_PER_REQUEST for batch in batches)
    assert all(weight <= MAX_BODY_BYTES for weight in weights)
    for (one, weight), other in zip(zip(batches, weights, strict=True), batches[1:], strict=False):
        full = len(one.indices) == MAX_TEXTS_PER_REQUEST
        assert full or weight + 1 + sizes[other.indices[0]] > MAX_BODY_BYTES


@settings(deadline=None)
@given(st.lists(any_text, min_size=1, max_size=8))
def test_sizes_are_the_encoders_own(texts: list[str]) -> None:
    """Sizes, commas and the envelope add up to the very length of the body."""
    sizes = measure(texts, empty="zero")
    sent = [text for text in texts if text.strip()]
    assert len(encode_request(sent, "document")) == ENVELOPE_BYTES + sum(sizes) + max(0, len(sent) - 1)


@pytest.mark.parametrize("char", ["a", "茶", "🍵", "\\", "\x01"])
def test_the_largest_text_fits_and_one_byte_more_does_not(char: str) -> None:
    """A body is filled to its last byte, and a text that is larger by one byte is refused."""
    weight = encoded_size(char, 0) - 2
    times, rest = divmod(LARGEST - 2, weight)
    largest = char * times + "b" * rest
    (batch,) = plan([largest], measure([largest]))
    assert len(encode_request(batch.texts, "document")) == MAX_BODY_BYTES
    with pytest.raises(InputError) as caught:
        compose(["fine", largest + "b"], measure(["fine", largest + "b"]))
    assert caught.value.index == 1
    for words in ("texts[1]", f"{LARGEST + 1:,}", f"{MAX_BODY_BYTES:,}", "Split the text"):
        assert words in str(caught.value)
    assert len(str(caught.value)) < 200


def test_two_texts_fill_a_body_to_the_last_byte() -> None:
    """The comma between two texts counts: exactly 8,000,000 bytes travel together, one more travels apart."""
    half = "a" * ((LARGEST - 1) // 2 - 2)
    rest = "a" * (LARGEST - 1 - (len(half) + 2) - 2)
    assert len(encode_request([half, rest], "document")) == MAX_BODY_BYTES
    assert [len(batch.texts) for batch in plan([half, rest], measure([half, rest]))] == [2]
    assert [len(batch.texts) for batch in plan([half, rest + "a"], measure([half, rest + "a"]))] == [1, 1]


@pytest.mark.parametrize(("count", "batches"), [(0, 0), (1, 1), (32, 1), (33, 2), (64, 2), (65, 3)])
def test_thirty_two_texts_to_a_request(count: int, batches: int) -> None:
    """The count of requests changes at multiples of 32."""
    texts = ["a"] * count
    assert len(list(plan(texts, measure(texts)))) == batches


def test_empty_texts_are_left_out_where_that_is_asked_for() -> None:
    """With empty='zero' an empty text has size 0 and is in no batch; the others keep their index."""
    texts = ["", "a", "", "b", ""]
    assert measure(texts, empty="zero") == [0, 3, 0, 3, 0]
    assert list(plan(texts, [0, 3, 0, 3, 0])) == [Batch([1, 3], ["a", "b"])]
    assert list(plan(["", ""], [0, 0])) == []


# Texts, the index of the one at fault, what the message says.
REFUSED: list[tuple[list[Any], int, list[str]]] = [
    (["", "a"], 0, ["texts[0] is empty", "empty='zero'"]),
    (["a", "b", ""], 2, ["texts[2] is empty"]),
    (["a", 5], 1, ["texts[1] is not a str but int"]),
    (["a", None, 5], 1, ["texts[1] is not a str but NoneType"]),
    ([b"a"], 0, ["texts[0] is not a str but bytes"]),
    ([["a"]], 0, ["texts[0] is not a str but list"]),
    ([float("nan")], 0, ["texts[0] is not a str but float"]),
    (["", 5], 1, ["texts[1] is not a str but int"]),
    (["a", "tea \ud83c"], 1, ["texts[1] cannot be encoded", "lone surrogate", "'replace'"]),
    (["\udfff"], 0, ["texts[0] cannot be encoded"]),
]


@pytest.mark.parametrize(("texts", "index", "words"), REFUSED)
def test_a_text_that_cannot_be_sent_is_named(texts: list[Any], index: int, words: list[str]) -> None:
    """The error carries the index, and says what is wrong and how to mend it, without the text."""
    with pytest.raises(InputError) as caught:
        measure(texts)
    assert caught.value.index == index
    for word in words:
        assert word in str(caught.value)


def test_the_advice_for_a_lone_surrogate_works() -> None:
    """The message's own remedy gives a text that can be encoded, and leaves emoji as they are."""
    with pytest.raises(InputError) as caught:
        measure(["tea \ud83c\udf75 \ud83c"])
    [remedy] = re.findall(r"Mend it with (text\..*\))\.$", str(caught.value))
    mended = eval(remedy, {"text": "tea \ud83c\udf75 🍵 \ud83c"})  # noqa: S307 - the advice is what is tested
    assert mended == "tea 🍵 🍵 \ufffd"
    assert measure([mended])


def test_subclasses_of_str_are_texts() -> None:
    """A str of a kind of its own is measured and encoded as its letters."""
    kind = enum.StrEnum("kind", {"TEA": "茶"})
    word = type("Word", (str,), {})("é")
    assert measure([kind.TEA, word]) == [5, 4]
    assert encode_request([kind.TEA, word], "query") == '{"input":["茶","é"],"input_type":"query"}'.encode()


@pytest.mark.parametrize("input_type", ["document", "query"])
def test_a_known_input_type_is_taken(input_type: str) -> None:
    """There are two input types, and each is returned as it is."""
    assert check_input_type(input_type) == input_type


@pytest.mark.parametrize("input_type", ["", "doc", "Query", "document ", None, 1, ["query"]])
def test_an_unknown_input_type_is_refused(input_type: Any) -> None:
    """The error shows the value and names those that there are."""
    with pytest.raises(InputError) as caught:
        check_input_type(input_type)
    for words in ("'document'", "'query'", repr(input_type)):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, lambda texts: dict.fromkeys(texts).keys(), lambda texts: (text for text in texts)]
)
def test_any_iterable_is_taken(kind: Callable[[str], Iterable[str]]) -> None:
    """Sequences, iterators and generators all become the list of their texts."""
    assert check_texts(kind("ab")) == ["a", "b"]


@pytest.mark.parametrize("texts", ["tea", "", b"tea"])
def test_a_bare_string_is_refused(texts: Any) -> None:
    """A bare str or bytes raises an error that shows how to pass one text."""
    with pytest.raises(InputError) as caught:
        check_texts(texts)
    assert caught.value.index is None
    for words in (f"bare {type(texts).__name__}", "embed([text])"):
        assert words in str(caught.value)


@pytest.mark.parametrize("texts", [None, 5, 1.5, object()])
def test_what_cannot_be_iterated_is_refused(texts: Any) -> None:
    """The error names the type that was given."""
    with pytest.raises(InputError) as caught:
        check_texts(texts)
    assert f"iterable of str, not {type(texts).__name__}" in str(caught.value)
