"""Whether a thread is in the middle of a call already: then whatever embeds is a finaliser or the handler of a signal.

The call below it may hold any lock, and goes on only when it is done. So it does everything by itself: a worker, or a
call of another thread that it shared a request with, might wait for the one below, and it for them.

The stack says so, and no flag that an interrupt could leave behind.
"""

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_codes: set[CodeType] = set()


def in_a_call(function: Function) -> Function:
    """Mark a function: what it runs is a call, and what embeds meanwhile in its thread is nested."""
    _codes.add(function.__code__)
    return function


def is_nested() -> bool:
    """Tell whether whoever called the function that asks is in a call; or the interpreter ends, and no worker runs."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code in _codes:
            return True
        frame = frame.f_back
    return sys.is_finalizing()
