"""How a call is worked off: check, compose, recall, plan, take turns for the batches, put together. Threads or tasks.

The caller takes the turns and hands batches to workers, which only send; a batch that is the last one, or that no
thread can be had for, it sends itself. `run` and `arun` stand side by side, as do the steps below them.
"""

import asyncio
import contextlib
import copy
import functools
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from opensearch_embed._call.ending import ending
from opensearch_embed._call.engine import Engine, Read, Request
from opensearch_embed._call.job import Job, attach
from opensearch_embed._call.recall import Memory
from opensearch_embed._call.results import Store
from opensearch_embed._dispatch.lanes import Turn
from opensearch_embed._dispatch.sharing import Member
from opensearch_embed._dispatch.tasks import AsyncSignal, atry_turn, await_turn, offload
from opensearch_embed._dispatch.threads import Signal, try_turn, wait_for_turn, workers
from opensearch_embed._http.cancel import Cancellation
from opensearch_embed._texts.batches import Batch, plan
from opensearch_embed._texts.check import check_input_type, check_texts, measure
from opensearch_embed._texts.overflow import LengthRule
from opensearch_embed._texts.repeats import Composition, compose
from opensearch_embed._wire.numbers import as_lists
from opensearch_embed.errors import InputError, OpenSearchEmbedError
from opensearch_embed.models import InputType

ResultT = TypeVar("ResultT")
StoreKind = Callable[[int, int], Store[ResultT]]
Progress = Callable[[int], Any] | None

PULLED_ELSEWHERE_SECONDS = 0.001
"""A worker takes the next turn just now, and says so when it could not."""


class Calls:
    """Works off the calls of one client."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._options = engine.options
        self._rule = LengthRule.of(engine.settings.model, engine.options)
        self._memory = Memory.of(engine.settings, engine.options)

    # --- in threads ---

    def run(self, texts: Iterable[str], input_type: str, kind: StoreKind[ResultT], progress: bool) -> ResultT:
        """Work a call off, and return what its store holds."""
        role, composition = self.compose(texts, input_type)
        with progress_bar(composition.count, progress) as tick:
            work = SyncWork(self, self.begin(role, composition, kind, self.recall(role, composition), tick))
            try:
                work.share_or_coordinate()
            except BaseException as interrupt:
                work.cancel()
                work.job.explain(interrupt)
                raise
            result: ResultT = self.outcome(work.job)
            return result

    # --- in tasks ---

    async def arun(self, texts: Iterable[str], input_type: str, kind: StoreKind[ResultT], progress: bool) -> ResultT:
        """Work a call off in tasks of the running event loop, and return what its store holds."""
        role, composition = self.compose(texts, input_type)
        recalled = await self.arecall(role, composition)
        with progress_bar(composition.count, progress) as tick:
            work = AsyncWork(self, self.begin(role, composition, kind, recalled, tick))
            await work.share_or_coordinate()
            result: ResultT = self.outcome(work.job)
            return result

    # --- what both share ---

    def close(self) -> None:
        """Close what is idle, and the cache file."""
        self.engine.close()
        if self._memory is not None:
            self._memory.close()

    def compose(self, texts: Iterable[str], input_type: str, first: int = 0) -> tuple[InputType, Composition]:
        """Check the input, and find what is to be sent for it. Nothing is sent yet."""
        items = check_texts(texts)
        try:
            role = check_input_type(input_type)
            sizes = measure(items, empty=self._options.empty, first=first)
            shorten, sure_size = (self._rule.shorten, self._rule.sure_size) if self._rule else (None, 0)
            composition = compose(items, sizes, shorten, sure_size=sure_size, first=first)
        except InputError as error:
            error.pending = list(range(first, first + len(items)))
            raise
        if self._rule is not None:
            self._rule.warn_once()
        return role, composition

    def recall(self, role: InputType, composition: Composition) -> dict[int, list[float]]:
        """Return the vectors that the cache holds, by number."""
        if self._memory is None:
            return {}
        wanted = {number: composition.items[number] for number, size in enumerate(composition.sizes) if size}
        try:
            found = self._memory.recall(role, wanted)
        except BaseException as error:
            attach(error, {}, list(range(composition.first, composition.first + composition.count)))
            raise
        self.engine.meter.add(cached=len(found))
        return found

    async def arecall(self, role: InputType, composition: Composition) -> dict[int, list[float]]:
        """Return the vectors that the cache holds, by number, without blocking the event loop."""
        return await offload(self.recall, role, composition) if self._memory else {}

    def begin(
        self,
        role: InputType,
        composition: Composition,
        kind: StoreKind[Any],
        recalled: dict[int, list[float]],
        tick: Progress,
    ) -> Job:
        """Plan what is left to be sent, and return it as a job."""
        sizes = composition.sizes
        copies = {index for repeated in composition.copies.values() for index in repeated}
        blank = [
            index
            for index in range(composition.count)
            if not sizes[index] and index not in copies and index not in composition.pieces
        ]
        store = kind(composition.count, self.engine.settings.model.dimension)
        left = [0 if number in recalled else size for number, size in enumerate(sizes)] if recalled else sizes
        job = Job(
            composition.count,
            plan(composition.items, left, self._options.batch_size),
            blank,
            input_type=role,
            store=store,
            on_progress=tick,
            on_error=self._options.on_error,
            composition=composition,
            combine=self._rule.combine if self._rule else None,
        )
        if recalled:
            job.recall(dict(zip(recalled, store.read(list(recalled.values())), strict=True)))
        return job

    def read_of(self, job: Job) -> Read:
        """Return what reads the numbers of a reply: a cache keeps them as they came."""
        return job.store.read if self._memory is None else as_lists

    def keep(self, job: Job, batch: Batch, vectors: Any) -> None:
        """Put a batch's vectors where the call wants them, and into the cache."""
        if self._memory is None:
            job.put(batch, vectors)
        else:
            problem = self._memory.keep(job.input_type, batch.texts, vectors)
            job.put(batch, job.store.read(vectors), problem)

    async def akeep(self, job: Job, batch: Batch, vectors: Any) -> None:
        """Put a batch's vectors where they belong, without blocking the event loop."""
        if self._memory is None:
            job.put(batch, vectors)
        else:
            problem = await offload(self._memory.keep, job.input_type, batch.texts, vectors)
            job.put(batch, job.store.read(vectors), problem)

    def outcome(self, job: Job) -> Any:
        """Return what the store of a job that is over holds, or raise its error."""
        if job.refused:
            self.engine.meter.add(refused=tuple(job.first + index for index in sorted(job.refused)))
        return job.outcome()


class SyncWork:
    """One job, worked off by the thread that calls and by workers.

    Attributes:
        job: Its texts and vectors.
        cancellation: Ends its requests, and those of no other call.
    """

    def __init__(self, calls: Calls, job: Job, owner: object = None) -> None:
        self.job = job
        self.cancellation = Cancellation()
        self._calls = calls
        self._engine = calls.engine
        self._owner = owner or job
        self._place = self._engine.threads
        self._read = calls.read_of(job)
        self._signal = self._new_signal()
        self._turn: Turn | None = None
        self._pulling = threading.Lock()
        options = calls.engine.options
        self._unlimited = options.qps is None and options.limiter is None
        # What is slow the first time, such as imports, is done by the caller.
        self._engine.connections.transport()
        ending.note(self)

    def cancel(self) -> None:
        """Send nothing more, and end what is under way. Takes no lock, and waits for nothing."""
        self.job.halt()
        self.cancellation.cancel()

    def share_or_coordinate(self) -> None:
        """Work the job off, and return when it is over: a small one together with others."""
        job = self.job
        if job.is_small and (batch := job.take()) is not None:
            try:
                self._share(batch)
            except Exception as error:  # noqa: BLE001 - raised with all that was done, below
                job.fail(error, batch)
            finally:
                job.end(batch)
        self.coordinate()

    def coordinate(self) -> None:
        """Take the turns of a job, hand its batches over, and return when it is over."""
        job, engine = self.job, self._engine
        try:
            while not job.settled:
                wait, batch, turn = self._pull()
                if batch is None or turn is None:
                    self._signal.wait(wait)
                # The last batch, so also the only one, is sent where it is called.
                elif not len(job) or not workers().run(functools.partial(self._work_on, batch, turn)):
                    self._work(batch, turn)
                    if isinstance(job.error, KeyboardInterrupt):
                        raise job.error
        finally:
            if self._turn is not None:
                engine.turnstile.drop(self._turn)
            ending.hold_if_over(self)

    def _pull(self) -> tuple[float, Batch | None, Turn | None]:
        """Take a turn for the next batch, if it is due; else return the seconds to wait."""
        if not self._pulling.acquire(blocking=False):
            return PULLED_ELSEWHERE_SECONDS, None, None
        try:
            return self._pull_alone()
        finally:
            self._pulling.release()

    def _pull_alone(self) -> tuple[float, Batch | None, Turn | None]:
        job = self.job
        if not len(job) or job.halted or len(job.live) >= self._place.pool.limit:
            return math.inf, None, None
        turn = self._turn
        if turn is None:
            turn = self._turn = self._new_turn(self._owner)
        try:
            wait = try_turn(self._engine.turnstile, turn, math.inf)
            if wait:
                return wait, None, None
            self._turn = None
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

    def _work_on(self, batch: Batch | None, turn: Turn | None) -> None:
        """Work on a batch, and then on others that are due at once: that spares handing them over."""
        while batch is not None and turn is not None:
            self._work(batch, turn)
            _, batch, turn = self._pull() if self._unlimited else (0.0, None, None)
        self._signal.set()

    def _work(self, batch: Batch, turn: Turn) -> None:
        job = self.job
        signal = self._new_signal()
        try:
            vectors = self._exchange(batch.texts, turn, signal)
            self._calls.keep(job, batch, vectors)
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            self._engine.turnstile.drop(turn)
            job.fail(error, batch)
        finally:
            job.wakers.pop(id(signal), None)
            job.end(batch)

    def _share(self, batch: Batch) -> None:
        """Send a batch together with those of other calls that wait; by itself if another's text may be at fault."""
        sharing, job = self._place.sharing, self.job
        key = (job.input_type, self._read)
        member = sharing.join(key, batch.texts, batch.size, self._signal.set)
        request = member.request
        try:
            while not request.settled and not job.halted:
                if member.leads:
                    self._lead(member)
                else:
                    self._signal.wait(math.inf)
        finally:
            sharing.leave(member)
        if job.halted:
            return
        if member.apart:
            job.put_back(batch)
        elif request.error is not None:
            job.fail(own_copy(request.error), batch)
        else:
            self._calls.keep(job, batch, picked(member))

    def _lead(self, member: Member) -> None:
        request, sharing, engine = member.request, self._place.sharing, self._engine
        turn = self._new_turn(request, lone=True)
        if not wait_for_turn(engine.turnstile, turn, self._signal, math.inf, lambda: self.job.halted):
            return
        try:
            sharing.close(request)
            vectors = self._exchange(request.texts, turn, self._signal)
        except OpenSearchEmbedError as error:
            sharing.settle(request, error=error)
        except BaseException:
            engine.turnstile.drop(turn)
            raise
        else:
            sharing.settle(request, vectors)

    def _exchange(self, texts: Any, turn: Turn, signal: Signal) -> Any:
        request = Request(texts, self.job.input_type, self._read, turn, lambda: self.job.halted)
        return self._engine.exchange(request, signal, self.cancellation)

    def _new_turn(self, owner: object, *, lone: bool = False) -> Turn:
        return self._engine.turn(owner, self.job.input_type, self._signal, self._place.pool, lone=lone)

    def _new_signal(self) -> Signal:
        signal = Signal()
        self.job.wakers[id(signal)] = signal.set
        return signal


class AsyncWork:
    """One job, worked off by the task that calls and by tasks of its own. See `SyncWork`."""

    def __init__(self, calls: Calls, job: Job, owner: object = None) -> None:
        self.job = job
        self._calls = calls
        self._engine = calls.engine
        self._owner = owner or job
        self._place = self._engine.in_loop()
        self._read = calls.read_of(job)
        self._signal = self._new_signal()
        self._turn: Turn | None = None

    async def share_or_coordinate(self) -> None:
        """Work the job off, and return when it is over: a small one together with others."""
        job = self.job
        if len(job):
            # What is slow the first time, such as imports, is done before a turn is taken.
            await self._engine.connections.here()
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
                    await self._signal.wait(wait)
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
            if self._turn is not None:
                self._engine.turnstile.drop(self._turn)
            if not job.settled:
                job.halt()
            for task in list(tasks):
                task.cancel()
            if tasks and not collected:
                await asyncio.wait(list(tasks))

    async def _pull(self) -> tuple[float, Batch | None, Turn | None]:
        job = self.job
        if not len(job) or job.halted or len(job.live) >= self._place.pool.limit:
            return math.inf, None, None
        turn = self._turn
        if turn is None:
            turn = self._turn = self._new_turn(self._owner)
        try:
            wait = await atry_turn(self._engine.turnstile, turn, math.inf)
            if wait:
                return wait, None, None
            self._turn = None
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
            vectors = await self._exchange(batch.texts, turn, signal)
            await self._calls.akeep(job, batch, vectors)
        except BaseException as error:
            self._engine.turnstile.drop(turn)
            job.fail(error, batch)
            if not isinstance(error, Exception):
                raise
        finally:
            job.wakers.pop(id(signal), None)
            job.end(batch)

    async def _share(self, batch: Batch) -> None:
        sharing, job = self._place.sharing, self.job
        key = (job.input_type, self._read)
        member = sharing.join(key, batch.texts, batch.size, self._signal.set_here)
        request = member.request
        try:
            while not request.settled:
                if member.leads:
                    await self._lead(member)
                else:
                    await self._signal.wait(math.inf)
        finally:
            sharing.leave(member)
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
            vectors = await self._exchange(request.texts, turn, self._signal)
        except OpenSearchEmbedError as error:
            sharing.settle(request, error=error)
        except BaseException:
            engine.turnstile.drop(turn)
            raise
        else:
            sharing.settle(request, vectors)

    async def _exchange(self, texts: Any, turn: Turn, signal: AsyncSignal) -> Any:
        request = Request(texts, self.job.input_type, self._read, turn, lambda: self.job.halted)
        return await self._engine.aexchange(request, signal)

    def _new_turn(self, owner: object, *, lone: bool = False) -> Turn:
        return self._engine.turn(owner, self.job.input_type, self._signal, self._place.pool, lone=lone)

    def _new_signal(self) -> AsyncSignal:
        signal = AsyncSignal(self._place.host)
        self.job.wakers[id(signal)] = signal.set_here
        return signal


def picked(member: Member) -> Any:
    """Return one call's vectors of a shared request, in lists of its own."""
    request, vectors = member.request, member.request.vectors
    if request.joined == 1:
        return vectors
    if isinstance(vectors, list):
        return [vectors[place][:] for place in member.places]
    return vectors[member.places]


def own_copy(error: BaseException) -> BaseException:
    """Return an error that a call can fill in without touching another's."""
    twin = copy.copy(error)
    vars(twin).update({name: list(value) for name, value in vars(error).items() if isinstance(value, list)})
    twin.__cause__ = error.__cause__
    return twin.with_traceback(error.__traceback__)


@contextlib.contextmanager
def progress_bar(total: int | None, show: bool) -> Iterator[Progress]:
    """Show a progress bar, or none; give what is to be called with the number of texts done."""
    if not show:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Embedding", unit="text") as bar:
        yield bar.update
