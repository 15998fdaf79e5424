"""How a call is worked off: check, compose, recall, plan, work on the batches, put together. Threads or tasks.

`run` and `arun` stand side by side, as do the steps below them; what differs is waiting alone.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from opensearch_embed._compose import Composition, compose
from opensearch_embed._engine import Engine
from opensearch_embed._job import Job, StopT, attach
from opensearch_embed._memory import Memory
from opensearch_embed._overflow import LengthRule
from opensearch_embed._plan import Batch, check_input_type, check_texts, measure, plan
from opensearch_embed._runtime import LoopRuntime
from opensearch_embed._store import Store
from opensearch_embed.errors import InputError
from opensearch_embed.models import InputType

ResultT = TypeVar("ResultT")
StoreKind = Callable[[int, int], Store[ResultT]]
Progress = Callable[[int], Any] | None


class Calls:
    """Works off the calls of one client."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._options = engine.options
        self._rule = LengthRule.of(engine.settings.model, engine.options)
        self._memory = Memory.of(engine.settings, engine.options)

    def run(self, texts: Iterable[str], input_type: str, kind: StoreKind[ResultT], progress: bool) -> ResultT:
        """Work a call off on worker threads, and return what its store holds."""
        role, composition = self.compose(texts, input_type)
        with progress_bar(composition.count, progress) as tick:
            job = self.begin(role, composition, kind, threading.Event(), self.recall(role, composition), tick)
            self.start(job)
            result: ResultT = self.finish(job)
            return result

    def start(self, job: Job[threading.Event]) -> None:
        """Give the first batches of a job to workers."""
        for _ in range(self._options.max_concurrency):
            if (batch := job.take()) is None:
                break
            if not self._hand_over(batch, job):
                self._work(batch, job)

    def finish(self, job: Job[threading.Event], others: Iterable[Job[threading.Event]] = ()) -> Any:
        """Wait until a job is over, and return what its store holds. An interrupt stops the others of a stream too."""
        try:
            # In slices, since on Windows Ctrl-C does not wake a wait.
            while not job.settled.wait(0.5):
                pass
        except BaseException as interrupt:
            for stopped in (job, *others):
                stopped.halt()
            self.engine.runtime.hang_up()
            job.settled.wait(0.5)
            job.explain(interrupt)
            raise
        return self.outcome(job)

    def halt(self, jobs: Sequence[Job[threading.Event]], *, at_once: bool) -> None:
        """Send nothing more. What is under way may come to its end, unless the consumer has left, or pressed Ctrl-C."""
        for job in jobs:
            job.halt()
        if jobs and at_once:
            # Requests of the client's other calls end too; those are sent again.
            self.engine.runtime.hang_up()
        for job in jobs:
            job.settled.wait(0.5 if at_once else self._options.timeout)

    def _hand_over(self, batch: Batch, job: Job[threading.Event]) -> bool:
        """Give a batch to a worker, if there are workers still: not when the interpreter is shutting down."""
        try:
            self.engine.runtime.submit(self._work, batch, job)
        except RuntimeError:
            return False
        return True

    def _work(self, batch: Batch | None, job: Job[threading.Event]) -> None:
        """Do one batch, and hand the next one over: so the batches of other threads get their turn between."""
        while batch is not None:
            try:
                vectors = self.engine.exchange(batch, job)
                problem = self._memory.keep(job.input_type, batch.texts, vectors) if self._memory else None
                job.put(batch, job.store.read(vectors) if self._memory else vectors, problem)
            except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
                job.fail(error, batch)
            batch = job.take()
            if batch is not None and self._hand_over(batch, job):
                return

    async def arun(self, texts: Iterable[str], input_type: str, kind: StoreKind[ResultT], progress: bool) -> ResultT:
        """Work a call off in tasks of the running event loop, and return what its store holds."""
        role, composition = self.compose(texts, input_type)
        recalled = await self.arecall(role, composition)
        with progress_bar(composition.count, progress) as tick:
            job = self.begin(role, composition, kind, asyncio.Event(), recalled, tick)
            await self.awork(job)
            result: ResultT = self.outcome(job)
            return result

    async def awork(self, job: Job[asyncio.Event]) -> None:
        """Work on a job until it is over."""
        here = await self.engine.runtime.here()
        workers = min(len(job), self._options.max_concurrency)
        if workers == 1:
            await self._awork(job, here)
        else:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._awork(job, here))

    async def _awork(self, job: Job[asyncio.Event], here: LoopRuntime) -> None:
        while (batch := job.take()) is not None:
            try:
                async with here.slots:
                    vectors = await self.engine.aexchange(batch, job)
                if self._memory is None:
                    job.put(batch, vectors)
                else:
                    problem = await asyncio.to_thread(self._memory.keep, job.input_type, batch.texts, vectors)
                    job.put(batch, job.store.read(vectors), problem)
            except Exception as error:  # noqa: BLE001 - the call that gathers the batches raises it
                job.fail(error, batch)

    def close(self) -> None:
        """Close threads, their connections, and the cache file."""
        self.engine.runtime.close()
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
        except Exception as error:
            attach(error, {}, list(range(composition.first, composition.first + composition.count)))
            raise
        self.engine.meter.add(cached=len(found))
        return found

    async def arecall(self, role: InputType, composition: Composition) -> dict[int, list[float]]:
        """Return the vectors that the cache holds, by number, without blocking the event loop."""
        return await asyncio.to_thread(self.recall, role, composition) if self._memory else {}

    def begin(
        self,
        role: InputType,
        composition: Composition,
        kind: StoreKind[Any],
        stop: StopT,
        recalled: dict[int, list[float]],
        tick: Progress,
    ) -> Job[StopT]:
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
            plan(composition.items, left),
            blank,
            input_type=role,
            store=store,
            stop=stop,
            on_progress=tick,
            on_error=self._options.on_error,
            composition=composition,
            combine=self._rule.combine if self._rule else None,
        )
        if recalled:
            job.recall(dict(zip(recalled, store.read(list(recalled.values())), strict=True)))
        return job

    def outcome(self, job: Job[Any]) -> Any:
        """Return what the store of a job that is over holds, or raise its error."""
        if job.refused:
            self.engine.meter.add(refused=tuple(job.first + index for index in sorted(job.refused)))
        return job.outcome()


@contextlib.contextmanager
def progress_bar(total: int | None, show: bool) -> Iterator[Progress]:
    """Show a progress bar, or none; give what is to be called with the number of texts done."""
    if not show:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Embedding", unit="text") as bar:
        yield bar.update
