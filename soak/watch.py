"""What is measured while all loads rest, and what counts as constant."""

import ctypes
import gc
import logging
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

WARM_UP = 2
"""Samples at the start that do not count: caches fill, modules load, and memory is laid out."""

TOLERANCE = {"rss_mb": 0.10, "heap_mb": 0.05, "blocks": 0.03, "files": 0.0, "threads": 0.0}
"""Shares by which the last third of the samples may exceed the first: the medians are compared."""
SLACK = {"rss_mb": 8.0, "heap_mb": 2.0, "blocks": 3000, "files": 12, "threads": 8}
"""How much more is allowed besides: pools of connections and threads are full to a different degree each time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement.

    Attributes:
        minutes: Since the start.
        rss_mb: Resident memory of this process, in MB. It grows for a while after what is in use has ceased to: freed
            memory is in pieces that are of use only to what fits into them.
        heap_mb: Of that, what is in use by C libraries and by large Python objects (glibc; else 0).
        blocks: Small blocks of memory in use by Python, whether the garbage collector follows them or not.
        files: Open files and sockets.
        threads: Threads of this process.
        tally: What was done up to then.
    """

    minutes: float
    rss_mb: float
    heap_mb: float
    blocks: int
    files: int
    threads: int
    tally: dict[str, int]


class Watch:
    """Takes samples of this process, and listens for what nobody else would hear of."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.samples: list[Sample] = []
        self._process = psutil.Process()
        self._start = time.monotonic()
        self._note = note
        sys.unraisablehook = lambda args: note(f"unraisable: {args.exc_value!r} in {args.object!r}")
        threading.excepthook = lambda args: note(f"in thread {args.thread}: {args.exc_value!r}")
        warnings.simplefilter("default")
        warnings.showwarning = self._warned
        logging.getLogger("asyncio").addHandler(_Listener(note))

    def _warned(self, message: Any, category: type[Warning], *_: Any) -> None:
        self._note(f"{category.__name__}: {message}")

    @property
    def minutes(self) -> float:
        """Minutes since the start."""
        return (time.monotonic() - self._start) / 60

    def take(self, tally: dict[str, int]) -> Sample:
        """Measure, and keep the sample; all loads must rest."""
        self.samples.append(self.measure(tally))
        return self.samples[-1]

    def measure(self, tally: dict[str, int]) -> Sample:
        """Measure."""
        gc.collect()
        time.sleep(0.2)  # in which loops and threads that nobody holds any more end
        gc.collect()
        _give_back()
        process = self._process
        return Sample(
            self.minutes,
            process.memory_info().rss / 1e6,
            _heap_bytes() / 1e6,
            sys.getallocatedblocks(),
            process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
            process.num_threads(),
            dict(tally),
        )

    def growth(self) -> list[tuple[str, float, float, float, bool]]:
        """Return, for each quantity, its median early and late, what was allowed, and whether it kept within."""
        kept = self.samples[WARM_UP:] or self.samples
        third = max(1, len(kept) // 3)
        rows = []
        for name, share in TOLERANCE.items():
            early, late = (_median(part, name) for part in (kept[:third], kept[-third:]))
            allowed = early * (1 + share) + SLACK[name]
            rows.append((name, early, late, allowed, late <= allowed))
        return rows


class _Listener(logging.Handler):
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._told = note

    def emit(self, record: logging.LogRecord) -> None:
        """Note what asyncio complains of."""
        self._told(f"asyncio: {record.getMessage()[:200]}")


class _MallInfo(ctypes.Structure):
    """What glibc tells of its heaps: `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _glibc() -> ctypes.CDLL | None:
    found = ctypes.CDLL(None) if sys.platform == "linux" else None
    return found if hasattr(found, "mallinfo2") else None


def _heap_bytes() -> int:
    library = _glibc()
    if library is None:
        return 0
    library.mallinfo2.restype = _MallInfo
    told = library.mallinfo2()
    return int(told.uordblks + told.hblkhd)


def _give_back() -> None:
    """Have whole free pages returned, so that they do not count."""
    if library := _glibc():
        library.malloc_trim(0)


def _median(samples: Sequence[Sample], name: str) -> float:
    return float(statistics.median(getattr(sample, name) for sample in samples))
