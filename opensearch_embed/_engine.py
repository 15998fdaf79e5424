"""How one call is worked off: plan, pace, send, retry, put together. Sync by threads, async by tasks.

`run` and `arun` stand side by side, as do the steps below them; what differs is waiting alone.
"""

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from opensearch_embed._conceal import concealing, strip
from opensearch_embed._job import Job, Stopped, StopT
from opensearch_embed._plan import Batch, check_input_type, check_texts, measure, plan
from opensearch_embed._refusal import Reply
from opensearch_embed._retry import Attempts, RetryPolicy
from opensearch_embed._runtime import LoopRuntime, Runtime
from opensearch_embed._shared import pace_for
from opensearch_embed._store import Array, Lists
from opensearch_embed._transport import Target
from opensearch_embed._wire import decode_reply, encode_request
from opensearch_embed.errors import InputError, OpenSearchEmbedError, RateLimited
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings
from opensearch_embed.usage import Meter, Usage

StoreKind = type[Lists] | type[Array]


class Engine:
    """Everything behind the public methods of one client."""

    def __init__(self, settings: Settings, options: Options) -> None:
        self._settings = settings
        self._options = options
        self._policy = RetryPolicy(options.max_attempts, options.retry_timeout)
        self._meter = Meter()
        self.go_live()
        _engines.add(self)

    def go_live(self) -> None:
        """Make what does not travel. Again in a forked child, where locks and connections are the parent's."""
        settings, options = self._settings, self._options
        self._pace = pace_for(settings, options)
        self._meter = Meter(self._meter.usage)
        # Two threads cannot decode at once, the interpreter sees to that; taking turns, they need less memory.
        self._decoding = threading.Lock()
        self.runtime = Runtime(Target(settings, options.timeout, options.max_concurrency))

    @property
    def usage(self) -> Usage:
        """What has been spent so far."""
        return self._meter.usage

    def run(self, texts: Iterable[str], input_type: str, kind: StoreKind, progress: bool) -> Any:
        """Work a call off on worker threads, and return what its store holds."""
        with self._begin(texts, input_type, kind, progress, threading.Event()) as job:
            for _ in range(self._options.max_concurrency):
                if (batch := job.take()) is None:
                    break
                if not self._hand_over(batch, job):
                    self._work(batch, job)
            try:
                # In slices, since on Windows Ctrl-C does not wake a wait.
                while not job.settled.wait(0.5):
                    pass
            except BaseException as interrupt:
                job.stop.set()
                self.runtime.hang_up()
                job.settled.wait(0.5)
                job.explain(interrupt)
                raise
            return job.outcome()

    def _hand_over(self, batch: Batch, job: Job[threading.Event]) -> bool:
        """Give a batch to a worker, if there are workers still: not when the interpreter is shutting down."""
        try:
            self.runtime.submit(self._work, batch, job)
        except RuntimeError:
            return False
        return True

    def _work(self, batch: Batch | None, job: Job[threading.Event]) -> None:
        """Do one batch, and hand the next one over: so the batches of other threads get their turn between."""
        while batch is not None:
            try:
                job.put(batch, self._exchange(batch, job))
            except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
                job.fail(error)
            batch = job.take()
            if batch is not None and self._hand_over(batch, job):
                return

    async def arun(self, texts: Iterable[str], input_type: str, kind: StoreKind, progress: bool) -> Any:
        """Work a call off in tasks of the running event loop, and return what its store holds."""
        with self._begin(texts, input_type, kind, progress, asyncio.Event()) as job:
            here = await self.runtime.here()
            workers = min(len(job), self._options.max_concurrency)
            if workers == 1:
                await self._awork(job, here)
            else:
                async with asyncio.TaskGroup() as group:
                    for _ in range(workers):
                        group.create_task(self._awork(job, here))
            return job.outcome()

    async def _awork(self, job: Job[asyncio.Event], here: LoopRuntime) -> None:
        while (batch := job.take()) is not None:
            try:
                async with here.slots:
                    vectors = await self._aexchange(batch, job, here)
                job.put(batch, vectors)
            except Exception as error:  # noqa: BLE001 - the call that gathers the batches raises it
                job.fail(error)

    def _exchange(self, batch: Batch, job: Job[threading.Event]) -> Any:
        if not self._pace.take_turn(job.stop):
            raise Stopped
        body, transport = encode_request(batch.texts, job.input_type), self.runtime.transport

        def attempt() -> Any:
            self._meter.add(requests=1)
            return self._understand(transport.send(body), batch, job)

        return Attempts(self._policy, self._pace, job.stop, self._count_retry).run(attempt)

    async def _aexchange(self, batch: Batch, job: Job[asyncio.Event], here: LoopRuntime) -> Any:
        if not await self._pace.atake_turn(job.stop):
            raise Stopped
        body, transport = encode_request(batch.texts, job.input_type), here.transport

        async def attempt() -> Any:
            self._meter.add(requests=1)
            return self._understand(await transport.send(body), batch, job)

        return await Attempts(self._policy, self._pace, job.stop, self._count_retry).arun(attempt)

    def _count_retry(self) -> None:
        self._meter.add(retries=1)

    def _understand(self, reply: Reply, batch: Batch, job: Job[Any]) -> Any:
        conceal = concealing(self._settings.api_key.get_secret_value(), batch.texts)
        try:
            with self._decoding:
                embedded = decode_reply(
                    reply,
                    expected=len(batch.texts),
                    dimension=self._settings.model.dimension,
                    read=job.store.read,
                    conceal=conceal,
                )
        except OpenSearchEmbedError as error:
            self._pace.saw(throttled=isinstance(error, RateLimited))
            strip(error.__cause__, conceal)
            # Raised from here, without the frames that hold the reply.
            raise error.with_traceback(None) from error.__cause__
        self._pace.saw(throttled=False)
        self._meter.add(texts=len(batch.texts), tokens=embedded.tokens)
        return embedded.vectors

    @contextlib.contextmanager
    def _begin(
        self, texts: Iterable[str], input_type: str, kind: StoreKind, progress: bool, stop: StopT
    ) -> Iterator[Job[StopT]]:
        """Check the input, plan the call and open its progress bar. Nothing is sent yet."""
        role, items = check_input_type(input_type), check_texts(texts)
        try:
            sizes = measure(items, empty=self._options.empty)
        except InputError as error:
            error.pending = list(range(len(items)))
            raise
        blank = [index for index, size in enumerate(sizes) if not size]
        with contextlib.ExitStack() as stack:
            bar = stack.enter_context(_progress_bar(len(items))) if progress else None
            store = kind(len(items), self._settings.model.dimension)
            yield Job(
                len(items),
                plan(items, sizes),
                blank,
                input_type=role,
                store=store,
                stop=stop,
                on_progress=bar.update if bar is not None else None,
            )


def _progress_bar(total: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="Embedding", unit="text")


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_left_to_the_parent: list[Runtime] = []


def _go_live_after_fork() -> None:
    for engine in list(_engines):
        # Kept, so that the child does not tidy up connections that the parent goes on using.
        _left_to_the_parent.append(engine.runtime)
        engine.go_live()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_go_live_after_fork)
