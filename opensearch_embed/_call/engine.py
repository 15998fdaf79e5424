"""How one batch is worked off: sent at its turn, understood, sent again. And what serves all calls of a client.

`exchange` and `aexchange` stand side by side; what differs is waiting alone.
"""

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from opensearch_embed._api_key import remark
from opensearch_embed._call.one_by_one import decode_in_turn
from opensearch_embed._call.telemetry import Watch
from opensearch_embed._dispatch.lanes import Host, Lane, Pool, Turn
from opensearch_embed._dispatch.retry import Attempts, RetryPolicy, outcome_of
from opensearch_embed._dispatch.sharing import Sharing
from opensearch_embed._dispatch.tasks import AsyncSignal, await_turn, offload
from opensearch_embed._dispatch.threads import Signal, wait_for_turn, workers
from opensearch_embed._dispatch.turnstile import turnstile_for
from opensearch_embed._http.cancel import Cancellation
from opensearch_embed._http.connections import Connections
from opensearch_embed._http.per_loop import PerLoop
from opensearch_embed._http.target import Target
from opensearch_embed._wire.conceal import concealing, strip
from opensearch_embed._wire.refusal import KEY_VARIABLE, Reply
from opensearch_embed._wire.reply import Embedded, decode_reply
from opensearch_embed._wire.request import encode_request
from opensearch_embed.errors import AuthenticationError, OpenSearchEmbedError
from opensearch_embed.models import InputType
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings
from opensearch_embed.usage import Meter

Read = Callable[[list[list[Any]]], Any]
Decode = Callable[..., Embedded]


@dataclass(eq=False, slots=True)
class Place:
    """What the calls of a client share in one place: in all threads, or in one event loop.

    Attributes:
        pool: Bounds the requests under way.
        sharing: The requests that small calls share.
        host: Who wakes the calls, where that is one: an event loop.
    """

    pool: Pool
    sharing: Sharing
    host: Host


@dataclass(slots=True)
class Request:
    """What is to be exchanged for vectors.

    Attributes:
        texts: Its texts.
        input_type: Their role.
        read: Brings the vectors of a reply to the form they are kept in.
        turn: Its turn; taken already for the first attempt.
        halted: Tells whether its call has ended, so that it is not to be sent again.
        watch: Is told of retries and of what it costs.
    """

    texts: Sequence[str]
    input_type: InputType
    read: Read
    turn: Turn
    halted: Callable[[], bool]
    watch: Watch


class Engine:
    """Gets batches answered, for all calls of one client.

    Attributes:
        settings: Which service is called.
        options: How hard it may work.
        meter: Adds up what is spent.
        turnstile: Lets requests leave; all clients alike share it.
        connections: What is open.
        threads: What the calls in threads share.

    Args:
        decode: What decodes a reply in threads, as `decode_reply` does.
    """

    def __init__(
        self, settings: Settings, options: Options, meter: Meter | None = None, decode: Decode = decode_in_turn
    ) -> None:
        self.settings = settings
        self.options = options
        self.meter = meter or Meter()
        self.pid = os.getpid()
        self.turnstile = turnstile_for(settings, options)
        # The turnstile stays for later clients, but nothing of it is open without one.
        weakref.finalize(self, self.turnstile.close).atexit = False
        target = Target(settings, options.timeout, options.most_under_way, options.compression)
        self.connections = Connections(target, offload)
        self.threads = self._place(threading.RLock())
        self._of_loops: PerLoop[Place] = PerLoop()
        self._decode = decode
        self._policy = RetryPolicy(options.max_attempts, options.retry_timeout, options.timeout)

    def in_loop(self) -> Place:
        """Return what the calls in the running event loop share."""
        return self._of_loops.setdefault(self._place)

    def _place(self, lock: Any = None) -> Place:
        options = self.options
        return Place(Pool(options.most_under_way), Sharing(options.batch_size, lock), Host())

    def turn(self, owner: object, role: InputType, signal: Signal | AsyncSignal, pool: Pool, *, lone: bool) -> Turn:
        """Return a turn for one batch; it is not waiting yet."""
        lane = Lane.QUERY if role == "query" else Lane.DOCUMENT
        return Turn(owner, lane, pool, signal.host, signal.set, lone)

    def exchange(self, request: Request, signal: Signal, cancellation: Cancellation) -> Any:
        """Send a request until it is answered, and return its vectors."""
        body = encode_request(request.texts, request.input_type)
        attempts = Attempts(self._policy, monotonic())
        turn = request.turn
        while True:
            problem: OpenSearchEmbedError | None = None
            error: BaseException | None = Cancelled()
            outage = False
            try:
                transport = self.connections.transport()
                seconds = attempts.begin(monotonic())
                self.meter.add(requests=1, retries=attempts.number > 1)
                reply = transport.send(body, timeout=seconds, cancellation=cancellation, until=attempts.ends)
                vectors = self._understand(reply, request, self._decode)
                error = None
                return vectors
            except OpenSearchEmbedError as caught:
                problem = caught
                error = Cancelled() if cancellation.cancelled else caught
            finally:
                # Its place is kept until the call knows of a failure, lest it send more in between.
                outage = self.turnstile.answer(turn, outcome_of(error), keep=problem is not None)
            if request.halted():
                raise problem
            until = monotonic() + self._before_retry(request, attempts, problem, outage)
            self._line_up_again(turn, signal)
            while not request.halted() and (left := until - monotonic()) > 0:
                signal.wait(left)
            if not wait_for_turn(self.turnstile, turn, signal, attempts.deadline, request.halted):
                attempts.give_up(monotonic())

    async def aexchange(self, request: Request, signal: AsyncSignal) -> Any:
        """Send a request until it is answered, without blocking the event loop. See `exchange`."""
        body = encode_request(request.texts, request.input_type)
        attempts = Attempts(self._policy, monotonic())
        turn = request.turn
        while True:
            problem: OpenSearchEmbedError | None = None
            error: BaseException | None = Cancelled()
            outage = False
            try:
                # Asked for each time: another task may have closed the client meanwhile.
                link = await self.connections.here()
                seconds = attempts.begin(monotonic())
                self.meter.add(requests=1, retries=attempts.number > 1)
                reply = await link.transport.send(body, timeout=seconds)
                vectors = self._understand(reply, request, decode_reply)
                error = None
                return vectors
            except OpenSearchEmbedError as caught:
                problem = error = caught
            finally:
                # Its place is kept until the call knows of a failure, lest it send more in between.
                outage = self.turnstile.answer(turn, outcome_of(error), keep=problem is not None)
            if request.halted():
                raise problem
            until = monotonic() + self._before_retry(request, attempts, problem, outage)
            self._line_up_again(turn, signal)
            while not request.halted() and (left := until - monotonic()) > 0:
                await signal.wait(left)
            if not await await_turn(self.turnstile, turn, signal, attempts.deadline, request.halted):
                attempts.give_up(monotonic())

    def _before_retry(self, request: Request, attempts: Attempts, error: OpenSearchEmbedError, outage: bool) -> float:
        """Return the seconds to wait before a request is sent again, or raise its error."""
        wait = attempts.after(error, monotonic(), outage=outage)
        self.turnstile.warn("retry", f"A request failed and is sent again in {wait:.1f} seconds or later: {error}")
        request.watch.retried(attempts.number, error, wait)
        return wait

    def _line_up_again(self, turn: Turn, signal: Signal | AsyncSignal) -> None:
        self.turnstile.drop(turn)
        if turn.lane is not Lane.QUERY:
            turn.lane = Lane.RETRY
        turn.host, turn.wake = signal.host, signal.set

    def _understand(self, reply: Reply, request: Request, decode: Decode) -> Any:
        texts, settings = request.texts, self.settings
        conceal = concealing(settings.api_key.get_secret_value(), texts, settings.proxy_secrets)
        try:
            embedded = decode(
                reply,
                expected=len(texts),
                dimension=self.settings.model.dimension,
                read=request.read,
                conceal=conceal,
            )
        except OpenSearchEmbedError as error:
            strip(error.__cause__, conceal)
            if isinstance(error, AuthenticationError):
                said = str(error).replace(KEY_VARIABLE, settings.key_source)
                error.args = (f"{said} {remark(settings.api_key)}".strip(),)
            # Raised from here, without the frames that hold the reply.
            raise error.with_traceback(None) from error.__cause__
        self.meter.add(texts=len(texts), tokens=embedded.tokens)
        request.watch.used(embedded.tokens)
        return embedded.vectors

    def close(self) -> None:
        """Close what is idle; what is under way goes on, and is closed at its end."""
        self.connections.close()
        self.turnstile.close()
        workers().retire()


class Cancelled(Exception):
    """A request that nobody wants any more says nothing of the service."""
