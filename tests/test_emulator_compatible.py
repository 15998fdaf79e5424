"""The emulator's second door, in OpenAI's form: raw requests, and LangChain's client of OpenAI."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import openai
import pytest
import requests
from langchain_openai import OpenAIEmbeddings

from opensearch_embed.emulator import Emulator

PATH = "/compatible-mode/v1/embeddings"
FIRST_DOOR = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"
KEY = "OS-emulators-key"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
MODEL = "ops-text-embedding-002"
GOOD = {"model": MODEL, "input": ["tea", "喝茶 🍵"]}

Post = Callable[..., requests.Response]


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator without limits."""
    with Emulator(api_key=KEY) as running:
        yield running


@pytest.fixture
def post(server: Emulator) -> Post:
    """Send one request to `server`: a good one, unless said otherwise."""
    good: dict[str, Any] = {"method": "POST", "url": server.url + PATH, "headers": HEADERS, "json": GOOD}
    return lambda **changes: requests.request(timeout=5, **good | changes)


# --- raw requests ---


def test_an_answer_has_openais_shape(server: Emulator, post: Post) -> None:
    """Each text has an item with its index and the vector that the first door gives a document of it."""
    response = post()
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": server.vector(text, "document")}
            for index, text in enumerate(GOOD["input"])
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert (server.usage.texts, server.usage.tokens, server.usage.outcomes) == (2, 4, {200: 1})


def test_a_single_string_is_one_text(server: Emulator, post: Post) -> None:
    """`input` may be a bare string."""
    (item,) = post(json=GOOD | {"input": "tea"}).json()["data"]
    assert item["embedding"] == server.vector("tea")


def test_base64_holds_the_same_numbers(server: Emulator, post: Post) -> None:
    """With `encoding_format` base64, a vector is its float32 numbers' bytes, the lowest first."""
    items = post(json=GOOD | {"encoding_format": "base64"}).json()["data"]
    vectors = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist() for item in items]
    assert vectors == [server.vector(text) for text in GOOD["input"]]


@pytest.mark.parametrize(
    ("changes", "status", "code", "message"),
    [
        ({"json": GOOD | {"input": ["tea"] * 33}}, 400, "InvalidParameter", "not 33"),
        ({"json": GOOD | {"input": []}}, 400, "InvalidParameter", "1 to 32"),
        ({"json": GOOD | {"input": ["tea", ""]}}, 400, "InvalidParameter", "input[1] must not be an empty string"),
        ({"json": GOOD | {"input": [[3, 7]]}}, 400, "InvalidParameter", "array of strings"),  # OpenAI's tokens
        ({"json": {"model": MODEL}}, 400, "InvalidParameter", "array of strings"),
        ({"json": {"input": "tea"}}, 400, "InvalidParameter", "model must be a service id"),
        ({"json": GOOD | {"model": "text-embedding-3-small"}}, 400, "ServiceIdNotExist", "text-embedding-3-small"),
        ({"json": GOOD | {"model": "ops-qwen3-embedding-0.6b"}}, 400, "ServiceIdNotExist", "ops-qwen3"),
        ({"json": GOOD | {"input_type": "query"}}, 400, "InvalidParameter", "Unknown parameters: input_type"),
        ({"json": GOOD | {"dimensions": 256}}, 400, "InvalidParameter", "Unknown parameters: dimensions"),
        ({"json": GOOD | {"encoding_format": "hex"}}, 400, "InvalidParameter", "float or base64"),
        ({"json": ["tea"]}, 400, "InvalidParameter", "JSON object"),
        ({"headers": HEADERS | {"Content-Type": "text/plain"}}, 400, "InvalidParameter", "application/json"),
        ({"headers": HEADERS | {"Authorization": "Bearer OS-other"}}, 401, "Unauthorized", "Authorization"),
    ],
)
def test_a_breach_of_the_rules_is_refused_in_openais_form(
    post: Post, changes: dict[str, Any], status: int, code: str, message: str
) -> None:
    """The same rules as the first door's, and no key in what is said."""
    response = post(**changes)
    error = response.json()["error"]
    assert response.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert message in error["message"]
    assert "OS-" not in response.text


def test_only_posts_reach_it(post: Post) -> None:
    """Another method gets a gateway's page."""
    response = post(method="GET")
    assert (response.status_code, response.headers["Content-Type"]) == (405, "text/html")


def test_a_model_can_be_added() -> None:
    """`models` makes a service id known at this door, too."""
    with Emulator(api_key=KEY, models={"new-model": 600}) as server:
        body = {"model": "new-model", "input": "tea"}
        (item,) = requests.post(server.url + PATH, json=body, headers=HEADERS, timeout=5).json()["data"]
        assert item["embedding"] == server.vector("tea", model="new-model")


def test_both_doors_share_one_quota_and_one_journal() -> None:
    """What came in at one of them counts at the other, and each refuses in its own form."""
    with Emulator(api_key=KEY, qps=0.001) as server:
        first, refused, second = (
            requests.post(server.url + path, json=body, headers=HEADERS, timeout=5)
            for path, body in ((FIRST_DOOR, {"input": "tea"}), (PATH, GOOD), (FIRST_DOOR, {"input": "tea"}))
        )
    error = refused.json()["error"]
    assert (first.status_code, second.json()["code"]) == (200, "Throttling.RateQuota")
    assert (refused.status_code, error["code"], error["type"]) == (429, "Throttling.RateQuota", "rate_limit_error")
    assert [record.path for record in server.requests] == [FIRST_DOOR, PATH, FIRST_DOOR]
    assert server.requests[1].body == GOOD
    assert server.requests[1].headers["authorization"] == "Bearer ***"


# --- faults ---


def test_failures_come_in_openais_form(server: Emulator, post: Post) -> None:
    """A failure with a code is said in OpenAI's form, its headers kept; a body that was given is sent as it is."""
    server.fail_next(429, message="Slow down.", retry_after=3)
    server.fail_next(500)
    server.fail_next(502)
    server.fail_next(400, body='{"code": "Mine", "message": "as it is"}')
    slow, broken, page, mine = (post() for _ in range(4))
    assert slow.json()["error"]["message"] == "Slow down."
    assert (slow.status_code, slow.headers["Retry-After"]) == (429, "3")
    assert (broken.status_code, broken.json()["error"]["type"]) == (500, "server_error")
    assert (page.status_code, page.headers["Content-Type"]) == (502, "text/html")
    assert mine.json() == {"code": "Mine", "message": "as it is"}


def test_breaks_are_done_here_too(server: Emulator, post: Post) -> None:
    """A short answer lacks a vector, a garbled one half of its JSON, a dropped one all."""
    for kind in ("short", "garbled", "drop"):
        server.break_next(kind)
    assert [item["index"] for item in post().json()["data"]] == [0]
    with pytest.raises(requests.exceptions.JSONDecodeError):
        post().json()
    with pytest.raises(requests.ConnectionError):
        post()
    assert server.usage.outcomes == {"short": 1, "garbled": 1, "drop": 1}


# --- LangChain's client of OpenAI ---


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, server: Emulator) -> Callable[..., Any]:
    """Call a method of LangChain's client of OpenAI, made as people point it at the service."""

    async def ask_async(method: str, given: Any, settings: dict[str, Any]) -> Any:
        async with openai.DefaultAsyncHttpxClient() as http:
            return await getattr(OpenAIEmbeddings(http_async_client=http, **settings), f"a{method}")(given)

    def invoke(method: str, given: Any, **changes: Any) -> Any:
        settings: dict[str, Any] = {
            "base_url": server.url + "/compatible-mode/v1",
            "api_key": KEY,
            "model": MODEL,
            "check_embedding_ctx_length": False,
            "chunk_size": 32,
            "max_retries": 0,
        } | changes
        if request.param == "async":
            return asyncio.run(ask_async(method, given, settings))
        with openai.DefaultHttpxClient() as http:
            return getattr(OpenAIEmbeddings(http_client=http, **settings), method)(given)

    return invoke


def test_openais_client_gets_the_first_doors_vectors(server: Emulator, ask: Callable[..., Any]) -> None:
    """Vectors equal a document's at the first door, to the last bit, over several requests of 32 texts."""
    texts = [f"text {number}" for number in range(70)]
    assert ask("embed_documents", texts) == [server.vector(text, "document") for text in texts]
    assert [len(record.body["input"]) for record in server.requests] == [32, 32, 6]


def test_openais_client_embeds_a_query_as_a_document(server: Emulator, ask: Callable[..., Any]) -> None:
    """There is no role here: that is what users of this door lose."""
    assert ask("embed_query", "tea") == server.vector("tea", "document") != server.vector("tea", "query")


def test_openais_own_batches_are_refused(server: Emulator, ask: Callable[..., Any]) -> None:
    """With a chunk of 1,000, as OpenAI takes them, nothing is embedded."""
    with pytest.raises(openai.BadRequestError, match="1 to 32 strings, not 1000"):
        ask("embed_documents", ["tea"] * 1000, chunk_size=1000)
    assert server.usage.texts == 0


def test_openais_client_sees_a_wrong_key(ask: Callable[..., Any]) -> None:
    """It is the error that its users know."""
    with pytest.raises(openai.AuthenticationError) as caught:
        ask("embed_documents", ["tea"], api_key="OS-other")
    assert (caught.value.code, caught.value.type) == ("Unauthorized", "invalid_request_error")


def test_openais_client_sees_the_quota(server: Emulator, ask: Callable[..., Any]) -> None:
    """A 429 is its RateLimitError; with a retry, it waits and goes on."""
    server.fail_next(429)
    with pytest.raises(openai.RateLimitError, match="please try again later") as caught:
        ask("embed_documents", ["tea"])
    assert (caught.value.code, caught.value.type) == ("Throttling.RateQuota", "rate_limit_error")
    server.fail_next(429, retry_after=0.01)
    assert ask("embed_documents", ["tea"], max_retries=1) == [server.vector("tea")]
