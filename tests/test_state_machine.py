"""Random sequences of faults, over a real socket: every input is completed or pending, never both, and never wrong.

The examples are the same in every run. To look for new ones: EXPLORE=2000 pytest tests/test_state_machine.py
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from hypothesis import HealthCheck, settings
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
MENDED_BY_TIME = {name for name, (_, error) in FAULTS.items() if error is RateLimited}
DIVIDES = {"400", "400 empty", "413 page"}
"""What a batch is halved for, where texts are isolated."""

POOL = [f"Text {number} is about subject {number * 7919 % 1000}." for number in range(100)]
ORACLE = Emulator()
_right: dict[tuple[str, str], list[float]] = {}


def right(text: str, role: Any) -> list[float]:
    """The vector that a text should get: the emulator's own, made once; zeros for an empty text."""
    if (text, role) not in _right:
        _right[text, role] = ORACLE.vector(text, role, MODEL) if text else [0.0] * DIMENSION
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


class Calls:
    """The ways to ask for vectors. Each yields (index, vector) as they come, so that an error shows what came before."""

    @staticmethod
    def lists(client: EmbeddingClient, *asked: Any) -> Iterator[tuple[int, Any]]:
        yield from enumerate(client.embed(*asked))

    @staticmethod
    def array(client: EmbeddingClient, *asked: Any) -> Iterator[tuple[int, Any]]:
        yield from enumerate(client.embed_array(*asked).tolist())

    @staticmethod
    def stream(client: EmbeddingClient, *asked: Any) -> Iterator[tuple[int, Any]]:
        yield from client.iter_embed(*asked)

    @staticmethod
    def stream_of_arrays(client: EmbeddingClient, *asked: Any) -> Iterator[tuple[int, Any]]:
        yield from enumerate(row for rows in client.iter_embed(*asked, batch=20) for row in rows.tolist())

    @staticmethod
    async def alists(client: EmbeddingClient, *asked: Any) -> AsyncIterator[tuple[int, Any]]:
        for pair in enumerate(await client.aembed(*asked)):
            yield pair

    @staticmethod
    async def aarray(client: EmbeddingClient, *asked: Any) -> AsyncIterator[tuple[int, Any]]:
        for pair in enumerate((await client.aembed_array(*asked)).tolist()):
            yield pair

    @staticmethod
    async def astream(client: EmbeddingClient, *asked: Any) -> AsyncIterator[tuple[int, Any]]:
        async for pair in client.aiter_embed(*asked):
            yield pair
