"""What a call tells OpenTelemetry: a span, its retries, two measures. Never a text, a vector or the key.

The names are those of OpenTelemetry's conventions for generative AI. Where `opentelemetry-api` is not installed, no
call is watched, and that costs nothing.
"""

import atexit
import contextlib
import gc
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import wraps
from time import perf_counter, time_ns
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self
from urllib.parse import urlsplit

from opensearch_embed._call.instruments import Instruments, instruments
from opensearch_embed._dispatch.sharing import SharedRequest
from opensearch_embed.errors import OpenSearchEmbedError
from opensearch_embed.settings import Settings

PROVIDER = "alibaba_cloud.opensearch"
"""The conventions have no name for this service; theirs for others are made so (`aws.bedrock`)."""

DIMENSION = "gen_ai.embeddings.dimension.count"
"""An attribute of the span; the conventions do not have it on the measures."""

_logger = logging.getLogger("opensearch_embed")
P = ParamSpec("P")


def _harmless(tell: "Callable[Concatenate[Watched, P], None]") -> "Callable[Concatenate[Watched, P], None]":
    """Let no fault of an exporter end a call that has been paid for."""

    @wraps(tell)
    def told(watch: "Watched", /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            tell(watch, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - told by its kind: its words are not ours
            _logger.debug("OpenTelemetry failed to note a call: %s", type(error).__name__)

    return told


class Watch:
    """What happens to one call; this one tells nobody."""

    def retried(self, attempt: int, error: OpenSearchEmbedError, wait: float) -> None:
        """Note that a request is sent again, at the earliest in `wait` seconds, after so many attempts."""

    def used(self, tokens: int) -> None:
        """Note what an answer cost."""

    def end(self, error: BaseException | None = None) -> None:
        """Note that the call is over."""

    def current(self) -> AbstractContextManager[None]:
        """Make its span the current one, for logs and for what is nested."""
        return contextlib.nullcontext()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)


UNWATCHED = Watch()


class Watched(Watch):
    """One call that OpenTelemetry is told of."""

    def __init__(self, instruments: Instruments, attributes: dict[str, Any]) -> None:
        self._instruments = instruments
        self._attributes = attributes
        self._begun = perf_counter()
        self._tokens = 0
        self._lock = threading.Lock()
        self._span = instruments.start_span(attributes)

    @_harmless
    def retried(self, attempt: int, error: OpenSearchEmbedError, wait: float) -> None:
        """Add an event to the span."""
        told = {
            "error.type": type(error).__qualname__,
            "http.request.resend_count": attempt,
            "opensearch_embed.retry.wait": round(wait, 3),
        }
        status = getattr(error, "status", None)
        if status is not None:
            told["http.response.status_code"] = status
        if self._span.is_recording():  # not after its end, should a request outlast its call
            self._span.add_event("retry", told)

    def used(self, tokens: int) -> None:
        """Add up, from any thread."""
        with self._lock:
            self._tokens += tokens

    def end(self, error: BaseException | None = None) -> None:
        """End the span and record the measures; later, if it is the garbage collector that ends the call."""
        failure = None if error is None or isinstance(error, GeneratorExit) else type(error).__qualname__
        seconds, now = perf_counter() - self._begun, time_ns()
        _ends.append(lambda: self._tell_end(failure, seconds, now))
        if _collector != threading.get_ident():
            tell_ends()

    @_harmless
    def _tell_end(self, failure: str | None, seconds: float, now: int) -> None:
        span, instruments, tokens = self._span, self._instruments, self._tokens
        span.set_attribute("gen_ai.usage.input_tokens", tokens)
        if failure is not None:
            span.set_attribute("error.type", failure)
            span.set_status(instruments.api.trace.StatusCode.ERROR)
        span.end(now)
        measured = {name: value for name, value in self._attributes.items() if name != DIMENSION}
        if tokens:
            instruments.tokens.record(tokens, measured | {"gen_ai.token.type": "input"}, instruments.within(span))
        outcome = {} if failure is None else {"error.type": failure}
        instruments.seconds.record(seconds, measured | outcome, instruments.within(span))

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make its span the current one, until the end of a `with`."""
        context = self._instruments.api.context
        token = context.attach(self._instruments.within(self._span))
        try:
            yield
        except GeneratorExit:  # a coroutine whose loop is gone is ended in another context
            raise
        except BaseException:
            context.detach(token)
            raise
        context.detach(token)


class Together(Watch):
    """A request that several calls share: each is told of its retries, and bears its part of the cost by size."""

    def __init__(self, request: SharedRequest) -> None:
        self._request = request

    def retried(self, attempt: int, error: OpenSearchEmbedError, wait: float) -> None:
        """Tell all that wait for it."""
        for member in list(self._request.members):
            member.watch.retried(attempt, error, wait)

    def used(self, tokens: int) -> None:
        """Divide tokens over all that wait for it, so that the parts are whole and their sum is right."""
        members = list(self._request.members)
        total = sum(member.size for member in members) or 1
        so_far = told = 0
        for member in members:
            so_far += member.size
            part = tokens * so_far // total - told
            told += part
            member.watch.used(part)


class Telemetry:
    """Watches the calls of one client."""

    def __init__(self, settings: Settings) -> None:
        url = urlsplit(settings.endpoint)
        self._attributes = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": settings.model.service_id,
            DIMENSION: settings.model.dimension,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }

    def watch(self) -> Watch:
        """Begin to watch a call; whoever asks must `end` it, or leave its `with`."""
        try:
            found = instruments(_begin_to_tell)
            if found is None:
                return UNWATCHED
            tell_ends()
            return Watched(found, self._attributes)
        except Exception as error:  # noqa: BLE001 - see `_harmless`
            _logger.debug("OpenTelemetry failed to note a call: %s", type(error).__name__)
            return UNWATCHED


# --- what the garbage collector ends ---

_ends: deque[Callable[[], None]] = deque()
_collector: int | None = None


def _begin_to_tell() -> None:
    gc.callbacks.append(_note_collector)
    atexit.register(tell_ends)


def tell_ends() -> None:
    """Tell OpenTelemetry of the calls that are over."""
    while _ends:
        with contextlib.suppress(IndexError):  # another thread was faster
            _ends.popleft()()


def _note_collector(phase: str, _info: dict[str, int]) -> None:
    """Know the thread that collects: what is finalised there must take no lock, such as an exporter's."""
    global _collector
    _collector = threading.get_ident() if phase == "start" else None
