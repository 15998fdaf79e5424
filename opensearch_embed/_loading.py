"""Heavy libraries are loaded when first needed; and a process does not fork in the middle of that.

Whoever imports holds a lock of the interpreter's for each module; in a child that is forked meanwhile, nobody would
ever let go of it.
"""

import os
import threading
from importlib import import_module
from types import ModuleType

FORK_WAITS_SECONDS = 10.0
"""How long a fork waits for an import, at most."""

_lock = threading.RLock()
_loaded: dict[str, ModuleType] = {}
_held = threading.local()


def load(name: str) -> ModuleType:
    """Return a module, imported if need be."""
    found = _loaded.get(name)
    if found is None:
        with _lock:
            found = _loaded[name] = import_module(name)
    return found


def _before_fork() -> None:
    _held.locked = _lock.acquire(timeout=FORK_WAITS_SECONDS)


def _after_fork_in_parent() -> None:
    if _held.locked:
        _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
