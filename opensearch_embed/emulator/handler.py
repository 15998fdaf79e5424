"""One request from arrival to answer: noted, perhaps failed on purpose, checked, answered.

What the service would say is decided in `service`, what goes wrong in `faults`; this file joins the two.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from multidict import CIMultiDict

from opensearch_embed.emulator.faults import BreakKind, Faults, break_connection
from opensearch_embed.emulator.journal import Journal, Record
from opensearch_embed.emulator.nature import Nature
from opensearch_embed.emulator.quota import Quota
from opensearch_embed.emulator.service import (
    Job,
    Refused,
    Reply,
    check_address,
    check_key,
    count_tokens,
    error_reply,
    read_job,
    success_reply,
)
from opensearch_embed.emulator.vectors import Floats, Vectors


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

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request, or do what the next fault says."""
        with self.journal.under_way():
            raw = await request.content.read()
            record = self._note(request, raw)
            fault = self.faults.take()
            if isinstance(fault, Reply):
                reply = fault
            else:
                reply = await self._answer(request, record, len(raw), fault)
            if fault == "garbled":
                reply = Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)
            self.journal.usage.outcomes[fault if isinstance(fault, str) else reply.status] += 1
            await asyncio.sleep(self.latency_seconds - (time.monotonic() - record.received))
            if isinstance(fault, str) and request.transport is not None:
                await break_connection(request.transport, reply, fault)
            return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    def _note(self, request: web.BaseRequest, raw: bytes) -> Record:
        record = Record(
            method=request.method,
            path=request.raw_path.replace(self.api_key, "***"),
            headers=_blank_keys(request.headers, self.api_key),
            body=_parse(raw),
            received=time.monotonic(),
        )
        self.journal.add(record)
        return record

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
        return success_reply(vectors, order, tokens, (time.monotonic() - record.received) * 1000)

    def _check(self, request: web.BaseRequest, record: Record, size: int) -> Job:
        model = check_address(record.method, record.path)
        check_key(request.headers.get("Authorization", ""), self.api_key)
        if not self.quota.admit(record.received):
            raise Refused(error_reply(429, "Throttling.RateQuota"))
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


def _blank_keys(headers: Mapping[str, str], api_key: str) -> CIMultiDict[str]:
    """Copy headers without the right key, and without the one that was sent: a wrong key may be a real one."""
    sent_key = headers.get("Authorization", "").rpartition(" ")[2]
    blanked = CIMultiDict(headers)
    for key in filter(None, (api_key, sent_key)):
        blanked = CIMultiDict((name, value.replace(key, "***")) for name, value in blanked.items())
    return blanked
