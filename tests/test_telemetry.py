"""What OpenTelemetry is told: a span a call, retries as its events, two measures; and never a text, vector or key."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from interfaces import EMULATOR_KEY
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import EmbeddingClient, InputError, InvalidRequest
from opensearch_embed.emulator import Emulator

SECRET_TEXT = "a text that nobody else is to read"


@dataclass
class Observer:
    """A user's OpenTelemetry, in memory."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracer: trace.Tracer

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that are over, as they ended."""
        return self.exporter.get_finished_spans()

    def measures(self) -> dict[str, Any]:
        """Each measure by its name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def observer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observer]:
    """Providers for one test: the real ones can be set but once in a process."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, metering = TracerProvider(), MeterProvider([reader])
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracing)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: metering)
    yield Observer(exporter, reader, tracing.get_tracer("test"))
    tracing.shutdown()
    metering.shutdown()


def expected(emulator: Emulator) -> dict[str, Any]:
    """What every span of the default model has."""
    return {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "alibaba_cloud.opensearch",
        "gen_ai.request.model": "ops-text-embedding-002",
        "gen_ai.embeddings.dimension.count": 1024,
        "server.address": "127.0.0.1",
        "server.port": int(emulator.url.rpartition(":")[2]),
    }


@pytest.mark.parametrize("method", ["embed", "embed_array"])
def test_a_call_is_a_span(
    observer: Observer, emulator: Emulator, make_client: Callable[..., EmbeddingClient], call: Any, method: str
) -> None:
    """One span a call, however many requests it is, with the conventions' attributes and nothing else."""
    client = make_client()
    call(getattr(client, method), [f"{SECRET_TEXT} {number}" for number in range(100)])
    [span] = observer.spans
    assert span.name == "embeddings ops-text-embedding-002"
    assert span.kind is SpanKind.CLIENT
    assert span.attributes == expected(emulator) | {"gen_ai.usage.input_tokens": emulator.usage.tokens}
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "opensearch_embed"
    assert emulator.usage.requests == 4


def test_it_is_a_child_of_what_calls(
    observer: Observer, make_client: Callable[..., EmbeddingClient], call: Any
) -> None:
    """The span is nested in the user's own, which is current again afterwards."""
    client = make_client()
    with observer.tracer.start_as_current_span("rag") as outer:
        call(client.embed, ["tea"])
        assert trace.get_current_span() is outer
    inner, _ = observer.spans
    assert inner.parent is not None
    assert inner.parent.span_id == outer.get_span_context().span_id


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("batch", [None, 7])
def test_a_stream_is_a_span(
    observer: Observer, emulator: Emulator, make_client: Callable[..., EmbeddingClient], is_async: bool, batch: Any
) -> None:
    """From its first chunk to its last, in one span; the consumer's own spans are not nested in it."""
    client = make_client()
    texts = [f"text {number}" for number in range(2500)]
    mine: list[trace.Span] = []

    async def consume() -> None:
        async for _ in client.aiter_embed(texts, batch=batch):
            mine.append(trace.get_current_span())

    if is_async:
        asyncio.run(consume())
    else:
        mine.extend(trace.get_current_span() for _ in client.iter_embed(texts, batch=batch))
    [span] = observer.spans
    assert span.attributes == expected(emulator) | {"gen_ai.usage.input_tokens": emulator.usage.tokens}
    assert {one.get_span_context().is_valid for one in mine} == {False}


def test_a_stream_that_is_left_has_ended(observer: Observer, make_client: Callable[..., EmbeddingClient]) -> None:
    """Its span ends with it, and is no failure."""
    stream = make_client().iter_embed(f"text {number}" for number in range(100))
    next(stream)
    assert not observer.spans
    del stream
    [span] = observer.spans
    assert span.status.status_code is StatusCode.UNSET


def test_the_garbage_collector_takes_no_lock_of_an_exporter(
    observer: Observer, make_client: Callable[..., EmbeddingClient]
) -> None:
    """A stream in a cycle may be collected while this thread holds any lock: its span is told of later."""
    client = make_client()
    stream = client.iter_embed(f"text {number}" for number in range(100))
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    with observer.exporter._lock:  # not reentrant: whoever asks for it here waits for ever
        gc.collect()
    client.embed(["tea"])
    assert len(observer.spans) == 2


def test_a_retry_is_an_event(
    observer: Observer, emulator: Emulator, make_client: Callable[..., EmbeddingClient], call: Any
) -> None:
    """Each time a request is sent again, the span says why, and after what wait."""
    emulator.fail_next(429, retry_after=0.1)
    emulator.break_next("drop")
    call(make_client().embed, ["tea"])
    [span] = observer.spans
    first, second = span.events
    assert first.name == second.name == "retry"
    assert first.attributes == {
        "error.type": "RateLimited",
        "http.request.resend_count": 1,
        "http.response.status_code": 429,
        "opensearch_embed.retry.wait": 0.1,
    }
    assert second.attributes is not None
    assert second.attributes["error.type"] == "TransportError"
    assert second.attributes["http.request.resend_count"] == 2
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("status", "texts", "kind"), [(None, [""], InputError), (400, ["tea"], InvalidRequest)], ids=["input", "refused"]
)
def test_a_failure_has_its_type(
    observer: Observer,
    emulator: Emulator,
    make_client: Callable[..., EmbeddingClient],
    call: Any,
    status: int | None,
    texts: list[str],
    kind: type[Exception],
) -> None:
    """The span is marked and the duration is counted under the error's class; no words, which may be the server's."""
    if status is not None:
        emulator.fail_next(status)
    with pytest.raises(kind):
        call(make_client().embed, texts)
    [span] = observer.spans
    assert span.attributes is not None
    assert span.attributes["error.type"] == kind.__name__
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    [point] = observer.measures()["gen_ai.client.operation.duration"].data.data_points
    assert point.attributes["error.type"] == kind.__name__


def test_the_measures_are_the_conventions(
    observer: Observer, emulator: Emulator, make_client: Callable[..., EmbeddingClient], call: Any
) -> None:
    """Duration and tokens of each call, with the conventions' units, attributes and advised buckets."""
    client = make_client()
    call(client.embed, ["tea", "coffee"])
    call(client.embed, ["water"], "query")
    measures = observer.measures()
    common = {name: value for name, value in expected(emulator).items() if "dimension" not in name}

    duration = measures["gen_ai.client.operation.duration"]
    assert duration.unit == "s"
    [point] = duration.data.data_points
    assert (point.attributes, point.count) == (common, 2)
    assert point.explicit_bounds == tuple(0.01 * 2**power for power in range(14))

    tokens = measures["gen_ai.client.token.usage"]
    assert tokens.unit == "{token}"
    [point] = tokens.data.data_points
    assert (point.attributes, point.count) == (common | {"gen_ai.token.type": "input"}, 2)
    assert point.explicit_bounds == tuple(4**power for power in range(14))
    assert point.sum == emulator.usage.tokens


def test_calls_that_share_a_request_share_its_cost_and_its_retries(observer: Observer) -> None:
    """Each span says its part of the tokens, so that their sum is what is billed, and each says that it waited."""
    with (
        Emulator(qps=None, api_key=EMULATOR_KEY, latency_ms=50) as emulator,
        EmbeddingClient(endpoint=emulator.url, api_key=EMULATOR_KEY, qps=5) as client,
    ):
        client.embed(["first"])
        emulator.fail_next(500)
        threads = [threading.Thread(target=client.embed, args=[["word " * (n + 1)]]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    spans = observer.spans
    assert len(spans) == 9
    assert emulator.usage.requests < 9
    tokens = [span.attributes["gen_ai.usage.input_tokens"] for span in spans if span.attributes]
    assert sum(tokens) == emulator.usage.tokens == client.usage.tokens
    assert sum(bool(span.events) for span in spans) > 1


def test_what_the_cache_knows_costs_nothing(
    observer: Observer, make_client: Callable[..., EmbeddingClient], call: Any, tmp_path: Any
) -> None:
    """A call that is answered from the cache is a span of no tokens, and no count of them."""
    client = make_client(cache=tmp_path / "vectors.sqlite")
    for _ in range(2):
        call(client.embed, ["tea"])
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in observer.spans if span.attributes] == [1, 0]
    [point] = observer.measures()["gen_ai.client.token.usage"].data.data_points
    assert point.count == 1


@pytest.mark.parametrize("kind", [OpenSearchEmbeddings, OpenSearchEmbedding])
def test_both_adapters_are_observed(observer: Observer, emulator: Emulator, kind: Any) -> None:
    """A call of either framework is the same span."""
    embeddings = kind(endpoint=emulator.url, api_key=emulator.api_key)
    one = getattr(embeddings, "embed_query", None) or embeddings.get_query_embedding
    one("tea")
    assert [span.name for span in observer.spans] == ["embeddings ops-text-embedding-002"]


def test_nothing_that_is_told_has_a_text_or_the_key(
    observer: Observer, emulator: Emulator, make_client: Callable[..., EmbeddingClient], call: Any
) -> None:
    """Not even when the server echoes both."""
    client = make_client()
    call(client.embed, [SECRET_TEXT])
    for status in (500, 400):
        emulator.fail_next(status, code=EMULATOR_KEY, message=f"{SECRET_TEXT} {EMULATOR_KEY}")
    with pytest.raises(InvalidRequest):
        call(client.embed, [SECRET_TEXT])
    data = observer.reader.get_metrics_data()
    assert data is not None
    told = data.to_json() + "".join(span.to_json() for span in observer.spans)
    assert "retry" in told
    assert EMULATOR_KEY not in told
    assert SECRET_TEXT not in told


def test_llama_index_events_name_the_model_and_not_the_key(emulator: Emulator) -> None:
    """The framework's own events say which model it was; what else they can say, they say by themselves."""

    class Events(BaseEventHandler):
        seen: list[Any] = []  # noqa: RUF012 - a field of pydantic's

        def handle(self, event: Any, **_: Any) -> None:
            self.seen.append(event)

    events, counter = Events(), TokenCountingHandler(tokenizer=str.split)
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(events)
    try:
        manager = CallbackManager([counter])
        embedding = OpenSearchEmbedding(
            endpoint=emulator.url, api_key=emulator.api_key, callback_manager=manager, qps=None
        )
        embedding.get_text_embedding_batch(["two words", "tea"])
    finally:
        dispatcher.event_handlers.remove(events)
    start, end = events.seen
    assert (start.class_name(), end.class_name()) == ("EmbeddingStartEvent", "EmbeddingEndEvent")
    assert start.model_dict["model_name"] == "ops-text-embedding-002"
    assert EMULATOR_KEY not in repr(events.seen)
    assert end.chunks == ["two words", "tea"]
    assert counter.total_embedding_token_count == 3


@pytest.mark.parametrize("fault", ["on_start", "on_end"])
def test_a_faulty_processor_costs_no_vector(
    observer: Observer, emulator: Emulator, make_client: Callable[..., EmbeddingClient], call: Any, fault: str
) -> None:
    """What has been paid for is returned, whatever a span processor of the user's raises."""

    class Faulty(SimpleSpanProcessor):
        def _fail(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("the exporter is away")

    processor = Faulty(observer.exporter)
    setattr(processor, fault, processor._fail)
    provider = trace.get_tracer_provider()
    provider.add_span_processor(processor)  # type: ignore[attr-defined]
    assert call(make_client().embed, ["tea"]) == [emulator.vector("tea")]


def run(code: str) -> str:
    """Run code against an emulator in an interpreter of its own."""
    setting = "from opensearch_embed import EmbeddingClient\nfrom opensearch_embed.emulator import Emulator\n"
    done = subprocess.run([sys.executable, "-c", setting + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


EMBED = """
with Emulator() as emulator, EmbeddingClient(endpoint=emulator.url, api_key=emulator.api_key) as client:
    client.embed(["tea"])
"""


def test_without_opentelemetry_nothing_is_imported() -> None:
    """Where it is not installed, calls work, and no part of it is there."""
    code = f"import sys\nsys.modules['opentelemetry'] = None\n{EMBED}"
    assert run(code + "print([name for name in sys.modules if 'opentelemetry.' in name])") == "[]"


def test_providers_may_be_set_after_the_first_call() -> None:
    """A program that configures OpenTelemetry late is observed from then on."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
with Emulator() as emulator, EmbeddingClient(endpoint=emulator.url, api_key=emulator.api_key) as client:
    client.embed(["tea"])
    trace.set_tracer_provider(provider)
    client.embed(["tea"])
print([span.name for span in exporter.get_finished_spans()])
"""
    assert run(code) == "['embeddings ops-text-embedding-002']"
