"""One job, worked off by the task that calls and by tasks of its own. `sync_work` is the twin."""

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

from opensearch_embed._call.engine import Request
from opensearch_embed._call.job import Job
from opensearch_embed._call.shared import own_copy, picked
from opensearch_embed._call.telemetry import Together, Watch
from opensearch_embed._dispatch.lanes import Turn
from opensearch_embed._dispatch.sharing import Member
from opensearch_embed._dispatch.tasks import AsyncSignal, atry_turn, await_turn
from opensearch_embed._dispatch.threads import LOOK_AGAIN_SECONDS
from opensearch_embed._texts.batches import Batch
from opensearch_embed.errors import OpenSearchEmbedError

if TYPE_CHECKING:
    from opensearch_embed._call.call import Calls


class AsyncWork:
    """One job, worked off by the task that calls and by tasks of its own. See `SyncWork`."""

    def __init__(self, calls: "Calls", job: Job, owner: object = None) -> None:
        self.job = job
        self._calls = calls
        self._engine = calls.engine
        self._owner = owner or job
        self._place = self._engine.in_loop()
        self._read = calls.read_of(job)
        self._signal = self._new_signal()
        self._turn: Turn | None = None
        self._taken: Turn | None = None  # and no task has it yet

    async def share_or_coordinate(self) -> None:
        """Work the job off, and return when it is over: a small one together with others."""
        job = self.job
        if len(job):
            # What is slow the first time, such as imports, is done before a turn is taken.
            try:
                await self._engine.connections.here()
            except OpenSearchEmbedError as error:
                raise job.explain(error) from error.__cause__
        if job.is_small and (batch := job.take()) is not None:
            try:
                await self._share(batch)
            except Exception as error:  # noqa: BLE001 - raised with all that was done, below
                job.fail(error, batch)
            finally:
                job.end(batch)
        await self.coordinate()

    async def coordinate(self) -> None:
        """Take the turns of a job, begin its batches, and return when it is over."""
        job = self.job
        tasks: set[asyncio.Task[None]] = set()
        collected = False
        try:
            while not job.settled:
                wait, batch, turn = await self._pull()
                if batch is None or turn is None:
                    await self._signal.wait(min(wait, LOOK_AGAIN_SECONDS))
                elif not len(job) and not tasks:
                    await self._work(batch, turn)
                else:
                    task = asyncio.create_task(self._work(batch, turn))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        except GeneratorExit:  # the event loop is gone, and nothing can be waited for
            collected = True
            raise
        finally:
            for left in (self._turn, self._taken):
                if left is not None:
                    self._engine.turnstile.drop(left)
            if not job.settled:
                job.halt()
            for task in list(tasks):
                with contextlib.suppress(RuntimeError):  # its event loop is closed
                    task.cancel()
            if tasks and not collected:
                await asyncio.wait(list(tasks))

    async def _pull(self) -> tuple[float, Batch | None, Turn | None]:
        job = self.job
        if not job.ready or len(job.live) >= self._place.pool.limit:
            return math.inf, None, None
        turn = self._turn
        if turn is None:
            turn = self._turn = self._new_turn(self._owner)
        try:
            wait = await atry_turn(self._engine.turnstile, turn, math.inf)
            if wait:
                return wait, None, None
            self._taken, self._turn = turn, None
            batch = job.take()
        except BaseException as error:
            self._engine.turnstile.drop(turn)
            if not isinstance(error, Exception):
                raise
            job.fail(error)
            return math.inf, None, None
        if batch is None:
            self._engine.turnstile.drop(turn)
        return 0.0, batch, turn

    async def _work(self, batch: Batch, turn: Turn) -> None:
        job = self.job
        signal = self._new_signal()
        try:
            vectors = await self._exchange(batch.texts, turn, signal, job.watch)
            await self._calls.akeep(job, batch, vectors)
        except BaseException as error:
            job.fail(error, batch)
            self._engine.turnstile.drop(turn)
            if not isinstance(error, Exception):
                raise
        finally:
            job.wakers.pop(id(signal), None)
            job.end(batch)

    async def _share(self, batch: Batch) -> None:
        sharing, job = self._place.sharing, self.job
        key = (job.input_type, self._read)
        joined: list[Member] = []
        try:
            member = sharing.join(key, batch.texts, batch.size, self._signal.set_here, job.watch, joined=joined)
            request = member.request
            while not request.settled:
                if member.leads:
                    await self._lead(member)
                else:
                    await self._signal.wait(LOOK_AGAIN_SECONDS)
        finally:
            for one in joined:
                sharing.leave(one)
        if member.apart:
            job.put_back(batch)
        elif request.error is not None:
            job.fail(own_copy(request.error), batch)
        else:
            await self._calls.akeep(job, batch, picked(member))

    async def _lead(self, member: Member) -> None:
        request, sharing, engine = member.request, self._place.sharing, self._engine
        turn = self._new_turn(request, lone=True)
        if not await await_turn(engine.turnstile, turn, self._signal, math.inf, lambda: self.job.halted):
            return
        try:
            sharing.close(request)
            vectors = await self._exchange(request.texts, turn, self._signal, Together(request))
        except OpenSearchEmbedError as error:
            sharing.settle(request, error=error)
            engine.turnstile.drop(turn)
        except BaseException:
            engine.turnstile.drop(turn)
            raise
        else:
            sharing.settle(request, vectors)

    async def _exchange(self, texts: Any, turn: Turn, signal: AsyncSignal, watch: Watch) -> Any:
        request = Request(texts, self.job.input_type, self._read, turn, lambda: self.job.halted, watch)
        return await self._engine.aexchange(request, signal)

    def _new_turn(self, owner: object, *, lone: bool = False) -> Turn:
        return self._engine.turn(owner, self.job.input_type, self._signal, self._place.pool, lone=lone)

    def _new_signal(self) -> AsyncSignal:
        signal = AsyncSignal(self._place.host)
        self.job.wakers[id(signal)] = signal.set_here
        return signal
