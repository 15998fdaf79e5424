"""The emulator's life: it starts, waits and stops, at once and without a trace."""

import concurrent.futures
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import requests

from opensearch_embed.emulator import NOTICE, Emulator

PATH = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"
HEADERS = {"Authorization": "Bearer OS-local"}


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator with default settings."""
    with Emulator() as running:
        yield running


def send(server: Emulator, timeout: float = 5) -> requests.Response:
    """Send one good request, on a connection of its own."""
    body = {"input": ["tea", "茶"]}
    return requests.post(server.url + PATH, json=body, headers=HEADERS, timeout=timeout)


def test_stopping_breaks_off_what_hangs() -> None:
    """A stop does not wait for hanging requests, can be repeated, and leaves no thread."""
    before = set(threading.enumerate())
    server = Emulator().start()
    server.break_next("hang", times=2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        hanging = [pool.submit(send, server) for _ in range(2)]
        server.wait_for_requests(2)
        assert server.max_in_flight == 2
        server.stop()
        server.stop()
        for future in hanging:
            with pytest.raises(requests.ConnectionError):
                future.result(timeout=5)
    assert set(threading.enumerate()) == before


def test_it_can_be_started_again_on_its_port(server: Emulator) -> None:
    """A stopped emulator refuses connections at the URL it had, and another can take its place there."""
    server.stop()
    with pytest.raises(requests.ConnectionError):
        send(server)
    port = int(server.url.rpartition(":")[2])
    with Emulator(port=port) as successor:
        assert successor.url == server.url
        assert send(server).status_code == 200


def test_starting_twice_fails(server: Emulator) -> None:
    """A running emulator is not started again."""
    with pytest.raises(RuntimeError, match="running already"):
        server.start()


def test_a_taken_port_is_an_error_of_the_caller(server: Emulator) -> None:
    """A port that is in use raises where the emulator is started, and leaves no thread."""
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="in use"):
        Emulator(port=int(server.url.rpartition(":")[2])).start()
    assert set(threading.enumerate()) == before


def test_a_url_needs_a_start() -> None:
    """Before the start there is no address to give."""
    server = Emulator()
    assert "not started" in repr(server)
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = server.url


def test_a_stop_ends_the_wait(server: Emulator) -> None:
    """`wait` returns when another thread stops the emulator, and at once when it is not running."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.wait)
        server.stop()
        waiting.result(timeout=5)
    server.wait()


SCRIPT = """
import threading
from opensearch_embed.emulator import Emulator
with Emulator(latency_ms=1) as server:
    server.break_next("hang")
    print(server.url, flush=True)
    server.wait()
print(threading.active_count())
"""


def test_ctrl_c_ends_the_wait_quietly() -> None:
    """`wait` returns at Ctrl-C, and nothing is left: no thread, and no warning in Python's strictest mode."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with pytest.raises(requests.ReadTimeout):
            requests.post(url + PATH, json={"input": "tea"}, headers=HEADERS, timeout=(10, 0.05))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    assert (output.strip(), errors, process.returncode) == ("1", "", 0)


def test_a_server_that_cannot_be_set_up_says_so() -> None:
    """An error in the server's thread is raised where it is started, and leaves no thread."""
    before = set(threading.enumerate())
    with pytest.raises(TypeError, match="SSLContext"):
        Emulator(tls=True).start()  # type: ignore[arg-type]
    assert set(threading.enumerate()) == before


def test_the_notice_says_whose_vectors_these_are() -> None:
    """Whoever starts an emulator can be told that its vectors are not the service's."""
    assert "not the service's" in NOTICE


def test_a_setting_that_is_set_too_late_is_an_error() -> None:
    """It would have no effect."""
    with Emulator() as emulator, pytest.raises(AttributeError):
        emulator.qps = 5.0  # type: ignore[attr-defined]
