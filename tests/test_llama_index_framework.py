"""The LlamaIndex adapter inside LlamaIndex: pipelines, indices, settings, callbacks, instrumentation, progress."""

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from interfaces import EMULATOR_KEY, made_of
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import AuthenticationError
from opensearch_embed.emulator import Emulator

Make = Callable[..., OpenSearchEmbedding]


class Turnstile(BaseRateLimiter):
    """A rate limiter that lets everybody through and counts them; with a lock, so that it cannot be pickled."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def acquire(self, num_tokens: int = 0) -> None:  # noqa: ARG002
        """Count."""
        self.count += 1

    async def async_acquire(self, num_tokens: int = 0) -> None:  # noqa: ARG002
        """Count."""
        self.count += 1


class Recorder(BaseEventHandler):
    """Keeps the events it is told of."""

    seen: list[BaseEvent]

    @classmethod
    def class_name(cls) -> str:
        """Name it."""
        return "Recorder"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        """Keep the event."""
        self.seen.append(event)


@pytest.fixture
def make(emulator: Emulator) -> Iterator[Make]:
    """Make embeddings of the emulator; what is not said is unlimited."""
    yield from made_of(OpenSearchEmbedding, emulator)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A handler of all events of the framework."""
    dispatcher, handler = get_dispatcher(), Recorder(seen=[])
    dispatcher.add_event_handler(handler)
    yield handler
    dispatcher.event_handlers.remove(handler)


@pytest.fixture
def spans() -> Iterator[SimpleSpanHandler]:
    """A handler of all spans of the framework."""
    dispatcher, handler = get_dispatcher(), SimpleSpanHandler()
    dispatcher.add_span_handler(handler)
    yield handler
    dispatcher.span_handlers.remove(handler)


def nodes(count: int) -> list[TextNode]:
    """Return nodes to embed."""
    return [TextNode(id_=str(i), text=f"text {i}") for i in range(count)]


def within_a_minute(work: Callable[[], Any]) -> Any:
    """Return what the work returns or raises; fail if it hangs."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert outcome, "it hangs"
    return outcome[0]


# --- pipelines and indices ---


def test_an_index_finds_what_it_holds(make: Make, emulator: Emulator) -> None:
    """`Settings.embed_model` serves an index; documents go in as documents, the question as a query."""
    Settings.embed_model = make()
    try:
        index = VectorStoreIndex(nodes(20), transformations=[Settings.embed_model])
        hit = index.as_retriever(similarity_top_k=1).retrieve("text 7")[0]
    finally:
        Settings._embed_model = None
    assert hit.node_id == "7"
    assert [(len(request.body["input"]), request.body["input_type"]) for request in emulator.requests] == [
        (20, "document"),
        (1, "query"),
    ]


async def test_a_pipeline_embeds_its_nodes_without_blocking(make: Make, emulator: Emulator) -> None:
    """`IngestionPipeline.arun` gives each node its vector."""
    embedding = make()
    done = await IngestionPipeline(transformations=[embedding], disable_cache=True).arun(nodes=nodes(40))
    assert [node.embedding for node in done] == [emulator.vector(f"text {i}") for i in range(40)]
    await embedding.aclose()


def test_a_pipeline_remembers_by_settings(make: Make) -> None:
    """The pipeline's own cache takes the same embedding for the same, and another model for another."""
    cache, first, other = IngestionCache(), make(), make(model_name="ops-text-embedding-001")
    for embedding in (first, make(), other):
        IngestionPipeline(transformations=[embedding], cache=cache).run(nodes=nodes(3))
    assert first.usage.requests == 1
    assert other.usage.requests == 1
    assert EMULATOR_KEY not in str(cache.cache.get_all("llama_cache"))


@pytest.mark.filterwarnings("ignore:Specified num_workers exceed:UserWarning")  # a machine with one core
def test_a_pipeline_works_in_processes(make: Make, emulator: Emulator) -> None:
    """`num_workers=2` sends the embedding, key and cache to other processes, and gets every vector back."""
    pipeline = IngestionPipeline(transformations=[make(embeddings_cache=SimpleKVStore())], disable_cache=True)
    done = within_a_minute(lambda: pipeline.run(nodes=nodes(80), num_workers=2))
    assert {node.node_id: node.embedding for node in done} == {str(i): emulator.vector(f"text {i}") for i in range(80)}
    assert len(emulator.requests) == 4


@pytest.mark.filterwarnings("ignore:Specified num_workers exceed:UserWarning")
def test_an_error_comes_back_from_a_process(make: Make) -> None:
    """Our error travels to the parent whole; nobody waits for ever."""
    pipeline = IngestionPipeline(transformations=[make(api_key="OS-wrong")], disable_cache=True)
    error = within_a_minute(lambda: pipeline.run(nodes=nodes(4), num_workers=2))
    assert isinstance(error, AuthenticationError)
    assert error.status in (401, 403)
    assert error.pending == [0, 1]


# --- what the base class offers ---


def test_callbacks_are_told(make: Make) -> None:
    """A callback handler sees each batch, with the model's name and without the key."""
    handler = LlamaDebugHandler(print_trace_on_end=False)
    embedding = make(callback_manager=CallbackManager([handler]), embed_batch_size=2)
    embedding.get_text_embedding_batch(["a", "b", "c"])
    pairs = handler.get_event_pairs(CBEventType.EMBEDDING)
    assert [end.payload[EventPayload.CHUNKS] for _, end in pairs if end.payload] == [["a", "b"], ["c"]]
    for start, _ in pairs:
        assert start.payload is not None
        assert start.payload[EventPayload.SERIALIZED]["model_name"] == "ops-text-embedding-002"
    assert EMULATOR_KEY not in str([event.payload for pair in pairs for event in pair])


def test_events_name_the_model(make: Make, recorder: Recorder, call: Callable[..., Any]) -> None:
    """Instrumentation events carry the model that was found in the end, and no key."""
    embedding = make()
    call(embedding.get_query_embedding, "a")
    call(embedding.get_text_embedding, "a")
    call(embedding.get_text_embedding_batch, ["a", "b"])
    starts = [event for event in recorder.seen if isinstance(event, EmbeddingStartEvent)]
    ends = [event for event in recorder.seen if isinstance(event, EmbeddingEndEvent)]
    assert [event.model_dict["model_name"] for event in starts] == ["ops-text-embedding-002"] * 3
    assert [event.chunks for event in ends] == [["a"], ["a"], ["a", "b"]]
    assert EMULATOR_KEY not in "".join(event.model_dump_json() for event in recorder.seen)


def test_a_query_is_one_span(make: Make, spans: SimpleSpanHandler, call: Callable[..., Any]) -> None:
    """Each method shows in a trace once, though the query methods are wrapped here."""
    call(make().get_query_embedding, "a")
    names = sorted(span.id_.split("-")[0].split(".")[1] for span in spans.completed_spans if type(span) is SimpleSpan)
    assert len(names) == 2
    assert {name.lstrip("_a") for name in names} == {"get_query_embedding"}


@pytest.mark.parametrize("cache", [None, SimpleKVStore()])
def test_the_rate_limiter_is_asked_once_a_batch(make: Make, call: Callable[..., Any], cache: Any) -> None:
    """A rate limiter of the framework lets through a batch of 1024 at a time, with a cache or without."""
    turnstile = Turnstile()
    embedding = make(rate_limiter=turnstile, embeddings_cache=cache)
    call(embedding.get_text_embedding_batch, [f"{call} {i}" for i in range(1025)])
    call(embedding.get_query_embedding, f"{call}")
    assert turnstile.count == 3


@pytest.mark.parametrize("num_workers", [None, 2])
async def test_workers_bound_the_async_batches(make: Make, emulator: Emulator, num_workers: int | None) -> None:
    """The framework's `num_workers` works, with its progress bar."""
    embedding = make(num_workers=num_workers, embed_batch_size=2)
    vectors = await embedding.aget_text_embedding_batch(list("abcde"), show_progress=True)
    assert vectors == [emulator.vector(text) for text in "abcde"]
    assert len(emulator.requests) == 3
    await embedding.aclose()


def test_progress_shows(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The framework's progress bar counts texts."""
    make().get_text_embedding_batch(list("abc"), show_progress=True)
    assert "Generating embeddings" in capsys.readouterr().err


def test_what_cannot_be_pickled_stays_behind(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A pickle goes without such a rate limiter or callback and says so; the embedding itself keeps them."""
    handler, turnstile = LlamaDebugHandler(print_trace_on_end=False), Turnstile()
    handler.lock = threading.Lock()  # type: ignore[attr-defined]
    embedding = make(callback_manager=CallbackManager([handler]), rate_limiter=turnstile)
    again = pickle.loads(pickle.dumps(embedding))
    assert "callback_manager cannot be pickled" in caplog.text
    assert "rate_limiter cannot be pickled" in caplog.text
    assert again.rate_limiter is None
    assert again.callback_manager.handlers == []
    assert len(again.get_text_embedding("a")) == 1024
    assert embedding.rate_limiter is turnstile
    assert embedding.callback_manager.handlers == [handler]
