"""What the front page shows: how many requests came in each of the last seconds, and the newest of them, in short.

Kept as small figures alone, so that a busy emulator pays nothing for a page that nobody looks at.
"""

import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Literal

SECONDS = 60
"""How far back the seconds go."""

LATEST = 20
"""How many requests are shown."""

TEXT_CHARACTERS = 60
PATH_CHARACTERS = 120
ROLE_CHARACTERS = 12

Kind = Literal["answered", "refused", "failed"]


@dataclass(slots=True)
class Second:
    """How many requests one second had, by what became of them."""

    second: int
    answered: int = 0
    refused: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One request, as the page lists it. `status` may be a kind of break; then there is no time it took."""

    time: float
    method: str
    path: str
    role: str
    texts: int
    text: str
    status: int | str
    ms: float | None


class Figures:
    """Written and read by the server's thread; only `clear` is called by others."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._seconds: deque[Second] = deque(maxlen=SECONDS)
        self._latest: deque[Line] = deque(maxlen=LATEST)

    def add(self, method: str, path: str, body: Any, outcome: int | str, ms: float) -> None:
        """Count a request. In `path` and `body`, keys are blanked already."""
        seconds, now = self._seconds, int(time.monotonic())
        if not seconds or seconds[-1].second != now:
            seconds.append(Second(now))
        kind = kind_of(outcome)
        setattr(seconds[-1], kind, getattr(seconds[-1], kind) + 1)
        role, texts, text = _sum_up(body)
        took = round(ms, 1) if isinstance(outcome, int) else None
        path = shorten(path, PATH_CHARACTERS)
        self._latest.append(Line(time.time(), shorten(method, ROLE_CHARACTERS), path, role, texts, text, outcome, took))

    def seconds(self) -> list[list[int]]:
        """Return what each of the last seconds had: answered, refused, failed; the one that is running comes last."""
        now = int(time.monotonic())
        there = {one.second: [one.answered, one.refused, one.failed] for one in self._seconds}
        return [there.get(second, [0, 0, 0]) for second in range(now - SECONDS + 1, now + 1)]

    def latest(self) -> list[dict[str, Any]]:
        """Return the newest requests, the newest first."""
        return [asdict(line) for line in reversed(self._latest)]


def kind_of(outcome: int | str) -> Kind:
    """Say what an outcome of a request is: a status, or a kind of break."""
    if outcome == 429:
        return "refused"
    return "answered" if isinstance(outcome, int) and outcome < 400 else "failed"


def shorten(text: str, characters: int) -> str:
    """Cut a text, and show that it is cut."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _sum_up(body: Any) -> tuple[str, int, str]:
    """Return role, number of texts, and the beginning of the first."""
    if not isinstance(body, dict):
        return "", 0, ""
    role, given = body.get("input_type", "document"), body.get("input")
    texts = given if isinstance(given, list) else [given] if isinstance(given, str) else []
    first = texts[0] if texts and isinstance(texts[0], str) else ""
    return shorten(str(role)[:100], ROLE_CHARACTERS), len(texts), shorten(first, TEXT_CHARACTERS)
