"""How long a text is, and how one too long is cut: within the limit, nothing lost, at a good place, in few counts."""

import math
import re
import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from opensearch_embed._texts.length import average, estimate_tokens, split, sure_bytes, truncate
from opensearch_embed.errors import InputError

COUNTERS: dict[str, Callable[[str], int]] = {
    "characters": len,
    "bytes": lambda text: len(text.encode("utf-8", "surrogatepass")),
    "words": lambda text: len(text.split()),
    "estimate": estimate_tokens,
    # As a real tokenizer: cutting a word in two can raise the count of what is left.
    "pieces, not monotone": lambda text: len(re.findall(r"\w{8}|\w\w\w|\w|[^\w ]", text)),
}

any_counter = pytest.mark.parametrize("count", COUNTERS.values(), ids=COUNTERS)
words = st.sampled_from(
    [
        *"aé茶 \n\t。.!1",
        "word",
        "Sentence. ",
        "这是一句话。",
        "\n\n",
        " " * 20,
        "👩‍👩‍👧",
        "👍🏽",
        "e\u0301",
        "x" * 40,
        "aB3+/",
        "\ud800",
    ]
)
long_text = st.one_of(st.text(), st.lists(words, max_size=60).map("".join))
fast = settings(deadline=None, max_examples=60)

ENGLISH = "The quick brown fox jumps over the lazy dog. It was not amused! Was the fox? Nobody knows. " * 40
CHINESE = "敏捷的棕色狐狸跳过了懒狗。它并不高兴！狐狸呢？没有人知道，也没有人问。" * 40


class Counted:
    """A counter that remembers how long the texts were that it was asked about."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self.count = count
        self.asked: list[int] = []

    def __call__(self, text: str) -> int:
        """Count, and remember."""
        self.asked.append(len(text))
        return self.count(text)


# The estimate


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 2),
        ("a", 3),
        ("house", 3),
        ("houses", 4),
        ("House", 3),
        ("housekeeping", 2 + 1 + 4),
        ("Two words", 4),
        ("HTTPS", 2 + 3),
        ("camelCase", 2 + 1 + 1 + 1),
        ("snake_case", 2 + 3),
        ("123456", 2 + 7),
        ("a, b.", 2 + 4),
        ("a\n        b", 2 + 4),
        ("a    b", 2 + 2),
        ("茶", 3),
        ("喝茶。", 5),
        ("日本語テスト", 8),
        ("чай", 2 + 2),
        ("شاي", 2 + 2),
        ("né", 2 + 2),
        ("ชา茶", 2 + 4),
        ("🍵", 4),
        ("\ud800", 3),
    ],
)
def test_the_estimate_follows_its_rule(text: str, tokens: int) -> None:
    """Each clause of the docstring, by an example."""
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # The most that Qwen, DeepSeek, o200k, BERT's or the demo's SentencePiece tokenizer counts, measured once.
        ("The Earth's outer shell is broken into a few large and many small rigid plates.", 18),
        ("https://github.com/python-hyper/h11/blob/master/h11/_state.py#L5-L12", 37),
        ("def add(first: int, second: int) -> int:\n    return first + second\n", 22),
        ("光合作用把阳光、二氧化碳和水变成糖。", 18),
    ],
)
def test_the_estimate_is_above_real_counts_but_not_far(text: str, tokens: int) -> None:
    """English, Chinese, code and addresses come out at 1 to 1.6 times what real tokenizers count."""
    assert tokens <= estimate_tokens(text) - 2 <= 1.6 * tokens


@fast
@given(long_text, long_text)
def test_the_estimate_never_falls_as_a_text_grows(one: str, other: str) -> None:
    """What is added to a text never lowers its estimate, so a bisection finds the longest prefix."""
    assert estimate_tokens(one) <= estimate_tokens(one + other)


@fast
@given(long_text, st.integers(0, 200))
@example("7" * 6, 9)
@example("7" * 6, 8)
def test_what_surely_fits_does_fit(text: str, limit: int) -> None:
    """A text that need not be counted is never over the limit."""
    sure = len(text.encode("utf-8", "surrogatepass")) <= sure_bytes(limit)
    assert not sure or estimate_tokens(text) <= limit


def test_most_texts_need_not_be_counted() -> None:
    """Five bytes for six tokens of the limit are sure."""
    assert sure_bytes(300) == 255 <= 300 * 6 // 7


# The cuts


@any_counter
@fast
@given(text=long_text, limit=st.integers(6, 60))
@example(text=" " * 100 + "a", limit=10)
@example(text="a" + " " * 100, limit=10)
@example(text=" " * 100, limit=10)
def test_truncated_texts_fit(count: Callable[[str], int], text: str, limit: int) -> None:
    """A text that fits stays as it is; another one becomes a prefix that fits, and is never empty or blank."""
    short = truncate(text, limit, count)
    assert count(short) <= limit
    assert text.startswith(short) or text.lstrip().startswith(short)
    assert bool(short) == bool(text)
    assert bool(short.strip()) == bool(text.strip())
    if count(text) <= limit:
        assert short == text


@any_counter
@fast
@given(text=long_text, limit=st.integers(6, 60))
@example(text=" " * 100 + "a", limit=10)
@example(text="a" + " " * 100, limit=10)
@example(text="a" + " " * 100 + "b", limit=10)
@example(text=" " * 100, limit=10)
@example(text=" \u0c64\u200d", limit=6)
def test_pieces_fit_and_lose_nothing(count: Callable[[str], int], text: str, limit: int) -> None:
    """Every piece fits and says something; together they are the text, but for white space at its end or in runs."""
    pieces = split(text, limit, count)
    assert all(pieces)
    assert all(count(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert not text.strip() or all(piece.strip() for piece in pieces)
    if count(re.sub(r"\S", "", text)) < limit / 2 or count(text) <= limit:
        assert "".join(pieces).rstrip() == text.rstrip()


@fast
@given(st.text("abc茶 .。\n", min_size=1), st.integers(1, 40))
def test_a_truncated_text_is_the_longest_up_to_a_boundary(text: str, limit: int) -> None:
    """No more than a quarter is given up for a good place to cut."""
    short = truncate(text, limit, len)
    assume(text.startswith(short))
    assert min(limit, len(text)) * 0.75 <= len(short)


@fast
@given(st.text("abc", min_size=1), st.integers(1, 40))
def test_without_boundaries_the_cut_is_exact(text: str, limit: int) -> None:
    """A text without any place to cut at is used up to the last character that fits."""
    assert truncate(text, limit, len) == text[:limit]


@pytest.mark.parametrize("cut", [truncate, split])
@pytest.mark.parametrize("text", ["a", "茶" * 50, "word " * 50])
def test_a_character_over_the_limit_is_refused(cut: Callable[..., object], text: str) -> None:
    """Where not even one character fits, the error says which, how long, and what the limit is, but not the text."""
    with pytest.raises(
        InputError, match=rf"U\+{ord(text[0]):04X}, counts 7 tokens: more than the limit of 5"
    ) as caught:
        cut(text, 5, lambda piece: len(piece) + 6)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("One one. One one.\n\nTwo. Three", 24, ["One one. One one.", "\n\nTwo. Three"]),
        ("One one one one. Two two two", 20, ["One one one one.", " Two two two"]),
        ("He said “no.” She said yes.", 16, ["He said “no.”", " She said yes."]),
        ("Version 3.14 of it is out", 12, ["Version 3.14", " of it is", " out"]),
        ("one line\nanother line", 16, ["one line", "\nanother line"]),
        ("这是一句话。这是第二句话！", 9, ["这是一句话。", "这是第二句话！"]),
        ("他说：“好的。”然后走了。", 9, ["他说：“好的。”", "然后走了。"]),
        ("使用OpenSearch服务", 8, ["使用OpenSe", "arch服务"]),
        ("搜索服务OpenSearch", 8, ["搜索服务", "OpenSear", "ch"]),
        ("words without an end", 16, ["words without an", " end"]),
        ("xxxxxxxxxxxx", 5, ["xxxxx", "xxxxx", "xx"]),
        ("abcd   ", 5, ["abcd "]),
    ],
)
def test_pieces_end_at_the_best_place(text: str, limit: int, pieces: list[str]) -> None:
    """At the end of a paragraph, else of a sentence, else of a word, else anywhere, if that is not far back."""
    assert split(text, limit, len) == pieces


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [
        ("It is a long way. I", 18, "It is a long way."),
        ("It is a long way to go", 18, "It is a long way"),
        ("It is a longwayto go", 12, "It is a longw"[:12]),
        ("一二三四五六七八九。十", 10, "一二三四五六七八九。"),
    ],
)
def test_a_text_is_truncated_at_a_place_nearby(text: str, limit: int, short: str) -> None:
    """Less is given up than by splitting, since what is cut off is lost."""
    assert truncate(text, limit, len) == short


@fast
@given(
    st.lists(st.sampled_from(["a", "茶", "e\u0301", "👩‍👩‍👧", "👍🏽", "❤\ufe0f", "葛\U000e0100"]), max_size=60).map(
        "".join
    )
)
def test_what_is_drawn_as_one_stays_together(text: str) -> None:
    """No piece starts with an accent, a skin tone or a joiner, and none ends with a joiner."""
    for piece in split(text, 12, len):
        assert not unicodedata.combining(piece[0])
        assert piece[0] not in "\u200d\ufe0f\U0001f3fd\U000e0100"
        assert not piece.endswith("\u200d")


@pytest.mark.parametrize("text", ["e" + "\u0301" * 30, "👩" + "\u200d👩" * 30])
def test_what_is_drawn_as_one_is_cut_where_it_must_be(text: str) -> None:
    """Something longer than the limit is cut inside: the limit comes first."""
    assert "".join(split(text, 9, len)) == text
    assert truncate(text, 9, len) == text[:9]


@any_counter
@pytest.mark.parametrize("text", [ENGLISH, CHINESE, ENGLISH + CHINESE, "x" * 9000, "a" * 4000 + " " + CHINESE])
def test_a_truncation_takes_few_counts(count: Callable[[str], int], text: str) -> None:
    """The count is asked about twice the logarithm of the text's length."""
    counted = Counted(count)
    truncate(text, 100, counted)
    assert len(counted.asked) <= 2 * math.log2(len(text)) + 4


@any_counter
@pytest.mark.parametrize("text", [ENGLISH, CHINESE, ENGLISH + CHINESE])
def test_a_split_takes_few_counts(count: Callable[[str], int], text: str) -> None:
    """The count is asked some seven times a piece at most, and after the first time about little more than a piece."""
    counted = Counted(count)
    pieces = split(text, 100, counted)
    assert len(counted.asked) <= 7 * len(pieces) + 20
    assert sum(counted.asked) <= 12 * len(text)


# The average


def norm(vector: list[float]) -> float:
    """The vector's length."""
    return math.sqrt(sum(number * number for number in vector))


vectors = st.integers(1, 4).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=size, max_size=size), min_size=1, max_size=5
    )
)


@fast
@given(vectors, st.data())
def test_an_average_is_as_long_as_the_vectors_are(pieces: list[list[float]], data: st.DataObject) -> None:
    """Its length is within those of the pieces, and its direction that of the weighted mean."""
    weights = data.draw(st.lists(st.integers(1, 300), min_size=len(pieces), max_size=len(pieces)))
    mean = average(pieces, weights)
    lengths = [norm(piece) for piece in pieces]
    assert len(mean) == len(pieces[0])
    assume(not all(abs(length - 1) < 2e-3 for length in lengths))
    assert min(lengths) * (1 - 1e-6) <= norm(mean) <= max(lengths) * (1 + 1e-6)


@fast
@given(st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 300)), min_size=2, max_size=6))
def test_unit_vectors_give_a_unit_vector(angles: list[tuple[float, int]]) -> None:
    """Vectors of unit length average to one of unit length, in the direction of their weighted sum."""
    pieces = [[math.cos(angle), math.sin(angle)] for angle, _ in angles]
    mean = average(pieces, [weight for _, weight in angles])
    x, y = (sum(weight * piece[i] for piece, (_, weight) in zip(pieces, angles, strict=True)) for i in (0, 1))
    assert norm(mean) == pytest.approx(1)
    assert mean == pytest.approx([x / math.hypot(x, y), y / math.hypot(x, y)])


def test_averages_by_hand() -> None:
    """The longer piece has the larger say; lengths other than 1 are kept; nearly unit vectors become unit ones."""
    assert average([[1, 0], [0, 1]], [3, 1]) == pytest.approx([3 / math.sqrt(10), 1 / math.sqrt(10)])
    assert average([[4, 0], [0, 8]], [1, 1]) == pytest.approx([6 / math.sqrt(5), 12 / math.sqrt(5)])
    assert norm(average([[1.0005, 0], [0, 0.9995]], [1, 1])) == pytest.approx(1, abs=1e-12)
    assert average([[0.3, 0.4]], [7]) == [0.3, 0.4]


def test_averages_at_the_edges() -> None:
    """Weights of nothing count alike; what cancels out leaves the heaviest; zero vectors give a zero vector."""
    assert average([[1, 0], [0, 1]], [0, 0]) == pytest.approx([math.sqrt(0.5)] * 2)
    assert average([[1, 0], [-1, 0]], [1, 1]) == [1, 0]
    assert average([[1, 0], [-1, 0], [0, 1], [0, -1]], [1, 1, 2, 2]) == [0, 1]
    assert average([[0, 0], [0, 0]], [1, 2]) == [0, 0]


@pytest.mark.parametrize("rows", [[[1, 0]], [[1, 0], [0, 1]], [[1, 0], [-1, 0]]])
def test_arrays_average_to_plain_floats(rows: list[list[float]]) -> None:
    """Rows of an array are taken as well, and give a list of Python's own floats."""
    mean = average(np.asarray(rows, dtype=np.float32), [1] * len(rows))
    assert [type(number) for number in mean] == [float, float]


def test_a_dense_beginning_is_cut_all_the_same() -> None:
    """Where a text's first characters count for far more than its average, the first piece is short, and not empty."""
    text = "D" * 40 + "s" * 100_000
    pieces = split(text, 10, lambda part: part.count("D") + part.count("s") // 10_000)
    assert "".join(pieces) == text
    assert all(0 < piece.count("D") + piece.count("s") // 10_000 <= 10 for piece in pieces)
