"""The emulator over real sockets: what it answers, and what it refuses."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import trustme

from opensearch_embed.emulator import Emulator
from opensearch_embed.models import MODELS

PATH = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"
HEADERS = {"Authorization": "Bearer OS-local", "Content-Type": "application/json"}

Post = Callable[..., requests.Response]


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator with default settings."""
    with Emulator() as running:
        yield running


@pytest.fixture
def post(server: Emulator) -> Iterator[Post]:
    """Send one request to `server`: a good one, unless said otherwise."""
    with requests.Session() as session:
        session.trust_env = False
        good: dict[str, Any] = {"method": "POST", "url": server.url + PATH, "headers": HEADERS, "timeout": 5}
        yield lambda **changes: session.request(**good | changes)


def vectors_of(response: requests.Response) -> list[list[float]]:
    """The vectors of an answer, by index."""
    embeddings = sorted(response.json()["result"]["embeddings"], key=lambda item: item["index"])
    return [item["embedding"] for item in embeddings]


def test_an_answer_has_the_documented_shape(post: Post) -> None:
    """A good request is answered with request id, latency, token count, and one indexed vector a text."""
    response = post(json={"input": ["tea", "茶"], "input_type": "document"})
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert set(answer) == {"request_id", "latency", "usage", "result"}
    assert answer["latency"] >= 0
    assert answer["usage"] == {"token_count": 2}
    assert [item["index"] for item in answer["result"]["embeddings"]] == [0, 1]
    assert {len(vector) for vector in vectors_of(response)} == {1024}


@pytest.mark.parametrize("input_type", ["document", "query"])
@pytest.mark.parametrize("model", MODELS)
def test_the_oracle_is_what_the_server_sends(server: Emulator, post: Post, model: str, input_type: Any) -> None:
    """`vector` equals the parsed answer to the last bit, for every model and role, in float32 values."""
    url = server.url + PATH.replace("ops-text-embedding-002", model)
    vectors = vectors_of(post(url=url, json={"input": ["tea", "喝茶 🍵"], "input_type": input_type}))
    assert vectors == [server.vector(text, input_type, model) for text in ("tea", "喝茶 🍵")]
    assert np.array_equal(np.array(vectors), np.array(vectors, dtype=np.float32))
    assert len(vectors[0]) == MODELS[model].dimension


def test_a_single_string_is_one_document(server: Emulator, post: Post) -> None:
    """`input` may be a bare string, and `input_type` defaults to document."""
    assert vectors_of(post(json={"input": "tea"})) == [server.vector("tea", "document")]


def test_thirty_two_texts_are_allowed(post: Post) -> None:
    """The documented maximum of texts is itself allowed."""
    assert len(vectors_of(post(json={"input": ["tea"] * 32}))) == 32


def test_shuffled_answers_keep_each_index_with_its_vector() -> None:
    """With `shuffle`, vectors come out of order, each with the index of its text, and alike in every run."""
    texts, orders = [f"text {number}" for number in range(32)], []
    for _ in range(2):
        with Emulator(shuffle=True) as server:
            response = requests.post(server.url + PATH, json={"input": texts}, headers=HEADERS, timeout=5)
            orders.append([item["index"] for item in response.json()["result"]["embeddings"]])
            assert vectors_of(response) == [server.vector(text) for text in texts]
    assert orders[0] == orders[1] != sorted(orders[0])


@pytest.mark.parametrize(
    ("changes", "status", "code", "message"),
    [
        ({"json": {"input": []}}, 400, "InvalidParameter", "1 to 32"),
        ({"json": {"input": ["tea"] * 33}}, 400, "InvalidParameter", "not 33"),
        ({"json": {"input": ["tea", ""]}}, 400, "InvalidParameter", "input[1] must not be an empty string"),
        ({"json": {"input": ""}}, 400, "InvalidParameter", "empty string"),
        ({"json": {"input": ["tea", 1]}}, 400, "InvalidParameter", "array of strings"),
        ({"json": {"input": None}}, 400, "InvalidParameter", "array of strings"),
        ({"json": {}}, 400, "InvalidParameter", "array of strings"),
        ({"json": {"input": "tea", "input_type": "passage"}}, 400, "InvalidParameter", "document, query"),
        ({"json": {"input": "tea", "input_type": ["query"]}}, 400, "InvalidParameter", "document, query"),
        ({"json": {"input": "tea", "dimension": 8}}, 400, "InvalidParameter", "Unknown parameters: dimension"),
        ({"json": ["tea"]}, 400, "InvalidParameter", "JSON object"),
        ({"data": b'{"input": "tea'}, 400, "InvalidParameter", "JSON object"),
        ({"data": b'{"input": "\xff"}'}, 400, "InvalidParameter", "JSON object"),
        ({"data": b'{"input": "\\ud800"}'}, 400, "InvalidParameter", "JSON object"),
        ({"headers": HEADERS | {"Content-Type": "text/plain"}}, 400, "InvalidParameter", "application/json"),
        ({"headers": HEADERS | {"Authorization": "Bearer OS-other"}}, 401, "Unauthorized", "Authorization"),
        ({"headers": HEADERS | {"Authorization": "OS-local"}}, 401, "Unauthorized", "Authorization"),
        ({"headers": {"Content-Type": "application/json"}}, 401, "Unauthorized", "Authorization"),
    ],
)
def test_a_breach_of_the_documented_rules_is_refused(
    post: Post, changes: dict[str, Any], status: int, code: str, message: str
) -> None:
    """Each rule of the documentation has its refusal, in the documented form, without any key."""
    response = post(**({"json": {"input": "tea"}} | changes))
    answer = response.json()
    assert response.status_code == status
    assert set(answer) == {"request_id", "latency", "code", "message"}
    assert answer["code"] == code
    assert message in answer["message"]
    assert "OS-" not in response.text


def test_an_unknown_service_id_is_named(server: Emulator, post: Post) -> None:
    """A service id outside the catalogue is refused with the documented code."""
    response = post(url=server.url + PATH.replace("002", "003"), json={"input": "tea"})
    assert (response.status_code, response.json()["code"]) == (400, "ServiceIdNotExist")


def test_a_model_can_be_added() -> None:
    """`models` makes a service id outside the catalogue known, with its dimension."""
    with Emulator(models={"new-model": 600}) as server:
        url = server.url + PATH.replace("ops-text-embedding-002", "new-model")
        response = requests.post(url, json={"input": "tea"}, headers=HEADERS, timeout=5)
        assert vectors_of(response) == [server.vector("tea", model="new-model")]
        assert len(server.vector("tea", model="new-model")) == 600


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 404),
        ("POST", PATH + "/", 404),
        ("POST", PATH.replace("text-embedding/", "text-sparse-embedding/"), 404),
        ("GET", PATH, 405),
    ],
)
def test_a_wrong_address_gets_a_gateways_page(
    server: Emulator, post: Post, method: str, path: str, status: int
) -> None:
    """What does not reach the service is answered with HTML, not with the service's JSON."""
    response = post(method=method, url=server.url + path, json={"input": "tea"})
    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html"
    assert response.text.startswith("<html>")


@pytest.mark.parametrize(("size", "status"), [(8_000_000, 200), (8_000_001, 413)])
def test_a_body_may_have_eight_million_bytes(post: Post, size: int, status: int) -> None:
    """The documented 8 MB are read as 8,000,000 bytes of body."""
    body = b'{"input": "tea"}'
    assert post(data=body + b" " * (size - len(body))).status_code == status


def test_requests_over_the_quota_are_throttled() -> None:
    """Beyond `qps`, the documented 429 comes, without looking at the content."""
    with Emulator(qps=0.001) as server:
        first, second = (
            requests.post(server.url + PATH, json={"input": "tea"}, headers=HEADERS, timeout=5) for _ in range(2)
        )
    assert first.status_code == 200
    assert (second.status_code, second.json()["code"]) == (429, "Throttling.RateQuota")
    assert server.usage.outcomes == {200: 1, 429: 1}


def test_latency_is_the_least_an_answer_takes() -> None:
    """With `latency_ms`, no answer comes earlier."""
    with Emulator(latency_ms=50) as server:
        response = requests.post(server.url + PATH, json={"input": "tea"}, headers=HEADERS, timeout=5)
    assert response.elapsed.total_seconds() >= 0.05


def test_it_serves_https(tmp_path: Path) -> None:
    """With a TLS context, its URL is https and its certificate is the one given."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with Emulator(tls=context) as server:
        assert server.url.startswith("https://127.0.0.1:")
        response = requests.post(
            server.url + PATH, json={"input": "tea"}, headers=HEADERS, timeout=5, verify=str(tmp_path / "ca.pem")
        )
    assert response.status_code == 200


def test_it_can_stand_in_for_a_proxy(server: Emulator, post: Post) -> None:
    """A request that a client sends through it as a proxy is answered, and its path shows the host that was meant."""
    response = post(url="http://service.invalid" + PATH, json={"input": "tea"}, proxies={"http": server.url})
    assert response.status_code == 200
    assert server.requests[0].path == "http://service.invalid" + PATH
