"""How a call is worked off: check, compose, recall, plan, take turns for the batches, put together.

`run` and `arun` stand side by side; what differs is waiting alone: `sync_work` and `async_work`.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from opensearch_embed._call.async_work import AsyncWork
from opensearch_embed._call.attach import attach
from opensearch_embed._call.engine import Engine, Read
from opensearch_embed._call.job import Job
from opensearch_embed._call.progress import Progress, progress_bar
from opensearch_embed._call.recall import Memory
from opensearch_embed._call.results import Store
from opensearch_embed._call.sync_work import SyncWork
from opensearch_embed._call.telemetry import Telemetry, Watch
from opensearch_embed._dispatch.nested import in_a_call, is_nested
from opensearch_embed._dispatch.tasks import offload
from opensearch_embed._texts.batches import Batch, plan
from opensearch_embed._texts.check import check_input_type, check_texts, measure
from opensearch_embed._texts.overflow import LengthRule
from opensearch_embed._texts.repeats import Composition, compose
from opensearch_embed._wire.numbers import as_lists
from opensearch_embed.errors import InputError
from opensearch_embed.models import InputType

ResultT = TypeVar("ResultT")
StoreKind = Callable[[int, int], Store[ResultT]]


class Calls:
    """Works off the calls of one client."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._options = engine.options
        self._rule = LengthRule.of(engine.settings.model, engine.options)
        self._memory = Memory.of(engine.settings, engine.options)
        self.telemetry = Telemetry(engine.settings)

    # --- in threads ---

    @in_a_call
    def run(self, texts: Iterable[str], input_type: str, kind: StoreKind[ResultT], progress: bool) -> ResultT:
        """Work a call off, and return what its store holds."""
        nested = is_nested()
        with self.telemetry.watch() as watch, watch.current():
            role, composition = self.compose(texts, input_type)
            with progress_bar(composition.count, progress) as tick:
                job = self.begin(role, composition, kind, self.recall(role, composition), tick, watch)
                work = SyncWork(self, job, nested=nested)
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
        with self.telemetry.watch() as watch, watch.current():
            role, composition = self.compose(texts, input_type)
            recalled = await self.arecall(role, composition)
            with progress_bar(composition.count, progress) as tick:
                work = AsyncWork(self, self.begin(role, composition, kind, recalled, tick, watch))
                await work.share_or_coordinate()
                result: ResultT = self.outcome(work.job)
                return result

    # --- what both share ---

    def close(self) -> None:
        """Close what is idle, and the cache file."""
        self.engine.close()
        if self._memory is not None:
            self._memory.close()

    def check(self, texts: Iterable[str], input_type: str) -> list[str]:
        """Check the input, and no more."""
        items = check_texts(texts)
        measure(items, empty=self._options.empty, input_type=check_input_type(input_type))
        return items

    @in_a_call
    def compose(self, texts: Iterable[str], input_type: str, first: int = 0) -> tuple[InputType, Composition]:
        """Check the input, and find what is to be sent for it. Nothing is sent yet."""
        items = check_texts(texts)
        try:
            role = check_input_type(input_type)
            sizes = measure(items, empty=self._options.empty, input_type=role, first=first)
            shorten, sure_size = (self._rule.shorten, self._rule.sure_size) if self._rule else (None, 0)
            composition = compose(items, sizes, shorten, sure_size=sure_size, first=first)
        except InputError as error:
            if self._rule is not None:
                self._rule.forget()
            error.pending = list(range(first, first + len(items)))
            raise
        if self._rule is not None:
            self._rule.warn_once()
        return role, composition

    @in_a_call
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

    @in_a_call
    def begin(
        self,
        role: InputType,
        composition: Composition,
        kind: StoreKind[Any],
        recalled: dict[int, list[float]],
        tick: Progress,
        watch: Watch,
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
            watch=watch,
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

    @in_a_call
    def outcome(self, job: Job) -> Any:
        """Return what the store of a job that is over holds, or raise its error."""
        if job.refused:
            self.engine.meter.add(refused=tuple(job.first + index for index in sorted(job.refused)))
        return job.outcome()
