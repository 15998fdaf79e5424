"""The emulator as its users see it: settings, life, the handles to script it and to watch it."""

import contextlib
import random
import socket
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from opensearch_embed.emulator.faults import BreakKind, Faults, check_break, make_failure
from opensearch_embed.emulator.front import Front
from opensearch_embed.emulator.handler import Handler
from opensearch_embed.emulator.journal import Journal, Record, Usage
from opensearch_embed.emulator.nature import LongTexts, Nature
from opensearch_embed.emulator.quota import Window, make_quota
from opensearch_embed.emulator.service import Job
from opensearch_embed.emulator.thread import ServerThread
from opensearch_embed.emulator.vectors import VectorKind, Vectors
from opensearch_embed.models import DEFAULT_MODEL, MAX_TEXTS_PER_REQUEST, MODELS, InputType

NOTICE = "This is an emulator of the OpenSearch text-embedding API. Its vectors are not the service's."
"""What whoever starts an emulator should be told first."""

HOST = "127.0.0.1"


class Emulator:
    """A local server that speaks the service's API. Use it in a `with`, or call `start` and `stop`.

    Args:
        vectors: "lexical" (hashed words and letters; no extra package) or "semantic" (a small multilingual model; needs
            the extra `emulator`).
        qps: Requests a second; more are answered with 429. `None` means no limit.
        api_key: The one key that is accepted.
        latency_ms: Milliseconds that every answer takes at least.
        shuffle: Whether the vectors of an answer come in any order; `index` says whose each is.
        port: Port on 127.0.0.1; 0 takes a free one.
        window: How `qps` is counted: in "fixed" seconds, in any second ("sliding"), or by a token "bucket".
        fault_rate: Share of the requests, 0 to 1, that get one of `faults` by chance.
        faults: What they get: statuses as text ("429") and `break_next` kinds ("cut").
        seed: Of the chance in faults and shuffling.
        tls: Serve https with this context.
        models: Further service ids and their dimensions, besides the catalogue's. Each must be over 512.
        workspace: The one workspace that the key is valid for; `None` means any.
        long_texts: What becomes of a text that is longer than its model reads, which is not documented: "read" as a
            whole, "truncate", or "refuse".
        unit_length: Whether vectors have unit length, which is not documented either.
        max_texts: Texts in one request, at most: 32, or fewer.
        keep_requests: How many requests `requests` remembers, the newest.

    Attributes:
        api_key: The key that is accepted.
    """

    # Settings do not change once it is made: setting one is an error, and not without effect.
    __slots__ = (
        *("_faults", "_front", "_journal", "_nature", "_port", "_thread", "_tls", "_vectors", "_wanted_port"),
        *("api_key", "__weakref__"),
    )

    def __init__(
        self,
        *,
        vectors: VectorKind = "lexical",
        qps: float | None = None,
        api_key: str = "OS-local",
        latency_ms: float = 0,
        shuffle: bool = False,
        port: int = 0,
        window: Window = "fixed",
        fault_rate: float = 0.0,
        faults: Sequence[str] = ("429", "500", "cut"),
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
        models: Mapping[str, int] | None = None,
        workspace: str | None = None,
        long_texts: LongTexts = "read",
        unit_length: bool = True,
        max_texts: int = MAX_TEXTS_PER_REQUEST,
        keep_requests: int = 10_000,
    ) -> None:
        if not api_key:
            raise ValueError("api_key must not be empty.")
        dimensions = {service_id: spec.dimension for service_id, spec in MODELS.items()}
        self.api_key = api_key
        self._journal = Journal(keep_requests)
        self._faults = Faults(fault_rate, faults, seed)
        self._vectors = Vectors(vectors, {**dimensions, **(models or {})})
        self._nature = Nature(long_texts, unit_length, max_texts)
        handler = Handler(
            api_key=api_key,
            vectors=self._vectors,
            quota=make_quota(qps, window),
            faults=self._faults,
            journal=self._journal,
            latency_seconds=latency_ms / 1000,
            arrange=random.Random(seed).shuffle if shuffle else _as_it_is,
            workspace=workspace,
            nature=self._nature,
        )
        self._front = Front(handler.handle, self._journal, self._vectors, vectors, qps)
        self._tls = tls
        self._wanted_port = port
        self._port: int | None = None
        self._thread: ServerThread | None = None

    # --- life ---

    def start(self) -> Self:
        """Start to serve; returns when requests are accepted.

        Raises:
            OSError: The port is taken.
            RuntimeError: It is running already.
        """
        if self._thread is not None:
            raise RuntimeError("The emulator is running already.")
        listener = socket.create_server((HOST, self._wanted_port))
        self._port = listener.getsockname()[1]
        self._thread = ServerThread(self._front.handle, listener, self._tls)
        return self

    def stop(self) -> None:
        """Stop to serve, at once: requests under way are broken off. Does nothing if it is not running."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def wait(self) -> None:
        """Block until Ctrl-C, or until another thread calls `stop`; then it is stopped."""
        if self._thread is not None:
            with contextlib.suppress(KeyboardInterrupt):
                self._thread.wait()
            self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Emulator at {self.url}>" if self._port else "<Emulator, not started>"

    # --- watching ---

    @property
    def url(self) -> str:
        """Where it serves, or served: the endpoint for a client."""
        if self._port is None:
            raise RuntimeError("The emulator has no address before it is started.")
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._port}"

    @property
    def requests(self) -> list[Record]:
        """The requests that came in, oldest first; keys are blanked, wherever they stand."""
        return self._journal.requests

    @property
    def usage(self) -> Usage:
        """Totals: requests, texts and tokens, and what became of the requests."""
        return self._journal.usage

    @property
    def max_in_flight(self) -> int:
        """The most requests that were under way at once."""
        return self._journal.max_in_flight

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> None:
        """Block until `count` requests have come in since the start or the last `reset`.

        Raises:
            TimeoutError: They have not, after `timeout` seconds.
        """
        self._journal.wait(count, timeout)

    def reset(self) -> None:
        """Forget the requests, the totals and the faults that are still to come. Settings stay."""
        self._faults.clear()
        self._journal.clear()

    def vector(self, text: str, input_type: InputType = "document", model: str = DEFAULT_MODEL) -> list[float]:
        """Return the vector that the server sends for this text, to the last bit. Needs no running server.

        Raises:
            ValueError: The model or the input type is unknown.
        """
        job = self._nature.take(Job([text], input_type, model))
        numbers: list[float] = self._nature.scale(self._vectors.embed(job.texts, input_type, model))[0].tolist()
        return numbers

    # --- scripting ---

    def fail_next(
        self,
        status: int,
        code: str | None = None,
        message: str | None = None,
        body: str | bytes | None = None,
        times: int = 1,
        retry_after: float | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next requests so, without looking at them. Faults take effect in the order they are asked for.

        Args:
            status: HTTP status.
            code: The service's error code. By default the documented one for 400, 429 and 500; another status without a
                code gets a gateway's HTML page.
            message: The service's words for it.
            body: The whole body as it is, instead of `code` and `message`.
            times: How many requests.
            retry_after: Seconds, or text that is sent as it is, such as a date.
            headers: Further headers, or others than usual.
        """
        self._faults.add(make_failure(status, code, message, body, retry_after, headers), times)

    def break_next(self, kind: BreakKind, times: int = 1) -> None:
        """Break off the answers to the next requests. Faults take effect in the order they are asked for.

        Args:
            kind: "drop" closes the connection before any answer; "cut" closes it after half of the body; "short"
                leaves one vector out; "garbled" sends half of the JSON as if it were all; "hang" never answers;
                "trickle" sends the body, and "trickle_head" everything, one byte at a time.
            times: How many requests.
        """
        self._faults.add(check_break(kind), times)


def _as_it_is(order: list[int]) -> None:
    """Leave the vectors of an answer in the order of its texts."""
