"""The emulator told to fail: scripted answers, broken connections, chance, and how it starts and stops."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from urllib3.exceptions import ProtocolError

from opensearch_embed.emulator import Emulator

PATH = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"
HEADERS = {"Authorization": "Bearer OS-local"}


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator with default settings."""
    with Emulator() as running:
        yield running


def send(server: Emulator, timeout: float = 5, **options: Any) -> requests.Response:
    """Send one good request, on a connection of its own."""
    body = {"input": ["tea", "茶"]}
    return requests.post(server.url + PATH, json=body, headers=HEADERS, timeout=timeout, **options)


# --- scripted answers ---


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, None, "InvalidParameter"),
        (429, None, "Throttling.RateQuota"),
        (429, "Throttling.AllocationQuota", "Throttling.AllocationQuota"),
        (500, None, "InternalServerError"),
        (200, "Throttling.RateQuota", "Throttling.RateQuota"),
        (418, "Teapot", "Teapot"),
    ],
)
def test_a_failure_has_the_services_form(server: Emulator, status: int, code: str | None, expected: str) -> None:
    """A documented status, or any status with a code, is answered in the documented form."""
    server.fail_next(status, code=code)
    response = send(server)
    assert response.status_code == status
    assert set(response.json()) == {"request_id", "latency", "code", "message"}
    assert response.json()["code"] == expected


@pytest.mark.parametrize("status", [302, 401, 403, 404, 413, 502, 503, 504, 599])
def test_a_failure_before_the_service_is_a_page(server: Emulator, status: int) -> None:
    """A status whose body is not documented gets a gateway's HTML."""
    server.fail_next(status)
    response = send(server, allow_redirects=False)
    assert response.status_code == status
    assert response.text.startswith(f"<html>\n<head><title>{status}")


@pytest.mark.parametrize(
    ("body", "content", "content_type"),
    [
        ("<html>…", "<html>…".encode(), "text/html"),
        (b'{"code": 1}', b'{"code": 1}', "application/json"),
        ("", b"", "application/json"),
    ],
)
def test_a_body_is_sent_as_it_is(server: Emulator, body: str | bytes, content: bytes, content_type: str) -> None:
    """A scripted body is not touched; its content type is guessed."""
    server.fail_next(502, body=body)
    response = send(server)
    assert (response.content, response.headers["Content-Type"]) == (content, content_type)


@pytest.mark.parametrize(
    ("given", "sent"), [(3, "3"), (0.2, "0.2"), ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT")]
)
def test_retry_after_is_seconds_or_any_text(server: Emulator, given: float | str, sent: str) -> None:
    """`retry_after` becomes the header, numbers as they are and texts untouched."""
    server.fail_next(429, retry_after=given)
    assert send(server).headers["Retry-After"] == sent


def test_headers_and_message_can_be_said(server: Emulator) -> None:
    """Further headers are added, usual ones replaced whatever their case, and the message is the one given."""
    server.fail_next(429, message="Slow down.", headers={"content-type": "text/plain", "X-Trace": "7"})
    response = send(server)
    assert (response.headers["Content-Type"], response.headers["X-Trace"]) == ("text/plain", "7")
    assert json.loads(response.content)["message"] == "Slow down."


def test_faults_come_in_the_order_they_were_asked_for(server: Emulator) -> None:
    """Failures and breaks share one queue; after it, answers are honest again."""
    server.fail_next(429, times=2)
    server.break_next("short")
    server.fail_next(503)
    answers = [send(server) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [429, 429, 200, 503, 200]
    assert [len(answers[place].json()["result"]["embeddings"]) for place in (2, 4)] == [1, 2]


def test_a_fault_is_used_up_by_any_request(server: Emulator) -> None:
    """A failure does not look at its request: one with a wrong key gets it too."""
    server.fail_next(500)
    assert requests.post(server.url + PATH, timeout=5).status_code == 500


# --- broken connections ---


def test_drop_closes_before_any_answer(server: Emulator) -> None:
    """A dropped connection brings no status line."""
    server.break_next("drop")
    with pytest.raises(requests.ConnectionError, match="without response"):
        send(server)


def test_cut_ends_within_the_body(server: Emulator) -> None:
    """A cut answer promises its whole length, and ends after half of it."""
    server.break_next("cut")
    with send(server, stream=True) as response:
        assert response.status_code == 200
        promised = int(response.headers["Content-Length"])
        with pytest.raises(
            ProtocolError, match=f"{promised // 2} bytes read, {promised - promised // 2} more expected"
        ):
            response.raw.read()


def test_garbled_is_a_whole_answer_of_broken_json(server: Emulator) -> None:
    """A garbled answer is complete as HTTP, and no JSON."""
    server.break_next("garbled")
    response = send(server)
    assert response.status_code == 200
    assert response.content.startswith(b'{"request_id":')
    with pytest.raises(requests.exceptions.JSONDecodeError):
        response.json()


def test_hang_ends_when_the_client_leaves(server: Emulator) -> None:
    """A hanging request is never answered; others meanwhile are."""
    server.break_next("hang")
    with pytest.raises(requests.ReadTimeout):
        send(server, timeout=0.05)
    assert send(server).status_code == 200


def test_a_trickled_body_follows_a_whole_head(server: Emulator) -> None:
    """A trickled answer has its status at once and its body byte by byte."""
    server.break_next("trickle")
    with send(server, stream=True) as response:
        assert response.status_code == 200
        assert b"".join(response.raw.read1() for _ in range(3)) == b'{"r'


def test_a_trickled_head_comes_byte_by_byte(server: Emulator) -> None:
    """A trickle from the head on does not even give its status in one piece."""
    server.break_next("trickle_head")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: emulator\r\nContent-Length: 0\r\n\r\n")
        assert [connection.recv(100) for _ in range(3)] == [b"H", b"T", b"T"]


# --- chance ---


def draw_outcomes(**settings: Any) -> list[str]:
    """What becomes of thirty requests."""
    outcomes = []
    with Emulator(**settings) as server:
        for _ in range(30):
            try:
                outcomes.append(str(send(server).status_code))
            except requests.RequestException:
                outcomes.append("broken")
    return outcomes


def test_faults_by_chance_are_the_same_in_every_run() -> None:
    """A share of the requests fails in each of the ways asked for, alike for one seed and not for another."""
    settings: dict[str, Any] = {"fault_rate": 0.5, "faults": ("429", "500", "cut")}
    outcomes = draw_outcomes(**settings)
    assert set(outcomes) == {"200", "429", "500", "broken"}
    assert outcomes == draw_outcomes(**settings, seed=0) != draw_outcomes(**settings, seed=1)


def test_scripted_faults_go_before_chance() -> None:
    """Chance is asked only where nothing is scripted."""
    with Emulator(fault_rate=1, faults=["500"]) as server:
        server.fail_next(503)
        assert [send(server).status_code for _ in range(2)] == [503, 500]


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vectors": "real"}, '"lexical" or "semantic"'),
        ({"qps": 0}, "qps must be over 0"),
        ({"window": "moving"}, "fixed, sliding, bucket"),
        ({"fault_rate": 5}, "from 0 to 1"),
        ({"faults": ["explode"]}, "no break 'explode'"),
        ({"api_key": ""}, "must not be empty"),
        ({"models": {"tiny": 512}}, "over 512"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], words: str) -> None:
    """Bad settings fail when the emulator is made, with what would be right."""
    with pytest.raises(ValueError, match=words):
        Emulator(**settings)


def test_a_fault_that_makes_no_sense_is_refused(server: Emulator) -> None:
    """Unknown breaks and counts below one fail where they are asked for."""
    with pytest.raises(ValueError, match="There are: drop, cut, short"):
        server.break_next("explode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 or more"):
        server.fail_next(500, times=0)
