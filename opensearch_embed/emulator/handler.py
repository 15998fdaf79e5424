"""One request from arrival to answer: noted, perhaps failed on purpose, checked, answered.

What the service would say is decided in `service` and, for its second door, `compatible`; what goes wrong, in `faults`;
this file joins them.
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from multidict import CIMultiDict

from opensearch_embed.emulator import compatible
from opensearch_embed.emulator.faults import BreakKind, Faults, break_connection
from opensearch_embed.emulator.journal import Journal, Record
from opensearch_embed.emulator.nature import Nature
from opensearch_embed.emulator.quota import Quota
from opensearch_embed.emulator.service import (
    Job,
    Refused,
    Reply,
    check_key,
    check_method,
    check_workspace,
    count_tokens,
    error_reply,
    find_model,
    gateway_reply,
    read_job,
    success_reply,
)
from opensearch_embed.emulator.vectors import Floats, Vectors
from opensearch_embed.models import MAX_BODY_BYTES

MAX_KEYLESS_BYTES = 100_000
"""Read of a request without the right key."""

BODY_SECONDS = 30.0
"""For a body to come in."""

SHORTEST_KEY_IN_BODY = 6
"""A shorter key is no secret, and would be found in every other text."""


@dataclass(slots=True)
class Handler:
    """Answers requests. `arrange` puts the indices of an answer's vectors into the order to send them in."""

    api_key: str
    vectors: Vectors
    quota: Quota
    faults: Faults
    journal: Journal
    latency_seconds: float
    arrange: Callable[[list[int]], object]
    nature: Nature
    workspace: str | None = None

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request, or do what the next fault says."""
        with self.journal.under_way():
            raw, problem = await self._read(request)
            record, noted = self._note(request, raw)
            fault = self.faults.take()
            if problem is not None and not isinstance(fault, Reply):
                reply = problem
            elif isinstance(fault, Reply):
                reply = fault
            else:
                reply = await self._answer(request, record, len(raw), fault)
            if compatible.is_compatible(record.path):
                reply = compatible.in_openai_form(reply)
            if fault == "garbled":
                reply = Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)
            passed = time.monotonic() - record.received
            outcome = fault if isinstance(fault, str) else reply.status
            self.journal.count_outcome(noted, outcome, 1000 * max(passed, self.latency_seconds))
            await asyncio.sleep(self.latency_seconds - passed)
            if isinstance(fault, str) and request.transport is not None:
                await break_connection(request.transport, reply, fault)
            return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    async def _read(self, request: web.BaseRequest) -> tuple[bytes, Reply | None]:
        """Return the body, or what is answered in its place: nobody makes the emulator keep more than it may be."""
        knows_key = request.headers.get("Authorization", "") == f"Bearer {self.api_key}"
        limit = MAX_BODY_BYTES if knows_key else MAX_KEYLESS_BYTES
        size, chunks = request.content_length or 0, list[bytes]()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while size <= limit and (chunk := await request.content.readany()):
                    chunks.append(chunk)
                    size = max(size, sum(map(len, chunks)))
        except TimeoutError:
            return b"", gateway_reply(408, "Request Timeout")
        if size > limit:
            return b"", None if not knows_key else gateway_reply(413, "Request Entity Too Large")
        return b"".join(chunks), None

    def _note(self, request: web.BaseRequest, raw: bytes) -> tuple[Record, Record]:
        """Return the request as it came, and as it is remembered: without keys."""
        path, body = request.raw_path, _parse(raw)
        headers = CIMultiDict(request.headers)
        # A wrong key that was sent may be a real one.
        blank = Blank(self.api_key, headers.get("Authorization", "").rpartition(" ")[2])
        blanked = CIMultiDict((blank.words(name), blank.words(value)) for name, value in headers.items())
        now = time.monotonic()
        noted = Record(request.method, blank.words(path), blanked, blank.body(body), now)
        self.journal.add(noted)
        return Record(request.method, path, headers, body, now), noted

    async def _answer(self, request: web.BaseRequest, record: Record, size: int, fault: BreakKind | None) -> Reply:
        try:
            job = self.nature.take(self._check(request, record, size))
        except Refused as refused:
            return refused.reply
        vectors = self.nature.scale(await self._embed(job))
        order = list(range(len(job.texts)))
        self.arrange(order)
        if fault == "short":
            order.pop()
        tokens = sum(map(count_tokens, job.texts))
        if fault is None:
            self.journal.count_success(len(job.texts), tokens)
        if compatible.is_compatible(record.path):
            return compatible.success_reply(record, vectors, order, tokens)
        return success_reply(vectors, order, tokens, (time.monotonic() - record.received) * 1000)

    def _check(self, request: web.BaseRequest, record: Record, size: int) -> Job:
        model = None if compatible.is_compatible(record.path) else find_model(record.path)
        check_method(record.method)
        check_key(request.headers.get("Authorization", ""), self.api_key)
        check_workspace(record.path, self.workspace)
        if not self.quota.admit(record.received):
            raise Refused(error_reply(429, "Throttling.RateQuota"))
        if model is None:
            return compatible.read_job(record, size, self.vectors.dimensions)
        return read_job(record, size, model, self.vectors.dimensions)

    async def _embed(self, job: Job) -> Floats:
        if self.vectors.slow:
            return await asyncio.to_thread(self.vectors.embed, job.texts, job.input_type, job.model)
        return self.vectors.embed(job.texts, job.input_type, job.model)


def _parse(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw


class Blank:
    """Blanks keys wherever they stand, in any case."""

    def __init__(self, *keys: str) -> None:
        self._anywhere, self._in_bodies = (
            re.compile("|".join(re.escape(key) for key in keys if len(key) >= shortest) or r"(?!)", re.IGNORECASE)
            for shortest in (1, SHORTEST_KEY_IN_BODY)
        )

    def words(self, words: str) -> str:
        """Return a path, or a header's name or value, without them."""
        return self._anywhere.sub("***", words)

    def body(self, body: Any) -> Any:
        """Return JSON or bytes without them."""
        if isinstance(body, str):
            return self._in_bodies.sub("***", body)
        if isinstance(body, bytes):
            return self._in_bodies.sub("***", body.decode("latin-1")).encode("latin-1")
        if isinstance(body, list):
            return [self.body(item) for item in body]
        if isinstance(body, dict):
            return {self.body(name): self.body(value) for name, value in body.items()}
        return body
