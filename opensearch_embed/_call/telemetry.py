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
from typing import Any, Concatenate, NamedTuple, ParamSpec, Self
from urllib.parse import urlsplit

from opensearch_embed._dispatch.sharing import SharedRequest
from opensearch_embed._loading import load
from opensearch_embed.errors import OpenSearchEmbedError
from opensearch_embed.settings import Settings

PROVIDER = "alibaba_cloud.opensearch"
"""The conventions have no name for this service; theirs for others are made so (`aws.bedrock`)."""

SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [4**power for power in range(14)]
"""The bucket boundaries that the conventions advise."""

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

    def __init__(self, instruments: "_Instruments", attributes: dict[str, Any]) -> None:
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
            instruments = _instruments()
            if instruments is None:
                return UNWATCHED
            tell_ends()
            return Watched(instruments, self._attributes)
        except Exception as error:  # noqa: BLE001 - see `_harmless`
            _logger.debug("OpenTelemetry failed to note a call: %s", type(error).__name__)
            return UNWATCHED


# --- OpenTelemetry's side ---


class _Instruments:
    """The tracer and the histograms of the providers that are set; of others, once others are."""

    def __init__(self, api: "_Api", providers: tuple[Any, Any]) -> None:
        self.api = api
        self.providers = providers
        tracing, metering = providers
        version = load("importlib.metadata").version("opensearch-embed")
        self._tracer = tracing.get_tracer("opensearch_embed", version)
        meter = metering.get_meter("opensearch_embed", version)
        self.seconds = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )

    def start_span(self, attributes: dict[str, Any]) -> Any:
        name = f"{attributes['gen_ai.operation.name']} {attributes['gen_ai.request.model']}"
        return self._tracer.start_span(name, kind=self.api.trace.SpanKind.CLIENT, attributes=attributes)

    def within(self, span: Any) -> Any:
        return self.api.trace.set_span_in_context(span)


class _Api(NamedTuple):
    trace: Any
    metrics: Any
    context: Any


_api: _Api | bool | None = None
_made: _Instruments | None = None


def _instruments() -> _Instruments | None:
    """Return what is told of a call that begins; `None` without OpenTelemetry, which is looked for once."""
    global _api, _made
    if _api is None:
        try:
            _api = _Api(*(load(f"opentelemetry.{name}") for name in _Api._fields))
        except Exception:  # noqa: BLE001 - not installed, or not fit for use
            _api = False
        else:
            gc.callbacks.append(_note_collector)
            atexit.register(tell_ends)
    if not isinstance(_api, _Api):
        return None
    providers = (_api.trace.get_tracer_provider(), _api.metrics.get_meter_provider())
    made = _made
    if made is None or made.providers[0] is not providers[0] or made.providers[1] is not providers[1]:
        made = _made = _Instruments(_api, providers)
    return made


# --- what the garbage collector ends ---

_ends: deque[Callable[[], None]] = deque()
_collector: int | None = None


def tell_ends() -> None:
    """Tell OpenTelemetry of the calls that are over."""
    while _ends:
        with contextlib.suppress(IndexError):  # another thread was faster
            _ends.popleft()()


def _note_collector(phase: str, _info: dict[str, int]) -> None:
    """Know the thread that collects: what is finalised there must take no lock, such as an exporter's."""
    global _collector
    _collector = threading.get_ident() if phase == "start" else None
