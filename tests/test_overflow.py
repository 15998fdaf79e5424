"""A text that is longer than its model reads is sent all the same, refused, cut, or split and averaged."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Action, Connection, RawRequest, RawServer, http, refuse

from opensearch_embed import EmbeddingClient, InputError, InvalidRequest, OpenSearchEmbedError
from opensearch_embed._texts.length import estimate_tokens, split
from opensearch_embed.emulator import Emulator

MODEL = "ops-text-embedding-001"
LIMIT = 300
DIMENSION = 1536


def words(text: str) -> int:
    """Count words: a counter of the user's own."""
    return len(text.split())


def prose(count: int, name: str = "word") -> str:
    """Return so many different words, in sentences of ten."""
    return " ".join(f"{name}{number}{'.' if number % 10 == 9 else ''}" for number in range(count))


SHORT, LONG, LONGER = prose(5, "short"), prose(700, "long"), prose(1500, "longer")


@pytest.fixture
def make(make_client: Callable[..., EmbeddingClient]) -> Callable[..., EmbeddingClient]:
    """Make clients of a model that reads 300 tokens, which are words here."""
    return lambda **settings: make_client(**({"model": MODEL, "length_function": words} | settings))


def texts_sent(emulator: Emulator) -> list[str]:
    """Return all texts that came in, in their order."""
    return [text for request in emulator.requests for text in request.body["input"]]


def pieces_sent(emulator: Emulator, text: str) -> list[str]:
    """Return what was sent for a text: its consecutive parts, which are in no other text."""
    return sorted((part for part in texts_sent(emulator) if part in text), key=text.index)


def averaged(emulator: Emulator, pieces: list[str], count: Callable[[str], int] = words, role: Any = "document") -> Any:
    """Return the mean of the pieces' vectors, each as heavy as it is long, brought to length 1."""
    total = sum(count(piece) * np.array(emulator.vector(piece, role, MODEL)) for piece in pieces)
    return total / np.linalg.norm(total)


def right(emulator: Emulator, text: str, role: Any = "document") -> list[float]:
    """Return the vector of a text that is sent as it is."""
    return emulator.vector(text, role, MODEL)


# --- texts within the limit ---


@pytest.mark.parametrize("overflow", ["send", "error", "truncate", "average"])
def test_texts_within_the_limit_are_sent_as_they_are(
    overflow: str, make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Up to the limit, and at it, nothing is said, and nothing is changed: not even white space."""
    texts = ["tea", f"  {prose(LIMIT)}\n\n", prose(LIMIT - 1), "a \n"]
    client = make(overflow=overflow)
    assert call(client.embed, texts) == [right(emulator, text) for text in texts]
    assert texts_sent(emulator) == texts


@pytest.mark.parametrize("overflow", ["send", "error", "truncate", "average"])
def test_a_model_whose_limit_is_unknown_takes_any_text(
    overflow: str, make_client: Callable[..., EmbeddingClient], call: Callable[..., Any]
) -> None:
    """Outside the catalogue no limit is known: every text is sent as it is, and nothing is said."""
    with Emulator(models={"mine": 600}, qps=None) as other:
        settings = {
            "endpoint": other.url,
            "api_key": other.api_key,
            "model": "mine",
            "dimension": 600,
            "length_function": words,
        }
        client = make_client(overflow=overflow, **settings)
        assert call(client.embed, [prose(20_000)]) == [other.vector(prose(20_000), model="mine")]


def test_each_model_has_its_own_limit(make: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """The limit is that of the client's model."""
    make(model="ops-text-embedding-en-001", overflow="error").embed([prose(512)])
    with pytest.raises(InputError, match="512"):
        make(model="ops-text-embedding-en-001", overflow="error").embed([prose(513)])
    make(model="ops-text-embedding-002", overflow="error").embed([prose(8192)])
    assert len(emulator.requests) == 2


@pytest.mark.parametrize("text", [prose(2000), "长文本" * 400, "x1 " * 1000], ids=["English", "Chinese", "signs"])
def test_tokens_are_estimated_where_nobody_counts(
    text: str, make: Callable[..., EmbeddingClient], emulator: Emulator
) -> None:
    """Without a `length_function` a text of several times the limit is found too long, and a short one is not."""
    client = make(overflow="error", length_function=None)
    with pytest.raises(InputError):
        client.embed([text])
    client.embed([text[:100]])
    assert texts_sent(emulator) == [text[:100]]


def test_the_users_counter_decides(make: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """What `length_function` says holds, for short texts and for long ones, against any estimate."""
    make(overflow="error", length_function=lambda _: 1).embed([LONGER])
    with pytest.raises(InputError):
        make(overflow="error", length_function=lambda _: 301).embed(["tea"])
    assert texts_sent(emulator) == [LONGER]


@pytest.mark.parametrize("overflow", ["send", "error", "truncate", "average"])
def test_an_error_of_the_users_counter_is_told_with_the_text(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any], overflow: str
) -> None:
    """When `length_function` fails, the error names the text, comes from that failure, and nothing has been sent."""

    def fail(text: str) -> int:
        if text.startswith("coffee"):
            raise LookupError(f"no tokenizer for {text}")
        return len(text)

    texts = ["tea", "coffee, a private text"]
    with pytest.raises(InputError, match=r"^texts\[1\]: length_function failed with LookupError\.$") as caught:
        call(make(length_function=fail, overflow=overflow).embed, texts)
    assert isinstance(caught.value.__cause__, LookupError)
    assert (caught.value.index, caught.value.pending) == (1, [0, 1])
    assert emulator.requests == []


@pytest.mark.parametrize("overflow", ["send", "average"])
@pytest.mark.parametrize(
    ("count", "shown"),
    [
        *((None, "NoneType"), ("3", "str"), (-1, "-1"), (-0.5, "-0.5"), (True, "bool"), ([3], "list")),
        *((float("nan"), "float"), (float("inf"), "inf"), (np.float32(-2), "-2.0"), (3j, "complex")),
    ],
)
def test_a_count_that_is_none_is_told_with_the_text(
    make: Callable[..., EmbeddingClient],
    emulator: Emulator,
    call: Callable[..., Any],
    overflow: str,
    count: Any,
    shown: str,
) -> None:
    """What `length_function` returns must be a number of tokens."""
    client = make(length_function=lambda text: count if text == "tea" else 2, overflow=overflow)
    with pytest.raises(InputError, match=r"^texts\[1\]: length_function must return a number") as caught:
        call(client.embed, ["coffee", "tea"])
    assert shown in str(caught.value)
    assert caught.value.index == 1
    assert emulator.requests == []


@pytest.mark.parametrize("overflow", ["truncate", "average"])
@pytest.mark.parametrize("kind", [np.int64, np.float32, float, lambda tokens: tokens - 0.25])
def test_any_number_counts(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any], overflow: str, kind: Any
) -> None:
    """A counter may return what its tokenizer does: numpy's numbers, or fractions."""
    client = make(length_function=lambda text: kind(len(text)), overflow=overflow)
    call(client.embed, [LONG])
    assert all(len(text) <= LIMIT for text in texts_sent(emulator))


def test_a_failure_at_a_piece_is_told_before_anything_is_sent(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """A piece is counted for its weight when its vector has come; a counter that fails at it does so before."""
    asked: list[str] = []
    piece = split(LONG, LIMIT, estimate_tokens)[-1]

    def count(text: str) -> int:
        asked.append(text)
        if text == piece:
            raise LookupError
        return estimate_tokens(text)

    with pytest.raises(InputError, match=r"^texts\[0\]: length_function failed"):
        call(make(length_function=count, overflow="average").embed, [LONG])
    assert piece in asked
    assert emulator.requests == []


# --- larger than a body ---

HUGE = "Tea is a drink. " * 600_000


@pytest.mark.parametrize("overflow", ["truncate", "average"])
@pytest.mark.parametrize("length_function", [None, lambda text: len(text) // 1000])
def test_what_is_cut_need_not_fit_before(
    emulator: Emulator,
    make: Callable[..., EmbeddingClient],
    call: Callable[..., Any],
    overflow: str,
    length_function: Any,
) -> None:
    """A text of 9.6 MB is no error where less of it is sent at a time."""
    if length_function is None and overflow == "average":
        return  # a thousand pieces say no more than a few
    (vector,) = call(make(overflow=overflow, length_function=length_function).embed, [HUGE])
    assert len(vector) == DIMENSION
    assert all(len(text) < len(HUGE) for text in texts_sent(emulator))


def test_what_is_not_cut_must_fit(
    emulator: Emulator, make: Callable[..., EmbeddingClient], call: Callable[..., Any]
) -> None:
    """What will be sent is what is measured, and nothing is sent if it is too large."""
    for settings, words in (
        ({"overflow": "send"}, "takes 9,600,002 bytes"),
        ({"overflow": "truncate", "length_function": lambda _: 1}, "takes 9,600,002 bytes"),
        ({"overflow": "error"}, "tokens"),
    ):
        with pytest.raises(InputError, match=r"texts\[1\]") as caught:
            call(make(**settings).embed, ["tea", HUGE])
        assert words in str(caught.value)
    assert emulator.requests == []


# --- overflow="send" ---


def test_send_warns_once(make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]) -> None:
    """By default long texts are sent as they are; one warning a client says how many there are, and the model."""
    client = make()
    with pytest.warns(UserWarning, match=rf"^2 texts look longer than the 300 tokens that {MODEL} reads") as caught:
        vectors = call(client.embed, [LONG, SHORT, LONGER])
    assert len(caught) == 1
    assert vectors == [right(emulator, text) for text in (LONG, SHORT, LONGER)]
    assert texts_sent(emulator) == [LONG, SHORT, LONGER]
    assert call(client.embed, [LONG]) == [right(emulator, LONG)]  # silently: a warning would be an error here
    with pytest.warns(UserWarning, match="^1 text looks longer"):
        call(make().embed, [LONG])


def test_send_does_not_show_the_text(make: Callable[..., EmbeddingClient]) -> None:
    """The warning says what to do, where the call is, and nothing of what the text says."""
    with pytest.warns(UserWarning, match=r"overflow='error', 'truncate' or 'average'.* length_function") as caught:
        make().embed([LONG])
    assert caught[0].filename == __file__
    assert "long1" not in str(caught[0].message)


def test_what_is_not_sent_is_not_warned_of(make: Callable[..., EmbeddingClient], call: Callable[..., Any]) -> None:
    """A long text of a call that is refused does not use up the warning, nor make it count one more."""
    client = make()
    with pytest.raises(InputError):
        call(client.embed, ["word " * 1_800_000])
    call(client.embed, ["short"])  # silently: a warning would be an error here
    with pytest.warns(UserWarning, match="^1 text looks longer"):
        call(client.embed, [LONG])


def test_a_stream_warns_once(make: Callable[..., EmbeddingClient]) -> None:
    """A stream with long texts in many chunks warns once, too, where it is read."""
    with pytest.warns(UserWarning, match="^1 text looks longer") as caught:
        list(make(max_concurrency=1).iter_embed([LONG, *(f"text {i}" for i in range(40)), LONGER]))
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_warning_that_is_an_error_comes_before_anything_is_sent(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Under `-W error` the warning is raised, nothing has been sent, and the client works on."""
    client = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="looks longer"):
            call(client.embed, [SHORT, LONG])
        assert emulator.requests == []
        assert call(client.embed, [SHORT]) == [right(emulator, SHORT)]


# --- overflow="error" ---


def test_error_names_the_text(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """The first text that is too long is named, with its length, limit and model, before anything is sent."""
    texts = [*(f"text {i}" for i in range(40)), LONG, LONGER]
    with pytest.raises(InputError, match=rf"texts\[40\] has about 700 tokens; {MODEL} reads 300") as caught:
        call(make(overflow="error").embed, texts)
    assert caught.value.index == 40
    assert (caught.value.completed, caught.value.pending) == ({}, list(range(42)))
    assert "long1" not in str(caught.value)
    assert emulator.requests == []


def test_error_comes_after_what_cannot_be_sent_at_all(make: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """A text that is no text is found before any is measured."""
    with pytest.raises(InputError, match="str") as caught:
        make(overflow="error").embed([LONG, 5])  # type: ignore[list-item]
    assert caught.value.index == 1
    assert emulator.requests == []


def test_error_counts_in_the_corpus(make: Callable[..., EmbeddingClient]) -> None:
    """In a stream the text is named by its place in the corpus."""
    texts = [f"text {i}" for i in range(100)]
    texts[70] = LONG
    with pytest.raises(InputError, match=r"texts\[70\]") as caught:
        list(make(overflow="error", max_concurrency=1).iter_embed(texts))
    assert caught.value.index == 70


# --- overflow="truncate" ---


def test_truncate_sends_the_beginning(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """One text is sent for each: of a long one its beginning, about as long as the model reads."""
    client = make(overflow="truncate")
    vectors = call(client.embed, [SHORT, LONG, LONGER])
    sent = texts_sent(emulator)
    assert len(sent) == 3
    assert sent[0] == SHORT
    for whole, start in zip([LONG, LONGER], sent[1:], strict=True):
        assert whole.startswith(start)
        assert 0.8 * LIMIT < words(start) <= LIMIT
    assert vectors == [right(emulator, text) for text in sent]
    assert client.usage.texts == 3


def test_truncate_serves_queries(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """The role stays what it was."""
    vectors = call(make(overflow="truncate").embed, [LONG], "query")
    assert vectors == [right(emulator, texts_sent(emulator)[0], "query")]


# --- overflow="average" ---


@pytest.mark.parametrize("role", ["document", "query"])
def test_average_joins_the_vectors_of_all_pieces(
    role: str, make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """A long text is sent in pieces that are together the text; its vector is their weighted mean, of length 1."""
    vectors = call(make(overflow="average").embed, [SHORT, LONG, LONGER], role)
    assert vectors[0] == right(emulator, SHORT, role)
    for text, vector in zip([LONG, LONGER], vectors[1:], strict=True):
        pieces = pieces_sent(emulator, text)
        assert "".join(pieces) == text
        assert all(words(piece) <= LIMIT for piece in pieces)
        assert len(pieces) <= words(text) // LIMIT + 2
        np.testing.assert_allclose(vector, averaged(emulator, pieces, role=role), atol=1e-9)
        assert type(vector) is list
        assert {type(number) for number in vector} == {float}


def test_average_weighs_by_the_users_counter(make: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """A piece is as heavy as `length_function` says, be its words as many as they may."""

    def capitals(text: str) -> int:
        return sum(letter.isupper() for letter in text)

    text = " ".join([*(f"BIG{i}" for i in range(99)), *(f"small{i}" for i in range(2000)), "THE END"])
    [vector] = make(overflow="average", length_function=capitals).embed([text])
    pieces = pieces_sent(emulator, text)
    assert "".join(pieces) == text
    assert len({capitals(piece) for piece in pieces}) > 1
    np.testing.assert_allclose(vector, averaged(emulator, pieces, capitals), atol=1e-9)
    assert np.abs(np.array(vector) - averaged(emulator, pieces, len)).max() > 1e-4


def test_average_fills_arrays(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Arrays hold the same averages, as float32."""
    rows = call(make(overflow="average").embed_array, [LONG, SHORT])
    assert rows.shape == (2, DIMENSION)
    np.testing.assert_allclose(rows[0], averaged(emulator, pieces_sent(emulator, LONG)), atol=1e-6)
    assert rows[1].tolist() == right(emulator, SHORT)


def test_average_works_in_a_stream(make: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """In a stream a text in pieces takes the one place that it has."""
    texts = [f"text {i}" for i in range(70)]
    texts[33] = LONG
    found = dict(make(overflow="average", max_concurrency=1).iter_embed(texts))
    np.testing.assert_allclose(found[33], averaged(emulator, pieces_sent(emulator, LONG)), atol=1e-9)
    assert [found[i] for i in range(70) if i != 33] == [right(emulator, texts[i]) for i in range(70) if i != 33]


def test_average_packs_pieces_like_texts(make: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """Pieces of many texts share requests of up to 32."""
    texts = [prose(700, f"t{i}n") for i in range(20)]
    make(overflow="average").embed(texts)
    sent = texts_sent(emulator)
    assert len(sent) >= 60
    assert len(emulator.requests) == -(-len(sent) // 32)


def test_average_estimates_where_nobody_counts(make: Callable[..., EmbeddingClient], emulator: Emulator) -> None:
    """Without a `length_function` pieces are measured, and weighed, by the estimate: together they are the text."""
    text = "茶馆里的人很多。" * 100
    [vector] = make(overflow="average", length_function=None).embed([text])
    sent = texts_sent(emulator)
    assert "".join(sent) == text
    assert len(sent) > 2
    assert all(len(piece) < LIMIT for piece in sent)
    assert np.linalg.norm(vector) == pytest.approx(1)
    # Every piece says the same, so all weights give the same direction, nearly.
    assert np.dot(vector, right(emulator, sent[0])) > 0.99


# --- together with all else ---


@pytest.mark.parametrize("overflow", ["truncate", "average"])
def test_a_repeated_long_text_is_sent_once(
    overflow: str, make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Copies of a long text get its vector, each a list of its own, and are not sent."""
    vectors = call(make(overflow=overflow).embed, [LONG, SHORT, LONG, LONG])
    assert vectors[0] == vectors[2] == vectors[3] != vectors[1]
    assert len({id(vector) for vector in vectors}) == 4
    assert len(texts_sent(emulator)) == len(set(texts_sent(emulator)))


def test_send_counts_a_repeated_text_once_or_often(make: Callable[..., EmbeddingClient]) -> None:
    """The number in the warning is between the different long texts and all of them."""
    with pytest.warns(UserWarning, match=r"^(2|4) texts look longer"):
        make().embed([LONG, LONGER, LONG, LONG])


@pytest.mark.parametrize("overflow", ["truncate", "average"])
def test_empty_texts_move_no_piece(
    overflow: str, make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Empty texts that become zeros, copies and pieces together: each vector is where it belongs."""
    texts = ["", LONG, "", SHORT, LONG, SHORT, ""]
    vectors = call(make(overflow=overflow, empty="zero").embed, texts)
    assert [index for index, vector in enumerate(vectors) if not any(vector)] == [0, 2, 6]
    assert vectors[3] == vectors[5] == right(emulator, SHORT)
    np.testing.assert_allclose(vectors[1], averaged(emulator, pieces_sent(emulator, LONG)), atol=1e-7)
    assert vectors[4] == vectors[1]


@pytest.mark.parametrize("overflow", ["truncate", "average"])
def test_a_cache_serves_long_texts(
    overflow: str, make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any], tmp_path: Path
) -> None:
    """What was cut or split once is not sent again."""
    client = make(overflow=overflow, cache=tmp_path / "cache.sqlite")
    first = call(client.embed, [LONG, SHORT])
    sent = len(texts_sent(emulator))
    assert call(client.embed, [SHORT, LONG]) == first[::-1]
    assert len(texts_sent(emulator)) == sent


def test_rules_do_not_mix_in_one_cache(
    make: Callable[..., EmbeddingClient], emulator: Emulator, tmp_path: Path
) -> None:
    """Clients with different rules share a cache, and each gets the vector that its rule makes."""
    path = tmp_path / "cache.sqlite"
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert make(overflow="send", cache=path).embed([LONG]) == [right(emulator, LONG)]
        [cut] = make(overflow="truncate", cache=path).embed([LONG])
        [mean] = make(overflow="average", cache=path).embed([LONG])
        parts = [text for text in texts_sent(emulator) if text != LONG]
        assert cut == right(emulator, parts[0])
        pieces = [piece for piece in parts[1:] if piece in LONG]
        if "".join(pieces) != LONG:  # its first piece is what was cut, and was in the cache
            pieces = parts
        assert "".join(pieces) == LONG
        np.testing.assert_allclose(mean, averaged(emulator, pieces), atol=1e-9)
    assert len(texts_sent(emulator)) == len(set(texts_sent(emulator)))


def test_half_a_text_in_the_cache_is_half_the_price(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any], tmp_path: Path
) -> None:
    """When a job stops between two pieces of a text, the next one sends the other pieces alone."""
    text = prose(12_000)  # some 40 pieces: two requests
    path, honest = tmp_path / "cache.sqlite", answering_like(emulator, lambda _: False)
    with RawServer(honest, refuse(401, "Unauthorized"), default=honest) as server:
        client = make(overflow="average", cache=path, endpoint=server.url, max_concurrency=1)
        with pytest.raises(OpenSearchEmbedError) as caught:
            call(client.embed, [text])
        assert (caught.value.completed, caught.value.pending) == ({}, [0])
        [vector] = call(client.embed, [text])
        first, refused, second = (request.json["input"] for request in server.requests)
    assert "".join([*first, *second]) == text
    assert second == refused
    np.testing.assert_allclose(vector, averaged(emulator, [*first, *second]), atol=1e-9)


def test_progress_counts_texts(make: Callable[..., EmbeddingClient], capsys: pytest.CaptureFixture[str]) -> None:
    """The bar counts texts, not pieces."""
    make(overflow="average").embed([LONG, SHORT, LONG, LONGER], progress=True)
    assert "4/4" in capsys.readouterr().err


@pytest.mark.parametrize("overflow", ["truncate", "average"])
def test_a_counter_with_which_nothing_fits_is_told(
    overflow: str, make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Where one character alone is over the limit, the text is named, and nothing has been sent."""
    client = make(overflow=overflow, length_function=lambda text: 1000 if "!" in text else 1)
    with pytest.raises(InputError, match="length_function") as caught:
        call(client.embed, ["tea", "!!", "tea"])
    assert caught.value.index == 1
    assert "texts[1]" in str(caught.value)
    assert caught.value.pending == [0, 1, 2]
    assert emulator.requests == []


# --- refusals ---


def answering_like(emulator: Emulator, refuses: Callable[[str], bool]) -> Action:
    """Answer with the emulator's vectors, and refuse requests with a text of a certain kind."""

    def act(connection: Connection, request: RawRequest) -> None:
        texts, role = request.json["input"], request.json["input_type"]
        if any(map(refuses, texts)):
            refuse(400, "InvalidParameter")(connection, request)
            return
        vectors = [{"index": i, "embedding": emulator.vector(text, role, MODEL)} for i, text in enumerate(texts)]
        body = {"request_id": "R", "usage": {"token_count": 1}, "result": {"embeddings": vectors}}
        connection.send(http(200, json.dumps(body).encode()))

    return act


@pytest.fixture
def picky(emulator: Emulator) -> Iterator[RawServer]:
    """A server that refuses texts in which it reads "poison"."""
    with RawServer(default=answering_like(emulator, lambda text: "poison" in text)) as running:
        yield running


def with_poison(count: int, place: int, name: str) -> str:
    """Return so many words, one of which is refused."""
    return prose(count, name).replace(f"{name}{place} ", "poison ")


def check_completed(error: OpenSearchEmbedError, emulator: Emulator, texts: dict[int, str]) -> None:
    """Check that exactly these short texts are completed, with right vectors."""
    assert error.completed == {index: right(emulator, text) for index, text in texts.items()}


@pytest.mark.parametrize("place", [0, 350, 650], ids=["first piece", "in the middle", "last piece"])
def test_a_refused_piece_is_a_refused_text(
    place: int, make: Callable[..., EmbeddingClient], emulator: Emulator, picky: RawServer, call: Callable[..., Any]
) -> None:
    """When the service refuses a piece, the text is refused, and its copies; all others have their vector."""
    bad = with_poison(700, place, "bad")
    texts = ["tea", bad, "milk", bad, "sugar", ""]
    client = make(overflow="average", on_error="isolate", endpoint=picky.url, empty="zero")
    with pytest.raises(InvalidRequest) as caught:
        call(client.embed, texts)
    assert caught.value.indices == caught.value.pending == [1, 3]
    assert caught.value.completed.pop(5) == [0.0] * DIMENSION
    check_completed(caught.value, emulator, {0: "tea", 2: "milk", 4: "sugar"})
    assert client.usage.refused == (1, 3)


def test_a_text_with_two_refused_pieces_is_named_once(
    make: Callable[..., EmbeddingClient], emulator: Emulator, picky: RawServer, call: Callable[..., Any]
) -> None:
    """Several refused pieces of one text are one refused text; arrays have a row of NaN for it."""
    bad = with_poison(1200, 10, "bad").replace("bad900 ", "poison ")
    client = make(overflow="average", on_error="skip", endpoint=picky.url)
    rows = call(client.embed_array, [bad, "tea", LONG])
    assert client.usage.refused == (0,)
    assert np.isnan(rows).all(axis=1).tolist() == [True, False, False]
    assert rows[1].tolist() == right(emulator, "tea")
    sent = {text for request in picky.requests for text in request.json["input"]}
    pieces = sorted((text for text in sent if text in LONG), key=LONG.index)
    np.testing.assert_allclose(rows[2], averaged(emulator, pieces), atol=1e-6)


def test_a_cut_text_is_not_refused_for_what_was_cut_off(
    make: Callable[..., EmbeddingClient], picky: RawServer, call: Callable[..., Any]
) -> None:
    """With `overflow="truncate"` the service judges what it gets."""
    late, early = with_poison(700, 650, "late"), with_poison(700, 10, "early")
    client = make(overflow="truncate", on_error="skip", endpoint=picky.url)
    rows = call(client.embed_array, [late, early])
    assert np.isnan(rows).all(axis=1).tolist() == [False, True]
    assert client.usage.refused == (1,)


def test_raise_names_texts_and_not_pieces(
    make: Callable[..., EmbeddingClient], picky: RawServer, call: Callable[..., Any]
) -> None:
    """With `on_error="raise"` the error names the texts that had a part in the refused request, once each."""
    bad = with_poison(700, 350, "bad")
    client = make(overflow="average", endpoint=picky.url)
    with pytest.raises(InvalidRequest, match=r"texts\[0\]") as caught:
        call(client.embed, [bad, "tea", bad])
    assert caught.value.indices == caught.value.pending == [0, 1, 2]


def test_a_text_of_which_a_piece_is_missing_is_pending(
    make: Callable[..., EmbeddingClient], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """When a job stops, a text with some pieces received has no vector: it is pending, and no half average is told."""
    texts = [*(f"text {i}" for i in range(31)), LONGER]
    first, stop = answering_like(emulator, lambda _: False), refuse(401, "Unauthorized")
    with RawServer(first, default=stop) as server:
        client = make(overflow="average", endpoint=server.url, max_concurrency=1)
        with pytest.raises(OpenSearchEmbedError) as caught:
            call(client.embed, texts)
        assert len(server.requests) == 2
    assert caught.value.pending == [31]
    check_completed(caught.value, emulator, dict(enumerate(texts[:31])))


# --- the adapters ---


def langchain(url: str, key: str, **settings: Any) -> tuple[Any, Any]:
    """Return LangChain's methods for documents and for a query."""
    from langchain_opensearch_embed import OpenSearchEmbeddings

    embeddings = OpenSearchEmbeddings(model=MODEL, endpoint=url, api_key=key, qps=None, **settings)
    return embeddings.embed_documents, embeddings.embed_query


def llama_index(url: str, key: str, **settings: Any) -> tuple[Any, Any]:
    """Return LlamaIndex's methods for documents and for a query."""
    from llama_index_opensearch_embed import OpenSearchEmbedding

    embedding = OpenSearchEmbedding(model_name=MODEL, endpoint=url, api_key=key, qps=None, **settings)
    return embedding.get_text_embedding_batch, embedding.get_query_embedding


@pytest.fixture(params=[langchain, llama_index], ids=["langchain", "llama_index"])
def adapter(request: pytest.FixtureRequest, emulator: Emulator) -> Callable[..., tuple[Any, Any]]:
    """Make an adapter for the emulator, and return its methods for documents and for a query."""
    return lambda **settings: request.param(emulator.url, emulator.api_key, length_function=words, **settings)


def test_adapters_truncate(
    adapter: Callable[..., tuple[Any, Any]], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Documents and queries that are too long are cut."""
    documents, query = adapter(overflow="truncate")
    vectors = call(documents, [SHORT, LONG])
    assert vectors == [right(emulator, text) for text in texts_sent(emulator)]
    assert call(query, LONGER) == right(emulator, texts_sent(emulator)[2], "query")
    assert [words(text) <= LIMIT for text in texts_sent(emulator)] == [True] * 3


def test_adapters_average(
    adapter: Callable[..., tuple[Any, Any]], emulator: Emulator, call: Callable[..., Any]
) -> None:
    """Documents and queries that are too long are split and averaged."""
    documents, query = adapter(overflow="average")
    vectors = call(documents, [SHORT, LONG])
    assert vectors[0] == right(emulator, SHORT)
    np.testing.assert_allclose(vectors[1], averaged(emulator, pieces_sent(emulator, LONG)), atol=1e-9)
    vector = call(query, LONGER)
    np.testing.assert_allclose(vector, averaged(emulator, pieces_sent(emulator, LONGER), role="query"), atol=1e-9)


def test_adapters_refuse(adapter: Callable[..., tuple[Any, Any]], emulator: Emulator, call: Callable[..., Any]) -> None:
    """A document or a query that is too long is an error, if so wished, before anything is sent."""
    documents, query = adapter(overflow="error")
    with pytest.raises(InputError, match=r"texts\[1\]") as caught:
        call(documents, [SHORT, LONG])
    assert caught.value.index == 1
    with pytest.raises(InputError):
        call(query, LONG)
    assert emulator.requests == []


def test_adapters_warn_once(adapter: Callable[..., tuple[Any, Any]], call: Callable[..., Any]) -> None:
    """By default a document that is too long is sent, and a warning given, for all calls together."""
    documents, query = adapter()
    with pytest.warns(UserWarning, match=re.escape(MODEL)) as caught:
        _ = call(documents, [SHORT, LONG]), call(query, LONGER)
    assert len(caught) == 1
