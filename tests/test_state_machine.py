"""Random sequences of faults, over a real socket: every input is completed or pending, never both, and never wrong.

The examples are the same in every run. To look for new ones: EXPLORE=2000 pytest tests/test_state_machine.py
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import chain
from math import isnan
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from opensearch_embed import EmbeddingClient
from opensearch_embed.emulator import Emulator
from opensearch_embed.errors import (
    ApiError,
    AuthenticationError,
    InputError,
    InvalidRequest,
    OpenSearchEmbedError,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
    TransportError,
)

MODEL = "ops-text-embedding-en-001"  # 768 numbers: the fewest that a model of the catalogue has
DIMENSION = 768
SOON = {"retry_after": 0.01}

# How the emulator is told, and the error that a call may end with for it.
FAULTS: dict[str, tuple[Callable[[Emulator], None], type[OpenSearchEmbedError]]] = {
    "429 rate": (lambda e: e.fail_next(429, **SOON), RateLimited),
    "429 rate, at once": (lambda e: e.fail_next(429, retry_after=0), RateLimited),
    "429 rate, a date that is past": (
        lambda e: e.fail_next(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
        RateLimited,
    ),
    "429 rate, much later": (lambda e: e.fail_next(429, retry_after=3600), RateLimited),
    "429": (lambda e: e.fail_next(429, "Throttling", **SOON), RateLimited),
    "429 allocation": (lambda e: e.fail_next(429, "Throttling.AllocationQuota", **SOON), RateLimited),
    "429 allocation, no delay said": (lambda e: e.fail_next(429, "Throttling.AllocationQuota"), RateLimited),
    "429 page": (lambda e: e.fail_next(429, body="<html>slow down</html>", **SOON), RateLimited),
    "429 free quota": (
        lambda e: e.fail_next(429, "Throttling.AllocationQuota", "Your free quota is used up."),
        QuotaExhausted,
    ),
    "200 rate": (lambda e: e.fail_next(200, "Throttling.RateQuota", **SOON), RateLimited),
    "500": (lambda e: e.fail_next(500), ServiceUnavailable),
    "500, soon": (lambda e: e.fail_next(500, **SOON), ServiceUnavailable),
    "502 page": (lambda e: e.fail_next(502, **SOON), ServiceUnavailable),
    "503 empty": (lambda e: e.fail_next(503, body="", **SOON), ServiceUnavailable),
    "200 empty": (lambda e: e.fail_next(200, body=""), ResponseError),
    "200 page": (lambda e: e.fail_next(200, body="<html>hello</html>"), ResponseError),
    "200 of no vectors": (lambda e: e.fail_next(200, body='{"result": {"embeddings": []}}'), ResponseError),
    "200 NaN": (
        lambda e: e.fail_next(200, body='{"result": {"embeddings": [{"index": 0, "embedding": [NaN]}]}}'),
        ResponseError,
    ),
    "drop": (lambda e: e.break_next("drop"), TransportError),
    "cut": (lambda e: e.break_next("cut"), ResponseError),
    "short": (lambda e: e.break_next("short"), ResponseError),
    "garbled": (lambda e: e.break_next("garbled"), ResponseError),
    "302": (lambda e: e.fail_next(302, headers={"Location": "http://127.0.0.1:9/"}), ApiError),
    "400": (lambda e: e.fail_next(400), InvalidRequest),
    "400 empty": (lambda e: e.fail_next(400, body=""), InvalidRequest),
    "413 page": (lambda e: e.fail_next(413), InvalidRequest),
    "404 page": (lambda e: e.fail_next(404), InvalidRequest),
    "401": (lambda e: e.fail_next(401, "InvalidApiKey"), AuthenticationError),
    "403 page": (lambda e: e.fail_next(403), AuthenticationError),
}
THROTTLES = {name for name, (_, error) in FAULTS.items() if error is RateLimited}
DIVIDES = {"400", "400 empty", "413 page"}
"""What a batch is halved for, where refused texts are isolated."""
FATAL = {"429 free quota", "302", "404 page", "401", "403 page"}
"""What ends a call at once."""
SOME_FAULT = st.sampled_from([sorted(THROTTLES), sorted(FAULTS), sorted(DIVIDES)]).flatmap(st.sampled_from)

POOL = [f"Text {number} is about subject {number * 7919 % 1000}." for number in range(100)]
ORACLE = Emulator()
_right: dict[tuple[str, str], list[float]] = {}


def right(text: str, role: Any) -> list[float]:
    """The vector that a text should get: the emulator's own, made once; zeros for an empty document."""
    if (text, role) not in _right:
        _right[text, role] = ORACLE.vector(text, role, MODEL) if text.strip() else [0.0] * DIMENSION
    return _right[text, role]


@st.composite
def inputs(draw: st.DrawFn) -> list[str]:
    """Texts for up to three batches: some repeated, some empty, some of any characters."""
    count = draw(st.sampled_from([0, 1, 2, 3, 7, 31, 32, 33, 40, 64, 65, 80]))
    start = draw(st.integers(0, len(POOL) - 1))
    texts = [POOL[(start + i) % len(POOL)] for i in range(count)]
    changes = st.tuples(st.integers(0, 79), st.sampled_from(["", "茶", POOL[start]]) | st.text(max_size=5))
    for place, text in draw(st.lists(changes, max_size=4)):
        texts[place:place] = [text]
    return texts


async def _take(pairs: AsyncIterator[tuple[int, Any]], given: dict[int, Any]) -> None:
    async for index, vector in pairs:
        given[index] = vector


# Each adds to `given` the vectors by index as they come, so that an error shows what came before it.
CALLS: dict[str, Callable[..., None]] = {
    "lists": lambda client, given, *asked: given.update(enumerate(client.embed(*asked))),
    "array": lambda client, given, *asked: given.update(enumerate(client.embed_array(*asked).tolist())),
    "stream": lambda client, given, *asked: given.update(client.iter_embed(*asked)),
    "stream of arrays": lambda client, given, *asked: given.update(
        enumerate(chain.from_iterable(rows.tolist() for rows in client.iter_embed(*asked, batch=20)))
    ),
    "async lists": lambda client, given, *asked: given.update(enumerate(asyncio.run(client.aembed(*asked)))),
    "async array": lambda client, given, *asked: given.update(
        enumerate(asyncio.run(client.aembed_array(*asked)).tolist())
    ),
    "async stream": lambda client, given, *asked: asyncio.run(_take(client.aiter_embed(*asked), given)),
}


class Cache(dict[str, Sequence[float]]):
    """A cache in memory."""

    def get_many(self, keys: Sequence[str]) -> Mapping[str, Sequence[float]]:
        """Return the vectors that are there."""
        return {key: self[key] for key in keys if key in self}

    def put_many(self, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors."""
        self.update(vectors)


class Machine(RuleBasedStateMachine):
    """One client on one emulator: faults are scripted, calls are made, and each call is held to the promise."""

    emulator: Emulator

    @initialize(
        max_concurrency=st.sampled_from([1, 2, 4]),
        max_attempts=st.sampled_from([1, 2, 3]),
        retry_timeout=st.sampled_from([0, 1.0]),
        on_error=st.sampled_from(["raise", "isolate", "skip"]),
        empty=st.sampled_from(["zero", "zero", "zero", "error"]),
        cached=st.booleans(),
    )
    def set_up(self, cached: bool, **options: Any) -> None:
        """Make the client."""
        self.emulator.reset()
        self.scripted: list[str] = []
        self.received: set[tuple[str, str]] = set()
        self.options = options
        self.cached = cached
        self.client = EmbeddingClient(
            MODEL,
            endpoint=self.emulator.url,
            api_key=self.emulator.api_key,
            qps=None,
            cache=Cache() if cached else None,
            **options,
        )

    @rule(
        runs=st.lists(st.tuples(SOME_FAULT, st.sampled_from([1, 1, 2, 6])), max_size=6),
        how=st.sampled_from(sorted(CALLS)),
        texts=inputs(),
        role=st.sampled_from(["document", "query"]),
    )
    def call(self, runs: list[tuple[str, int]], how: str, texts: list[str], role: str) -> None:
        """Make a call that meets faults, and compare what it gives, raises, sends and counts with what it should.

        Faults that it leaves over are for the next call.
        """
        for name in (name for name, times in runs for _ in range(times)):
            FAULTS[name][0](self.emulator)
            self.scripted.append(name)
        sent_before, refused_before = len(self.emulator.requests), len(self.client.usage.refused)
        given: dict[int, Any] = {}
        error: OpenSearchEmbedError | None = None
        try:
            CALLS[how](self.client, given, texts, role)
        except OpenSearchEmbedError as raised:
            error = raised
        sent = [record.body["input"] for record in self.emulator.requests[sent_before:]]
        met, self.scripted = self.scripted[: len(sent)], self.scripted[len(sent) :]
        refused = set(self.client.usage.refused[refused_before:])

        self.check_vectors(texts, role, given, error, refused)
        self.check_error(how, texts, role, error, met, refused)
        self.check_requests(how, texts, role, sent, met)
        self.check_usage()
        completed = {**given, **(error.completed if error else {})}
        self.received |= {(role, texts[index]) for index in completed if index not in refused}

    def check_vectors(
        self, texts: list[str], role: str, given: dict[int, Any], error: OpenSearchEmbedError | None, refused: set[int]
    ) -> None:
        """Every input that was read is given, completed or pending: one of them, and with the right vector."""
        completed, pending = (error.completed, error.pending) if error else ({}, [])
        read = [*given, *completed, *pending]
        assert sorted(read) == list(range(len(read))), "twice, or not at all"
        assert pending == sorted(pending)
        assert len(read) == len(texts) or error is not None
        shown = {i for i, vector in given.items() if isinstance(vector, ApiError) or isnan(vector[0])}
        assert shown == refused & set(given)
        assert refused <= shown | set(pending)
        for index, vector in {**given, **completed}.items():
            assert index in shown or list(vector) == right(texts[index], role), f"texts[{index}] is wrong"

    def check_error(
        self,
        how: str,
        texts: list[str],
        role: str,
        error: OpenSearchEmbedError | None,
        faults: list[str],
        refused: set[int],
    ) -> None:
        """An error is that of a fault which the call met, and no fault that must be told is swallowed."""
        raises = self.options["on_error"] == "raise"
        told = FATAL | (DIVIDES if raises else set())
        if isinstance(error, InputError):
            assert self.options["empty"] == "error" or role == "query"
            assert error.index == next(index for index, text in enumerate(texts) if not text.strip())
        elif error is None:
            assert not told.intersection(faults)
            assert not refused or (self.options["on_error"] == "skip" and "lists" not in how)
        else:
            kinds = {FAULTS[name][1] for name in faults}
            assert type(error) is ApiError if kinds == {ApiError} else isinstance(error, tuple(kinds))
            if isinstance(error, InvalidRequest):
                assert set(error.indices) <= set(error.pending)
                if not raises and "404 page" not in faults and "stream" not in how:
                    assert error.indices == error.pending == sorted(refused)

    def check_requests(self, how: str, texts: list[str], role: str, sent: list[list[str]], faults: list[str]) -> None:
        """No request too many, none with a text twice, none for a vector that is there, never too many at once."""
        calls = [texts] if "stream" not in how else [texts[i : i + 20] for i in range(0, len(texts), 20)]
        batches = sum(-(-len(set(filter(str.strip, call))) // 32) for call in calls)
        divided = sum(name in DIVIDES for name in faults) if self.options["on_error"] != "raise" else 0
        assert len(sent) <= batches + divided + len(faults)
        assert all(len(batch) == len(set(batch)) for batch in sent)
        if self.cached:
            assert not any((role, text) in self.received for batch in sent for text in batch)
        if "stream" not in how:  # where two chunks may hold the same texts
            attempts = self.options["max_attempts"] if self.options["retry_timeout"] else 1
            throttled = sum(name in THROTTLES for name in faults) if self.options["retry_timeout"] else 0
            assert all(times <= attempts + throttled for times in Counter(map(tuple, sent)).values())
        assert self.emulator.max_in_flight <= self.options["max_concurrency"]

    def check_usage(self) -> None:
        """The client counts what the service counts."""
        ours, theirs = self.client.usage, self.emulator.usage
        assert (ours.requests, ours.texts, ours.tokens) == (theirs.requests, theirs.texts, theirs.tokens)
        assert ours.retries <= ours.requests

    def teardown(self) -> None:
        """Whatever happened, the client is usable afterwards."""
        if not hasattr(self, "client"):
            return
        self.emulator.reset()
        with self.client:
            assert self.client.embed(["Afterwards."]) == [right("Afterwards.", "document")]
            assert asyncio.run(self.client.aembed(["Later."], "query")) == [right("Later.", "query")]


def test_any_sequence_of_faults(emulator: Emulator) -> None:
    """Whatever the faults, texts and options: what is given is right, and what is not is told."""

    class OnThisEmulator(Machine):
        pass

    OnThisEmulator.emulator = emulator
    explore = int(os.environ.get("EXPLORE", 0))
    run_state_machine_as_test(
        OnThisEmulator,
        settings=settings(
            max_examples=explore or 40,
            stateful_step_count=6,
            derandomize=not explore,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
