"""One job, worked off by the thread that calls and by workers. `async_work` is the twin.

The caller takes the turns and hands batches to workers, which only send; a batch that is the last one, or that no
thread can be had for, it sends itself; and so it does in the middle of another call of its thread (`nested`).
"""

import functools
import math
import threading
from typing import TYPE_CHECKING, Any

from opensearch_embed._call.ending import ending
from opensearch_embed._call.engine import Request
from opensearch_embed._call.job import Job
from opensearch_embed._call.shared import own_copy, picked
from opensearch_embed._call.telemetry import Together, Watch
from opensearch_embed._dispatch.lanes import Turn
from opensearch_embed._dispatch.sharing import Member
from opensearch_embed._dispatch.threads import LOOK_AGAIN_SECONDS, Signal, try_turn, wait_for_turn, workers
from opensearch_embed._http.cancel import Cancellation
from opensearch_embed._texts.batches import Batch
from opensearch_embed.errors import OpenSearchEmbedError

if TYPE_CHECKING:
    from opensearch_embed._call.call import Calls

PULLED_ELSEWHERE_SECONDS = 0.001
"""A worker takes the next turn just now, and says so when it could not."""


class SyncWork:
    """One job, worked off by the thread that calls and by workers.

    Attributes:
        job: Its texts and vectors.
        cancellation: Ends its requests, and those of no other call.
    """

    def __init__(self, calls: "Calls", job: Job, owner: object = None, *, nested: bool) -> None:
        self._nested = nested
        self.job = job
        self.cancellation = Cancellation()
        self._calls = calls
        self._engine = calls.engine
        self._owner = owner or job
        self._place = self._engine.threads
        self._read = calls.read_of(job)
        self._signal = self._new_signal()
        self._turn: Turn | None = None
        self._taken: Turn | None = None  # and not handed over yet
        self._pulling = threading.Lock()
        options = calls.engine.options
        self._unlimited = options.qps is None and options.limiter is None
        ending.note(self)

    def cancel(self) -> None:
        """Send nothing more, and end what is under way. Takes no lock, and waits for nothing."""
        self.job.halt()
        self.cancellation.cancel()

    def share_or_coordinate(self) -> None:
        """Work the job off, and return when it is over: a small one together with others."""
        job = self.job
        if len(job):
            # What is slow the first time, such as imports, is done by the caller, before a turn is taken.
            self._engine.connections.transport()
        if job.is_small and not self._nested and (batch := job.take()) is not None:
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
                wait, batch, turn = self._pull(to_hand_over=True)
                if batch is None or turn is None:
                    self._signal.wait(min(wait, LOOK_AGAIN_SECONDS))
                # The last batch, so also the only one, is sent where it is called.
                elif not len(job) or self._nested or not workers().run(functools.partial(self._work_on, batch, turn)):
                    self._work(batch, turn)
                    if isinstance(job.error, KeyboardInterrupt):
                        raise job.error
        finally:
            for left in (self._turn, self._taken):
                if left is not None:
                    engine.turnstile.drop(left)
            ending.hold_if_over(self)

    def _pull(self, *, to_hand_over: bool = False) -> tuple[float, Batch | None, Turn | None]:
        """Take a turn for the next batch, if it is due; else return the seconds to wait."""
        if not self._pulling.acquire(blocking=False):
            return PULLED_ELSEWHERE_SECONDS, None, None
        try:
            return self._pull_alone(to_hand_over)
        finally:
            self._pulling.release()

    def _pull_alone(self, to_hand_over: bool) -> tuple[float, Batch | None, Turn | None]:
        job = self.job
        if not job.ready or len(job.live) >= self._place.pool.limit:
            return math.inf, None, None
        turn = self._turn
        if turn is None:
            turn = self._turn = self._new_turn(self._owner)
        try:
            wait = try_turn(self._engine.turnstile, turn, math.inf)
            if wait:
                return wait, None, None
            if to_hand_over:
                self._taken = turn
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
            vectors = self._exchange(batch.texts, turn, signal, job.watch)
            self._calls.keep(job, batch, vectors)
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            job.fail(error, batch)
            self._engine.turnstile.drop(turn)
        finally:
            job.wakers.pop(id(signal), None)
            job.end(batch)

    def _share(self, batch: Batch) -> None:
        """Send a batch together with those of other calls that wait; by itself if another's text may be at fault."""
        sharing, job = self._place.sharing, self.job
        key = (job.input_type, self._read)
        joined: list[Member] = []
        try:
            member = sharing.join(key, batch.texts, batch.size, self._signal.set, job.watch, joined=joined)
            request = member.request
            while not request.settled and not job.halted:
                if member.leads:
                    self._lead(member)
                else:
                    self._signal.wait(LOOK_AGAIN_SECONDS)
        finally:
            for one in joined:
                sharing.leave(one)
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
            vectors = self._exchange(request.texts, turn, self._signal, Together(request))
        except OpenSearchEmbedError as error:
            sharing.settle(request, error=error)
            engine.turnstile.drop(turn)
        except BaseException:
            engine.turnstile.drop(turn)
            raise
        else:
            sharing.settle(request, vectors)

    def _exchange(self, texts: Any, turn: Turn, signal: Signal, watch: Watch) -> Any:
        request = Request(texts, self.job.input_type, self._read, turn, lambda: self.job.halted, watch)
        return self._engine.exchange(request, signal, self.cancellation)

    def _new_turn(self, owner: object, *, lone: bool = False) -> Turn:
        return self._engine.turn(owner, self.job.input_type, self._signal, self._place.pool, lone=lone)

    def _new_signal(self) -> Signal:
        signal = Signal()
        self.job.wakers[id(signal)] = signal.set
        return signal
