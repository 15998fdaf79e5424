"""What clients of one process share: one pace for each endpoint, model and rate, whatever adapter made the client."""

import os
import threading

from opensearch_embed._pace import Pace, Unlimited, UserLimiter
from opensearch_embed._schedule import Schedule
from opensearch_embed.options import Options
from opensearch_embed.settings import Settings

_schedules: dict[tuple[str, str, float], Schedule] = {}
_lock = threading.Lock()


def pace_for(settings: Settings, options: Options) -> Pace:
    """Return who hands out the turns: the user's limiter, nobody, or the schedule that all clients alike share."""
    if options.limiter is not None:
        return UserLimiter(options.limiter)
    if options.qps is None:
        return Unlimited()
    key = (settings.endpoint, settings.model.service_id, float(options.qps))
    with _lock:
        return _schedules.setdefault(key, Schedule(options.qps))


def _forget_after_fork() -> None:
    """Start afresh in a forked child: another thread of the parent may have held a lock at that moment."""
    global _lock
    _lock = threading.Lock()
    _schedules.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
