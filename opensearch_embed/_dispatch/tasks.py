"""How a task of an event loop waits. Of a thread, `threads` is the twin."""

import asyncio
import concurrent.futures.thread  # noqa: F401 - looking a name up would import it in mid-call, where a fork may come
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from opensearch_embed._dispatch.dispatcher import ASK_LIMITER, LEAVES_NOW
from opensearch_embed._dispatch.lanes import Host, Turn
from opensearch_embed._dispatch.limiter import aask
from opensearch_embed._dispatch.threads import LOOK_AGAIN_SECONDS, workers
from opensearch_embed._dispatch.turnstile import Turnstile

T = TypeVar("T")
LONGEST_SECONDS = 3600.0


class AsyncSignal:
    """Wakes one task of an event loop. Setting it takes no lock of ours, so finalisers may."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._loop = asyncio.get_running_loop()
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> bool:
        """Wake the task, from any thread; tell whether there is a loop still to run it."""
        try:
            self._loop.call_soon_threadsafe(self.set_here)
        except RuntimeError:
            return False
        return True

    def set_here(self) -> None:
        """Wake the task, from its own loop's thread."""
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait until it is set, or for so long."""
        if not self._set and seconds > 0:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(min(seconds, LONGEST_SECONDS), self.set_here)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._set = False


async def atry_turn(turnstile: Turnstile, turn: Turn, deadline: float) -> float:
    """Take a turn, if it is due; return the seconds to wait, 0 if it was taken. See `threads.try_turn`."""
    while (wait := turnstile.take(turn)) == ASK_LIMITER:
        granted = False
        try:
            granted = await aask(turnstile.limiter, deadline - monotonic())
        finally:
            turnstile.permit(granted)
        if not granted:
            return 1e-4
    return wait


async def await_turn(
    turnstile: Turnstile, turn: Turn, signal: AsyncSignal, deadline: float, halted: Callable[[], bool]
) -> bool:
    """Wait for a turn; return `False`, and drop it, if none comes in time. See `threads.wait_for_turn`."""
    try:
        while not halted() and monotonic() < deadline:
            wait = await atry_turn(turnstile, turn, deadline)
            if wait == LEAVES_NOW:
                return True
            await signal.wait(min(wait, deadline - monotonic(), LOOK_AGAIN_SECONDS))
    except BaseException:
        turnstile.drop(turn)
        raise
    turnstile.drop(turn)
    return False


async def offload(function: Callable[..., T], *args: Any) -> T:
    """Run what takes long on another thread; here, if no thread can be started. Whatever it raises, it raises here.

    Not by `asyncio.to_thread`: in a forked child, the threads of a loop that was there before are gone, unnoticed. Such
    a loop also shares with the parent's what wakes it, so it looks by itself from time to time.
    """
    problem: list[BaseException] = []
    result: list[T] = []
    signal = AsyncSignal(Host())

    def guarded() -> None:
        try:
            result.append(function(*args))
        except BaseException as error:  # noqa: BLE001 - raised below: a future takes some of them for its own
            problem.append(error)
        signal.set()

    if not workers().run(partial(copy_context().run, guarded)):
        guarded()
    while not result and not problem:
        await signal.wait(LOOK_AGAIN_SECONDS)
    if problem:
        raise problem[0]
    return result[0]
