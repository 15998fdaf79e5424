"""What the loads share: texts whose vectors are known, settings for clients, a tally, and a gate where all rest."""

import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opensearch_embed import EmbeddingClient, OpenSearchEmbedError
from opensearch_embed.emulator import Emulator

MODEL = "ops-text-embedding-en-001"  # 768 numbers: the fewest that a model of the catalogue has
ROLES = ("document", "query")
WORDS = ["tea", "water", "river", "stone", "winter", "paper", "garden", "letter", "music", "茶", "水", "图书馆"]


@dataclass(frozen=True)
class Asked:
    """The texts of one call, by their place in the pool, and their role."""

    places: list[int]
    texts: list[str]
    role: Any


class Lab:
    """Texts, what is right, and who counts. Safe to share between threads.

    Attributes:
        settings: Arguments for whatever client talks to the server.
        shared: One client that several loads use at once.
        tally: Calls, texts, and what came of them.
        problems: What should not have happened; the first few, in words.
    """

    def __init__(self, url: str, api_key: str, pool: int = 4000) -> None:
        chance = random.Random(7)
        self.texts = [f"{number}: {' '.join(chance.choices(WORDS, k=1 + number % 40))}" for number in range(pool)]
        oracle = Emulator()
        self._right = {
            role: np.array([oracle.vector(text, role, MODEL) for text in self.texts], np.float32) for role in ROLES
        }
        self.settings = {"endpoint": url, "api_key": api_key, "timeout": 2.0, "retry_timeout": 20.0}
        self.shared = self.client(qps=None, max_concurrency=8)
        self.tally: Counter[str] = Counter()
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def client(self, **settings: Any) -> EmbeddingClient:
        """Make a client; the caller closes it."""
        return EmbeddingClient(MODEL, **(self.settings | settings))

    def ask(self, chance: random.Random, most: int, role: str | None = None) -> Asked:
        """Choose texts for a call, of which some may be the same."""
        places = chance.choices(range(len(self.texts)), k=chance.randint(1, most))
        return Asked(places, [self.texts[place] for place in places], role or chance.choice(ROLES))

    def call(self, asked: Asked, method: Callable[..., Any], *arguments: Any) -> None:
        """Call a method, and hold what it returns or raises to what is right."""
        try:
            self.check(asked, method(asked.texts, *arguments))
        except OpenSearchEmbedError as error:
            self.check_error(asked, error)

    async def acall(self, asked: Asked, method: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Call an async method; see `call`."""
        try:
            self.check(asked, await method(asked.texts, *arguments))
        except OpenSearchEmbedError as error:
            self.check_error(asked, error)

    def check(self, asked: Asked, found: Sequence[Any]) -> None:
        """Compare all vectors of a call."""
        self._count(calls=1, vectors=len(found))
        if len(found) != len(asked.texts):
            self.note(f"{len(found)} vectors for {len(asked.texts)} texts")
        self._compare(asked, range(len(found)), found)

    def check_error(self, asked: Asked, error: OpenSearchEmbedError) -> None:
        """Every text of a call that failed is completed or pending, and what is completed is right."""
        if len(error.completed) + len(error.pending) != len(asked.texts):
            self.note(f"completed and pending are not the input: {error!r}")
        self.check_rest(asked, 0, error)

    def check_part(self, asked: Asked, first: int, found: Sequence[Any]) -> None:
        """Compare consecutive vectors of a call that goes on."""
        self._count(vectors=len(found))
        self._compare(asked, range(first, first + len(found)), found)

    def check_rest(self, asked: Asked, first: int, error: OpenSearchEmbedError | None) -> None:
        """Count a call whose vectors were compared part by part; it ended at text `first`, perhaps with an error."""
        if error is None:
            self._count(calls=1)
            return
        self._count(**{"calls": 1, "failed calls": 1, "vectors": len(error.completed), type(error).__name__: 1})
        read = sorted([*error.completed, *error.pending])
        if read != list(range(first, first + len(read))):
            self.note(f"completed and pending have gaps, or overlap, from {first} on: {error!r}")
        self._compare(asked, list(error.completed), list(error.completed.values()))

    def note(self, problem: str) -> None:
        """Write down what should not have happened."""
        with self._lock:
            self.tally["problems"] += 1
            self.problems += [problem] if len(self.problems) < 10 else []

    def _compare(self, asked: Asked, indices: Iterable[int], found: Sequence[Any]) -> None:
        if not len(found):
            return
        places = [asked.places[index] for index in indices]
        wrong = int((np.asarray(found, np.float32) != self._right[asked.role][places]).any(axis=1).sum())
        if wrong:
            self._count(**{"wrong vectors": wrong})
            self.note(f"{wrong} wrong vectors of {len(found)}")

    def _count(self, **counts: int) -> None:
        with self._lock:
            self.tally.update(counts)


class Gate:
    """Where all loads rest while is measured. A load calls `rest` between two rounds."""

    def __init__(self, loads: int) -> None:
        self._loads = loads
        self._resting = 0
        self._closed = False
        self._over = False
        self._changed = threading.Condition()

    def rest(self) -> bool:
        """Wait while the gate is closed; tell whether to go on."""
        with self._changed:
            self._resting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._closed or self._over)
            self._resting -= 1
            return not self._over

    def close(self, timeout: float = 90.0) -> bool:
        """Wait until all loads rest; tell whether they do."""
        with self._changed:
            self._closed = True
            return self._changed.wait_for(lambda: self._resting == self._loads, timeout)

    def open(self, *, over: bool = False) -> None:
        """Let the loads go on, or to their end."""
        with self._changed:
            self._closed, self._over = False, over
            self._changed.notify_all()
