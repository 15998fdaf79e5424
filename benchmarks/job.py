"""What one measurement is asked to do, and what it reports. Plain data, sent between processes as JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any

BATCH = 32
"""Texts that one request of the service carries at most; figures "per request" are per 32 texts for every side."""

MODEL = "ops-text-embedding-002"
KEY = "OS-benchmark"

_PROSE = (
    "the service takes texts and gives vectors so that a search may find what was meant rather than what was written "
    "and every document passes through it once while every question waits for it and that is why it ought to be fast "
)


@dataclass(frozen=True, slots=True)
class Job:
    """One side, one load.

    Attributes:
        side: Name of the side, as in `benchmarks.sides.SIDES`.
        url: Where the server listens.
        texts: How many texts are embedded.
        length: Characters of each text.
        dimension: Numbers in each vector.
        qps: The limit that the project's client keeps; `None` means none. The others have no such setting.
        max_concurrency: Requests that the project's client has under way at most; `None`, its default, leaves it to it.
        marked: The server marks each vector with its text's number, and the worker checks every one.
        core: The core to stay on, or `None`.
        limiter: URL of the Redis in which processes share `qps`, or `None`.
        begins: Seconds after the others that it begins.
        clock: Seconds that its clocks are wrong by.
    """

    side: str
    url: str
    texts: int
    length: int = 500
    dimension: int = 1024
    qps: float | None = None
    max_concurrency: int | None = BATCH
    marked: bool = False
    core: int | None = None
    limiter: str | None = None
    begins: float = 0.0
    clock: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    def make_texts(self) -> list[str]:
        """Texts that begin with their own number, all of the same length."""
        prose = _PROSE * (2 + self.length // len(_PROSE))
        return [f"{number} {prose[number % len(_PROSE) :]}"[: self.length] for number in range(self.texts)]


@dataclass(slots=True)
class Outcome:
    """What one measurement found. Seconds and megabytes (10^6 bytes).

    Attributes:
        wall: From the call to its result.
        cpu: User and system time of the client's process between the same two moments.
        start: When the call began, on a clock that all processes of the machine share.
        memory: Peak of the process, less what it held before the call and less the result itself.
        result: Size of the result.
        notes: What a side measures on its own, such as the median latency of a query.
        server: The server's counts, for this measurement alone.
    """

    wall: float
    cpu: float
    start: float
    memory: float
    result: float
    notes: dict[str, float] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
