"""The emulator's front page over HTTP: what it sends, what it tells, what it keeps to itself. More in tests/browser."""

import base64
import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import requests

from opensearch_embed.emulator import NOTICE, Emulator

KEY = "OS-The-Key-Of-The-Emulator"
FIRST_DOOR = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"
SECOND_DOOR = "/compatible-mode/v1/embeddings"

Ask = Callable[..., requests.Response]


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator whose key is easy to search for."""
    with Emulator(api_key=KEY) as running:
        yield running


@pytest.fixture
def ask(server: Emulator) -> Ask:
    """Ask for something of the page: `ask("GET", "/status")`."""
    return lambda method, path, **sent: requests.request(method, server.url + path, timeout=5, **sent)


def embed(server: Emulator, body: Any, path: str = FIRST_DOOR, key: str = KEY) -> None:
    """Send a request to the service."""
    with contextlib.suppress(requests.RequestException):
        requests.post(server.url + path, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=5)


# --- the page ---


def test_the_page_is_whole_and_says_what_it_is(ask: Ask) -> None:
    """One HTML page with the notice, and no address in it but namespaces and this machine's."""
    response = ask("GET", "/")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert NOTICE in response.text
    addresses = set(re.findall(r"\b[a-z]+://[^/\s'\"<)]+", response.text))
    assert addresses == {"http://www.w3.org", "http://127.0.0.1:8080"}
    assert set(re.findall(r"(?:src|href)=(?!\"#|\"data:)(\S+)", response.text)) == set()


def test_the_page_may_run_its_own_script_alone(ask: Ask) -> None:
    """The policy names the page's one script and one style by their hashes, and lets it ask nobody but the emulator."""
    response = ask("GET", "/")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    for name in ("script", "style"):
        (source,) = re.findall(rf"<{name}>(.*?)</{name}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert policy.pop(f"{name}-src") == f"'sha256-{digest}'"
    assert (policy.pop("connect-src"), policy.pop("img-src")) == ("'self'", "data:")
    assert policy.pop("default-src") == "'none'"
    assert set(policy.values()) == {"'none'"}
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_head_of_the_page_has_no_body(ask: Ask) -> None:
    """HEAD is answered as GET is, but for the page."""
    response = ask("HEAD", "/")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["Content-Length"]) > 1000


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("POST", "/status"), ("GET", "/similarities")])
def test_other_methods_are_the_services(server: Emulator, ask: Ask, method: str, path: str) -> None:
    """They get a gateway's 404, as ever, and are recorded."""
    assert ask(method, path).status_code == 404
    assert [record.path for record in server.requests] == [path]


# --- who may look ---


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/status"), ("POST", "/similarities")])
@pytest.mark.parametrize("host", ["rebound.example", "127.0.0.1.example:8080", "localhost.example", "", "[", "a b"])
def test_a_site_with_a_name_of_its_own_sees_nothing(ask: Ask, method: str, path: str, host: str) -> None:
    """Who gives this machine's address a name of theirs gets no page, and no figures."""
    response = ask(method, path, headers={"Host": host}, json={"texts": ["tea", "茶"]})
    assert response.status_code == 421
    assert response.json().keys() == {"message"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080", "192.168.0.7:80"])
def test_an_address_is_nobodys_name(ask: Ask, host: str) -> None:
    """The page is shown where the browser asked for an address, or for localhost."""
    assert ask("GET", "/status", headers={"Host": host}).status_code == 200


def test_the_service_has_any_name(server: Emulator) -> None:
    """Clients may call the service as they like: it asks for the key."""
    headers = {"Host": "service.example", "Authorization": f"Bearer {KEY}"}
    response = requests.post(server.url + FIRST_DOOR, json={"input": "tea"}, headers=headers, timeout=5)
    assert response.status_code == 200


# --- figures ---


def test_status_of_a_quiet_emulator(ask: Ask) -> None:
    """Nothing has happened; what it is, is said."""
    status = ask("GET", "/status").json()
    assert (status["vectors"], status["qps"], status["rate"], status["latest"]) == ("lexical", None, 0, [])
    assert status["totals"] == {"requests": 0, "texts": 0, "tokens": 0, "refused": 0, "failed": 0}
    assert status["seconds"] == [[0, 0, 0]] * 60


def test_status_tells_what_became_of_requests(server: Emulator, ask: Ask) -> None:
    """Answered, refused and failed ones are counted, in the totals and by the second."""
    server.fail_next(429, times=2)
    server.fail_next(500)
    server.break_next("drop")
    for _ in range(7):
        embed(server, {"input": ["tea", "茶"]})
    embed(server, {"input": ""})
    status = ask("GET", "/status").json()
    assert status["totals"] == {"requests": 8, "texts": 6, "tokens": 6, "refused": 2, "failed": 3}
    assert np.array(status["seconds"]).sum(axis=0).tolist() == [3, 2, 3]
    assert status["rate"] > 0
    assert [line["status"] for line in status["latest"]] == [400, 200, 200, 200, "drop", 500, 429, 429]


def test_status_lists_requests_in_short(server: Emulator, ask: Ask) -> None:
    """The newest first: when, path, role, how many texts, the first of them cut short, status and time."""
    embed(server, {"input": ["x" * 5000, "tea"], "input_type": "query"})
    embed(server, {"model": "ops-text-embedding-002", "input": "<b>tea</b>"}, SECOND_DOOR)
    embed(server, ["no object"])
    embed(server, {"input": 7, "input_type": ["y" * 5000]}, f"{FIRST_DOOR}?{'z' * 5000}")
    status = ask("GET", "/status").json()
    odd, listed, second, first = status["latest"]
    assert (first["method"], first["path"], first["role"], first["texts"]) == ("POST", FIRST_DOOR, "query", 2)
    assert first["text"] == "x" * 59 + "…"
    assert abs(first["time"] - status["time"]) < 60
    assert 0 <= first["ms"] < 5000
    assert (second["path"], second["role"], second["text"]) == (SECOND_DOOR, "document", "<b>tea</b>")
    assert (listed["role"], listed["texts"], listed["text"], listed["status"]) == ("", 0, "", 400)
    assert (odd["texts"], len(odd["path"])) == (0, 120)
    assert len(odd["role"]) == 12


def test_status_keeps_no_more_than_twenty(server: Emulator, ask: Ask) -> None:
    """Older requests are forgotten here; the totals go on."""
    for number in range(25):
        embed(server, {"input": f"text {number}"})
    status = ask("GET", "/status").json()
    assert [line["text"] for line in status["latest"]] == [f"text {number}" for number in range(24, 4, -1)]
    assert status["totals"]["requests"] == 25


def test_status_shows_the_latency_and_the_quota() -> None:
    """A request took as long as its client waited; a break has no such time."""
    with Emulator(api_key=KEY, latency_ms=30, qps=7) as server:
        server.break_next("cut")
        embed(server, {"input": "tea"})
        embed(server, {"input": "tea"})
        status = requests.get(f"{server.url}/status", timeout=5).json()
    assert status["qps"] == 7
    assert status["latest"][1]["ms"] is None
    assert status["latest"][0]["ms"] >= 30


def test_reset_forgets_the_figures(server: Emulator, ask: Ask) -> None:
    """After `reset`, the page begins anew."""
    embed(server, {"input": "tea"})
    server.reset()
    status = ask("GET", "/status").json()
    assert (status["totals"]["requests"], status["latest"], status["rate"]) == (0, [], 0)


def test_no_key_is_anywhere(server: Emulator, ask: Ask) -> None:
    """Neither the right key nor a wrong one, wherever a request had it: not even a part, where a text is cut."""
    for key in (KEY, KEY.lower(), "OS-somebodys-real-key"):
        embed(server, {"input": ["x" * 50 + key], "input_type": key}, f"{FIRST_DOOR}?key={key}", key=key)
    seen = " ".join(ask("GET", path).text for path in ("/", "/status"))
    assert "os-the" not in seen.lower()
    assert "os-some" not in seen.lower()
    assert "***" in seen


def test_the_page_counts_nowhere() -> None:
    """Looking at it uses up no quota and no fault, waits for no latency, and is no request."""
    with Emulator(api_key=KEY, qps=0.001, latency_ms=60_000) as server:
        server.fail_next(503)
        for path in ("/", "/status"):
            assert requests.get(server.url + path, timeout=5).status_code == 200
        sent = {"texts": ["tea", "茶"]}
        assert requests.post(f"{server.url}/similarities", json=sent, timeout=5).status_code == 200
        assert (server.requests, server.usage.requests, server.max_in_flight) == ([], 0, 0)
        assert server.usage.outcomes == {}
