"""A request is refused, perhaps for one text in it: which texts are named, which are embedded, and at what price."""

import asyncio
import math
import pickle
import random
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pytest
from interfaces import INTERFACES, settings_for
from servers import DIMENSION, Action, Connection, RawRequest, RawServer, honest, refuse, reply, vector

from opensearch_embed import ApiError, AuthenticationError, ConfigurationError, EmbeddingClient, InvalidRequest

BATCH = 32
PRICE = 2 * math.log2(BATCH)
"""Extra requests for each refused text, at most."""

PLACES = {
    "first": [0],
    "last": [99],
    "ends of a request": [31, 32],
    "neighbours": [40, 41],
    "many requests": [5, 40, 41, 77, 99],
    "a whole request": list(range(32, 64)),
    "all but one": [place for place in range(100) if place != 50],
    "all": list(range(100)),
}


def texts_with(bad: Collection[int], count: int = 100) -> list[str]:
    """Return texts of which those at these places are refused."""
    return [f"{'poison' if place in bad else 'text'} {place}" for place in range(count)]


def refusing(action: Action) -> Action:
    """Answer requests with poison in them so, and all others honestly."""

    def act(connection: Connection, request: RawRequest) -> None:
        bad = any("poison" in text for text in request.json["input"])
        (action if bad else honest)(connection, request)

    return act


REFUSAL = refuse(400, "InvalidParameter", "The text is not acceptable.")


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that refuses requests with poison in them."""
    with RawServer(default=refusing(REFUSAL)) as running:
        yield running


def texts_sent(server: RawServer) -> list[str]:
    """Return all texts that came in, as often as they came."""
    return [text for request in server.requests for text in request.json["input"]]


def check_account(error: ApiError, texts: list[str], missing: Collection[int]) -> None:
    """Check that an error has the right vectors of all texts but the missing ones."""
    assert {index: list(numbers) for index, numbers in error.completed.items()} == {
        index: vector(text) for index, text in enumerate(texts) if index not in missing
    }
    assert error.pending == sorted(missing)


# --- on_error="raise" ---


@pytest.mark.parametrize("interface", INTERFACES)
def test_raise_names_the_texts_of_the_request(interface: str, server: RawServer, call: Callable[..., Any]) -> None:
    """By default nothing more is sent after a refusal; the error names the texts that the refused request held."""
    embed = INTERFACES[interface](**settings_for(server.url, max_concurrency=1))
    texts = texts_with([40])
    with pytest.raises(InvalidRequest, match=r"texts\[32\] to texts\[63\]") as caught:
        call(embed, texts)
    assert caught.value.indices == list(range(32, 64))
    assert len(server.requests) == 2
    check_account(caught.value, texts, range(32, 100))
    assert embed.__self__.usage.refused == ()  # type: ignore[attr-defined]


def test_raise_names_repeated_texts_too(server: RawServer, call: Callable[..., Any]) -> None:
    """A text that the call repeats is named wherever it stands, though it was sent once."""
    texts = ["poison", *texts_with([], 32), "text 5", "poison"]  # the first 32 different ones are sent together
    with EmbeddingClient(**settings_for(server.url, max_concurrency=1)) as client:
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts)
        assert caught.value.indices == [*range(32), 33, 34]
        assert len(server.requests) == 1


def test_raise_names_nothing_where_no_request_was_refused(call: Callable[..., Any]) -> None:
    """An error that is not about texts names none."""
    with RawServer(refuse(401, "Unauthorized")) as server, EmbeddingClient(**settings_for(server.url)) as client:
        with pytest.raises(AuthenticationError) as caught:
            call(client.embed, texts_with([]))
        assert caught.value.indices == []


# --- on_error="isolate" ---


@pytest.mark.parametrize(
    ("interface", "where"),
    [*(("core", where) for where in PLACES), ("langchain", "many requests"), ("llama_index", "many requests")],
)
def test_isolate_finds_the_refused_texts(
    interface: str, where: str, server: RawServer, call: Callable[..., Any]
) -> None:
    """The error names the refused texts and they alone; all others have their vector; the price is within its bound."""
    embed = INTERFACES[interface](**settings_for(server.url, on_error="isolate"))
    bad = PLACES[where]
    texts = texts_with(bad)
    with pytest.raises(InvalidRequest, match=rf"refuses {len(bad)} of 100 texts: texts\[{bad[0]}\]") as caught:
        call(embed, texts)
    error = caught.value
    assert error.indices == bad
    check_account(error, texts, bad)
    assert (error.status, error.code, error.message) == (400, "InvalidParameter", "The text is not acceptable.")
    assert error.request_id == "R-7D1E"
    assert isinstance(error.__cause__, InvalidRequest)
    assert len(server.requests) <= math.ceil(100 / BATCH) + PRICE * len(bad)
    usage = embed.__self__.usage  # type: ignore[attr-defined]
    assert usage.refused == tuple(bad)
    assert (usage.requests, usage.texts) == (len(server.requests), 100 - len(bad))


@pytest.mark.parametrize("seed", range(6))
def test_isolate_keeps_its_price(seed: int, server: RawServer, call: Callable[..., Any]) -> None:
    """Wherever refused texts stand, each adds at most 2 log2 of the batch to the requests."""
    chance = random.Random(seed)
    count = chance.randint(1, 400)
    bad = sorted(chance.sample(range(count), chance.randint(1, min(count, 12))))
    with EmbeddingClient(**settings_for(server.url, on_error="isolate", max_concurrency=4)) as client:
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts_with(bad, count))
        assert caught.value.indices == bad
        check_account(caught.value, texts_with(bad, count), bad)
        assert len(server.requests) <= math.ceil(count / BATCH) + PRICE * len(bad)
        good = [text for text in texts_with(bad, count) if text.startswith("text")]
        assert sorted(set(texts_sent(server))) == sorted(texts_with(bad, count))
        assert client.usage.texts == len(good)


def test_isolate_asks_once_about_a_single_text(server: RawServer, call: Callable[..., Any]) -> None:
    """A request of one text that is refused is not sent again."""
    with EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client:
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, ["poison"])
        assert (caught.value.indices, caught.value.completed, caught.value.pending) == ([0], {}, [0])
        assert len(server.requests) == 1


def test_isolate_without_a_refusal_costs_nothing(server: RawServer, call: Callable[..., Any]) -> None:
    """Where nothing is refused, the result and the requests are as ever."""
    with EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client:
        assert call(client.embed, texts_with([])) == [vector(text) for text in texts_with([])]
        assert len(server.requests) == 4
        assert client.usage.refused == ()


def test_isolate_names_every_copy_of_a_refused_text(server: RawServer, call: Callable[..., Any]) -> None:
    """A refused text that the call repeats is found once, at the price of one, and named wherever it stands."""
    texts = texts_with([])
    for place in (3, 50, 98, 99):
        texts[place] = "poison"
    with EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client:
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts)
        assert caught.value.indices == [3, 50, 98, 99]
        check_account(caught.value, texts, [3, 50, 98, 99])
        assert len(server.requests) <= 4 + PRICE
        assert client.usage.refused == (3, 50, 98, 99)


def test_isolate_passes_over_empty_texts(server: RawServer, call: Callable[..., Any]) -> None:
    """Empty texts that become zeros move no index, and are completed."""
    texts = ["", *texts_with([4], 10), ""]
    with EmbeddingClient(**settings_for(server.url, on_error="isolate", empty="zero")) as client:
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts)
        assert caught.value.indices == [5]
        assert caught.value.completed[0] == caught.value.completed[11] == [0.0] * DIMENSION
        assert caught.value.pending == [5]


BISECTED = {
    "400": refuse(400, "InvalidParameter"),
    "400 of another code": refuse(400, "InvalidParameter.TextTooLong"),
    "400 without a code": refuse(400),
    "400 of a gateway": reply(400, "<html>Bad Request</html>", Content_Type="text/html"),
    "413": reply(413, "<html>Request Entity Too Large</html>", Content_Type="text/html"),
    "422": refuse(422, "Unprocessable"),
    "200 with the code": refuse(200, "InvalidParameter"),
}


@pytest.mark.parametrize("action", BISECTED.values(), ids=BISECTED)
def test_refusals_that_a_text_may_cause_are_isolated(action: Action, call: Callable[..., Any]) -> None:
    """Whatever form it has, a refusal that may be about a text leads to that text."""
    with (
        RawServer(default=refusing(action)) as server,
        EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client,
    ):
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts_with([40]))
        assert caught.value.indices == [40]
        check_account(caught.value, texts_with([40]), [40])


NOT_BISECTED = {
    "unknown service": refuse(400, "ServiceIdNotExist"),
    "unknown service, 404": refuse(404, "ServiceIdNotExist"),
    "unknown service, 200": refuse(200, "ServiceIdNotExist"),
    "401": refuse(401, "Unauthorized"),
    "403": refuse(403, "Forbidden"),
    "404": reply(404, "<html>Not Found</html>", Content_Type="text/html"),
    "405": refuse(405, "MethodNotAllowed"),
    "415": refuse(415, "UnsupportedMediaType"),
    "free quota": refuse(429, "Throttling.AllocationQuota", "The free quota is used up."),
    "redirect": reply(302, Location="http://127.0.0.1/"),
}


@pytest.mark.parametrize("on_error", ["isolate", "skip"])
@pytest.mark.parametrize("action", NOT_BISECTED.values(), ids=NOT_BISECTED)
def test_refusals_that_no_text_causes_are_not_isolated(action: Action, on_error: str, call: Callable[..., Any]) -> None:
    """What no text can be blamed for stops the call at once, whatever `on_error` says; no text is called refused."""
    with (
        RawServer(honest, default=action) as server,
        EmbeddingClient(**settings_for(server.url, on_error=on_error, max_concurrency=1)) as client,
    ):
        with pytest.raises(ApiError) as caught:
            call(client.embed_array, texts_with([]))
        assert len(server.requests) == 2
        check_account(caught.value, texts_with([]), range(32, 100))
        assert client.usage.refused == ()


@pytest.mark.parametrize("on_error", ["isolate", "skip"])
def test_another_error_in_mid_search_stops_it(on_error: str, call: Callable[..., Any]) -> None:
    """When the key is withdrawn while refused texts are being found, that is the error, with an exact account."""
    script = [refusing(REFUSAL)] * 5
    with (
        RawServer(*script, default=refuse(401, "Unauthorized")) as server,
        EmbeddingClient(**settings_for(server.url, on_error=on_error, max_concurrency=1)) as client,
    ):
        texts = texts_with([0, 40])
        with pytest.raises(AuthenticationError) as caught:
            call(client.embed, texts)
        assert len(server.requests) == 6
        error = caught.value
        assert sorted([*error.completed, *error.pending]) == list(range(100))
        assert all(numbers == vector(texts[index]) for index, numbers in error.completed.items())
        assert {0, 40} <= set(error.pending)


def test_passing_faults_do_not_disturb_the_search(call: Callable[..., Any]) -> None:
    """Faults that go by are tried again while refused texts are being found."""
    fault = refuse(500, "InternalServerError", Retry_After="0")
    script = [refusing(REFUSAL), fault, refusing(REFUSAL), fault, fault, refusing(REFUSAL), fault]
    with (
        RawServer(*script, default=refusing(REFUSAL)) as server,
        EmbeddingClient(**settings_for(server.url, on_error="isolate", max_concurrency=2)) as client,
    ):
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts_with([7, 80]))
        assert caught.value.indices == [7, 80]
        check_account(caught.value, texts_with([7, 80]), [7, 80])
        assert client.usage.retries == 4


def test_the_error_survives_a_pickle(server: RawServer) -> None:
    """What was found travels between processes."""
    with EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client:
        with pytest.raises(InvalidRequest) as caught:
            client.embed(texts_with([7]))
        again = pickle.loads(pickle.dumps(caught.value))
    assert (again.indices, again.pending, again.status) == ([7], [7], 400)
    check_account(again, texts_with([7]), [7])


def test_a_query_is_isolated_like_a_document(server: RawServer, call: Callable[..., Any]) -> None:
    """The role stays what it was while refused texts are being found."""
    with EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client:
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts_with([7]), "query")
        assert caught.value.completed[8] == vector("text 8", "query")
        assert {request.json["input_type"] for request in server.requests} == {"query"}


# --- on_error="skip" ---


@pytest.mark.parametrize("bad", PLACES.values(), ids=PLACES)
def test_skip_leaves_rows_of_nan(bad: list[int], server: RawServer, call: Callable[..., Any]) -> None:
    """Arrays have a row of NaN for each refused text, all other rows are right, and usage tells which they are."""
    texts = texts_with(bad)
    with EmbeddingClient(**settings_for(server.url, on_error="skip")) as client:
        rows = call(client.embed_array, texts)
        assert client.usage.refused == tuple(bad)
        assert len(server.requests) <= math.ceil(100 / BATCH) + PRICE * len(bad)
    assert (rows.shape, rows.dtype) == ((100, DIMENSION), np.float32)
    assert np.flatnonzero(np.isnan(rows).any(axis=1)).tolist() == bad
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == bad
    good = [place for place in range(100) if place not in bad]
    assert rows[good].tolist() == [vector(texts[place]) for place in good]


def test_skip_leaves_a_row_for_every_copy(server: RawServer, call: Callable[..., Any]) -> None:
    """A refused text that the call repeats has its row of NaN wherever it stands."""
    with EmbeddingClient(**settings_for(server.url, on_error="skip")) as client:
        rows = call(client.embed_array, ["poison", "tea", "poison", "tea"])
        assert np.isnan(rows).all(axis=1).tolist() == [True, False, True, False]
        assert client.usage.refused == (0, 2)
        assert rows[[1, 3]].tolist() == [vector("tea")] * 2


def test_skip_raises_where_the_result_cannot_show_it(server: RawServer, call: Callable[..., Any]) -> None:
    """A list of vectors has no room for a refused text: there `"skip"` raises what `"isolate"` does."""
    with EmbeddingClient(**settings_for(server.url, on_error="skip")) as client:
        with pytest.raises(InvalidRequest) as caught:
            call(client.embed, texts_with([40, 99]))
        assert caught.value.indices == [40, 99]
        check_account(caught.value, texts_with([40, 99]), [40, 99])


@pytest.mark.parametrize("interface", ["langchain", "llama_index"])
def test_the_adapters_refuse_skip(interface: str, server: RawServer) -> None:
    """Their results are lists of vectors alone, so `"skip"` could never skip: the error says what to use."""
    with pytest.raises(ConfigurationError, match="on_error: 'skip'") as caught:
        INTERFACES[interface](**settings_for(server.url, on_error="skip"))
    for words in ("'isolate'", "completed", "embed_array", "iter_embed"):
        assert words in str(caught.value)


def test_usage_tells_the_refused_texts_call_after_call(server: RawServer, call: Callable[..., Any]) -> None:
    """`usage.refused` goes on from call to call, each with its own indices."""
    with EmbeddingClient(**settings_for(server.url, on_error="skip")) as client:
        for bad in ([3, 4], [], [0]):
            call(client.embed_array, texts_with(bad, 10))
        assert client.usage.refused == (3, 4, 0)


def test_progress_counts_refused_texts(
    server: RawServer, call: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar comes to its end: a refused text is done."""
    with EmbeddingClient(**settings_for(server.url, on_error="skip")) as client:
        call(client.embed_array, texts_with([3, 40]), progress=True)
    assert "100/100" in capsys.readouterr().err


# --- the adapters ---


def test_langchain_names_a_refused_query(server: RawServer, call: Callable[..., Any]) -> None:
    """A single query that is refused raises, whatever `on_error` says."""
    from langchain_opensearch_embed import OpenSearchEmbeddings

    for on_error in ("raise", "isolate"):
        embeddings = OpenSearchEmbeddings(**settings_for(server.url, on_error=on_error))
        with pytest.raises(InvalidRequest) as caught:
            call(embeddings.embed_query, "poison")
        assert caught.value.indices == [0]


def llama_index(url: str, **settings: Any) -> Any:
    """Return LlamaIndex's embedding with a cache of the framework's own."""
    from llama_index.core.storage.kvstore import SimpleKVStore

    from llama_index_opensearch_embed import OpenSearchEmbedding

    others = settings_for(url, **settings)
    return OpenSearchEmbedding(model_name=others.pop("model"), embeddings_cache=SimpleKVStore(), **others)


@pytest.mark.parametrize(("on_error", "indices"), [("raise", [2, 3]), ("isolate", [3])])
def test_llama_index_names_texts_by_their_place_in_the_batch(
    on_error: str, indices: list[int], server: RawServer, call: Callable[..., Any]
) -> None:
    """With the framework's cache, which holds a part of the batch, `indices` and the message count in the whole."""
    embedding = llama_index(server.url, on_error=on_error)
    call(embedding.get_text_embedding_batch, ["text 0", "text 1"])
    with pytest.raises(InvalidRequest) as caught:
        call(embedding.get_text_embedding_batch, texts_with([3], 4))
    assert caught.value.pending == indices
    assert caught.value.indices == indices
    assert "texts[3]" in str(caught.value)
    assert "texts[1]" not in str(caught.value)


async def test_calls_at_once_do_not_mix_their_refusals(server: RawServer) -> None:
    """Calls that run at the same time each name their own refused texts."""
    async with EmbeddingClient(**settings_for(server.url, on_error="isolate")) as client:
        calls = (client.aembed(texts_with([place])) for place in range(0, 100, 9))
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [error.indices for error in errors] == [[place] for place in range(0, 100, 9)]  # type: ignore[union-attr]
