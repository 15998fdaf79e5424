"""A real `redis-server` for tests: on a free port of this machine, to be killed, stopped and started again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest
from servers import HOST

WITHOUT = "OPENSEARCH_EMBED_TESTS_WITHOUT_REDIS"
"""Environment variable that lets tests be skipped where there is no Redis. Without it they fail, and say why."""


def program() -> str:
    """Return the path of `redis-server`; fail where it is missing, so that no test passes unrun."""
    path = shutil.which("redis-server")
    if path is None and os.environ.get(WITHOUT):
        pytest.skip(f"redis-server is missing, and {WITHOUT} is set")
    if path is None:
        pytest.fail(f"redis-server is missing: apt-get install redis-server. {WITHOUT}=1 skips the tests that need it.")
    return path


class RedisServer:
    """One `redis-server`.

    Args:
        options: Options of its command line besides, such as `"--requirepass", "secret"`.
        tls: Whether it speaks TLS alone; the options name the certificates.
    """

    def __init__(self, *options: str, tls: bool = False) -> None:
        self._program = program()
        self._folder: str | None = None
        with socket.create_server((HOST, 0)) as probe:
            self.port: int = probe.getsockname()[1]
        ports = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        self._options = [*ports, "--bind", HOST, "--save", "", *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def place(self) -> str:
        """Its host and port."""
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder = self._folder or tempfile.mkdtemp(prefix="redis-")
        log = Path(self._folder, "log")
        with log.open("ab") as output:
            command = [self._program, *self._options, "--dir", self._folder]
            self._process = subprocess.Popen(command, stdout=output)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"redis-server did not start: {log.read_text()}")
                time.sleep(0.01)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def hang(self) -> None:
        """Let it say nothing more, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it speak again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Any:
        """Return a client of redis-py."""
        import redis

        return redis.Redis.from_url(self.url)

    def calls(self, command: str) -> int:
        """Return how often a command was called."""
        with self.client() as client:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder)
