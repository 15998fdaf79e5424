"""Small calls that wait for a turn travel together, and a text that is under way is not sent twice.

Who shares is on one host: the threads of a client, or its calls in one event loop. The first of a request's members
leads: it takes the turn, sends, and settles. A leader that leaves hands over to the next. Nothing here waits.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opensearch_embed.errors import InvalidRequest
from opensearch_embed.models import MAX_BODY_BYTES

ENVELOPE_BYTES = 64
"""More than what a body weighs around its texts."""


class SharedRequest:
    """One request for several calls.

    Attributes:
        texts: What it sends, each text once.
        members: The calls that wait for it; the first one leads.
        open: Whether others may join with new texts: until it has its turn.
        settled: Whether it is over, with `vectors` or with `error`.
        joined: How many calls have joined it, also those that have left.
    """

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.texts: list[str] = []
        self.size = ENVELOPE_BYTES
        self.members: list[Member] = []
        self.open = True
        self.settled = False
        self.joined = 0
        self.vectors: Any = None
        self.error: BaseException | None = None
        self.places: dict[str, int] = {}


class Member:
    """One call in a shared request.

    Attributes:
        places: Where its texts stand in the request.
        size: Encoded size of its texts.
        watch: Is told what happens to the request.
        late: It joined what was under way already, so an earlier deadline than its own may end it.
    """

    def __init__(
        self, request: SharedRequest, texts: Sequence[str], size: int, wake: Callable[[], object], watch: Any
    ) -> None:
        self.request = request
        self.size = size
        self.wake = wake
        self.watch = watch
        self.places = [request.places[text] for text in texts]
        self.late = not request.open

    @property
    def leads(self) -> bool:
        """Whether it is this call that sends."""
        members = self.request.members
        return bool(members) and members[0] is self

    @property
    def apart(self) -> bool:
        """Whether what went wrong may be another call's fault, so that this one is to be sent by itself."""
        error = self.request.error
        if error is None:
            return False
        others = self.request.joined > 1 or len(self.request.texts) > len(self.places)
        return self.late or (isinstance(error, InvalidRequest) and others)


class Sharing:
    """The shared requests of one host."""

    def __init__(self, most_texts: int, lock: AbstractContextManager[Any] | None = None) -> None:
        self._most_texts = most_texts
        self._lock = lock or nullcontext()
        self._open: dict[Hashable, SharedRequest] = {}
        self._of_text: dict[tuple[Hashable, str], SharedRequest] = {}

    def join(
        self,
        key: Hashable,
        texts: Sequence[str],
        size: int,
        wake: Callable[[], object],
        watch: Any = None,
        *,
        joined: "list[Member] | None" = None,
    ) -> Member:
        """Join a request with the same key that holds these texts or has room for them, or begin one.

        Args:
            key: What must be the same for all: role, and the form of the vectors.
            texts: Texts of one call, all different.
            size: Their encoded size.
            wake: Called, from anywhere, when the call is to look again.
            watch: Kept for whoever sends the request.
            joined: Is given the member before it counts, so that an interrupted call can `leave`.
        """
        joined = [] if joined is None else joined
        with self._lock:
            request = self._with_all(key, texts) or self._with_room(key, texts, size)
            if request.open:
                new = [text for text in texts if text not in request.places]
                # In one step, and the places from what is there: Ctrl-C may come between any two.
                request.texts.extend(new)
                request.places = {text: place for place, text in enumerate(request.texts)}
                self._of_text.update({(key, text): request for text in new})
                request.size += size + 1
            member = Member(request, texts, size, wake, watch)
            joined.append(member)
            request.joined += 1
            request.members.append(member)
            return member

    def close(self, request: SharedRequest) -> None:
        """Let nobody join with new texts: it is sent now."""
        with self._lock:
            self._close(request)

    def settle(self, request: SharedRequest, vectors: Any = None, error: BaseException | None = None) -> None:
        """Say how a request ended, and wake who waits for it."""
        with self._lock:
            request.vectors, request.error = vectors, error
            request.settled = True
            self._forget(request)
            members = list(request.members)
        for member in members:
            member.wake()

    def leave(self, member: Member) -> None:
        """Let a call go: if it led a request that is not settled, the next one leads."""
        request = member.request
        with self._lock:
            led = member.leads
            if member in request.members:
                request.members.remove(member)
            next_one = request.members[0] if led and request.members and not request.settled else None
            if not request.members:
                self._forget(request)
        if next_one is not None:
            next_one.wake()

    def _with_all(self, key: Hashable, texts: Sequence[str]) -> SharedRequest | None:
        found = self._of_text.get((key, texts[0]))
        return found if found is not None and all(text in found.places for text in texts) else None

    def _with_room(self, key: Hashable, texts: Sequence[str], size: int) -> SharedRequest:
        request = self._open.get(key)
        fits = (
            request is not None
            and len(request.texts) + len(texts) <= self._most_texts
            and request.size + size <= MAX_BODY_BYTES
        )
        if request is None or not fits:
            request = self._open[key] = SharedRequest(key)
        return request

    def _close(self, request: SharedRequest) -> None:
        request.open = False
        if self._open.get(request.key) is request:
            del self._open[request.key]

    def _forget(self, request: SharedRequest) -> None:
        self._close(request)
        for text in request.texts:
            if self._of_text.get((request.key, text)) is request:
                del self._of_text[request.key, text]
