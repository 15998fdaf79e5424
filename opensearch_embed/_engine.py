"""How one batch is worked off: pace, send, retry, understand. And what of a client does not travel to other processes.

`exchange` and `aexchange` stand side by side; what differs is waiting alone.
"""

import asyncio
import os
import threading
import weakref
from typing import Any

from opensearch_embed._conceal import concealing, strip
from opensearch_embed._job import Job, Stopped
from opensearch_embed._numbers import as_lists
from opensearch_embed._plan import Batch
from opensearch_embed._refusal import Reply
from opensearch_embed._retry import Attempts, RetryPolicy
from opensearch_embed._runtime import Runtime
from opensearch_embed._shared import pace_for
from opensearch_embed._transport import Target
from opensearch_embed._wire import decode_reply, encode_request
from opensearch_embed.errors import OpenSearchEmbedError, RateLimited
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings
from opensearch_embed.usage import Meter


class Engine:
    """Gets batches answered, for all calls of one client.

    Attributes:
        settings: Which service is called.
        options: How hard it may work.
        meter: Adds up what is spent.
        runtime: Threads and connections.
    """

    def __init__(self, settings: Settings, options: Options) -> None:
        self.settings = settings
        self.options = options
        self.meter = Meter()
        self._policy = RetryPolicy(options.max_attempts, options.retry_timeout)
        self.go_live()
        _engines.add(self)

    def go_live(self) -> None:
        """Make what does not travel. Again in a forked child, where locks and connections are the parent's."""
        self._pace = pace_for(self.settings, self.options)
        self.meter = Meter(self.meter.usage)
        # Two threads cannot decode at once, the interpreter sees to that; taking turns, they need less memory.
        self._decoding = threading.Lock()
        self.runtime = Runtime(Target(self.settings, self.options.timeout, self.options.max_concurrency))

    def exchange(self, batch: Batch, job: Job[threading.Event]) -> Any:
        """Send a batch until it is answered, and return its vectors: as lists if there is a cache, else as stored."""
        if not self._pace.take_turn(job.stop):
            raise Stopped
        body, transport = encode_request(batch.texts, job.input_type), self.runtime.transport

        def attempt() -> Any:
            self.meter.add(requests=1)
            return self._understand(transport.send(body), batch, job)

        return Attempts(self._policy, self._pace, job.stop, self._count_retry).run(attempt)

    async def aexchange(self, batch: Batch, job: Job[asyncio.Event]) -> Any:
        """Send a batch until it is answered, without blocking the event loop. See `exchange`."""
        if not await self._pace.atake_turn(job.stop):
            raise Stopped
        body = encode_request(batch.texts, job.input_type)

        async def attempt() -> Any:
            # Asked for each time: another task may have closed the client meanwhile.
            transport = (await self.runtime.here()).transport
            self.meter.add(requests=1)
            return self._understand(await transport.send(body), batch, job)

        return await Attempts(self._policy, self._pace, job.stop, self._count_retry).arun(attempt)

    def _count_retry(self) -> None:
        self.meter.add(retries=1)

    def _understand(self, reply: Reply, batch: Batch, job: Job[Any]) -> Any:
        conceal = concealing(self.settings.api_key.get_secret_value(), batch.texts)
        try:
            with self._decoding:
                embedded = decode_reply(
                    reply,
                    expected=len(batch.texts),
                    dimension=self.settings.model.dimension,
                    # A cache keeps the numbers as they came.
                    read=job.store.read if self.options.cache is None else as_lists,
                    conceal=conceal,
                )
        except OpenSearchEmbedError as error:
            self._pace.saw(throttled=isinstance(error, RateLimited))
            strip(error.__cause__, conceal)
            # Raised from here, without the frames that hold the reply.
            raise error.with_traceback(None) from error.__cause__
        self._pace.saw(throttled=False)
        self.meter.add(texts=len(batch.texts), tokens=embedded.tokens)
        return embedded.vectors


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_left_to_the_parent: list[Runtime] = []


def _go_live_after_fork() -> None:
    for engine in list(_engines):
        # Kept, so that the child does not tidy up connections that the parent goes on using.
        _left_to_the_parent.append(engine.runtime)
        engine.go_live()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_go_live_after_fork)
