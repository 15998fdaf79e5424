"""Whether an answer belongs to its request.

What a gateway sends twice on a kept connection would be other texts' vectors.

It knows no HTTP library: only what was sent and received on one connection before.
"""

import re
import select
import socket

from opensearch_embed.errors import ResponseError, TransportError

MAX_INTERIM = 20
"""Interim answers (1xx) to one request, at most."""

REQUEST_TIMEOUT, MISDIRECTED_REQUEST, BAD_GATEWAY, GATEWAY_TIMEOUT = 408, 421, 502, 504

NOT_AGAIN_HERE = {REQUEST_TIMEOUT, MISDIRECTED_REQUEST, BAD_GATEWAY, GATEWAY_TIMEOUT}
"""After these, nothing is sent on the connection any more."""

ANSWERS = re.compile(rb'\s*(?:\xef\xbb\xbf)?[{\[].*?"(?:embeddings|[cC]ode)"|\x1f|\x78', re.DOTALL)
"""How a body begins that the service has written: with vectors, a refusal, or compressed."""


EVERY = 61
"""Bytes of a long answer from one that is looked at to the next. All 700 KB of one would cost a tenth of reading it."""


def _fingerprint(answer: bytes) -> tuple[int, int]:
    # Python's own hash: it is kept in memory alone, and is fast.
    looked_at = answer if len(answer) < 1 << 16 else answer[:1024] + answer[1024:-1024:EVERY] + answer[-1024:]
    return len(answer), hash(looked_at)


class LastAnswer:
    """The last exchange of one connection."""

    def __init__(self) -> None:
        self._used = False
        self._sent: int | None = None
        self._received: tuple[int, int] | None = None

    def check(self, sent: bytes, received: bytes, status: int) -> bool:
        """Note an exchange; tell whether the connection may be used again.

        After what the service did not write itself it may not: a gateway that gave up waiting, and said so in its own
        words or in none, may still get the answer, and pass it on as that to the next request.

        An answer that is the one before it, byte for byte, may have been sent twice. To the same texts it is right all
        the same, and an error is an error; but whatever else comes on that connection may be one answer late.

        Raises:
            TransportError: It is no answer: the server was tired of a connection that was idle.
            ResponseError: It was an answer to other texts.
        """
        used, self._used = self._used, True
        if status == REQUEST_TIMEOUT and used:
            raise TransportError(
                "The server closed the connection, which had been idle for too long (408), before it read the request. "
                "The pending texts can be run again."
            )
        before = self._sent, self._received
        self._sent, self._received = hash(sent), _fingerprint(received)
        if before[1] != self._received:
            return status not in NOT_AGAIN_HERE and ANSWERS.match(received) is not None
        if 200 <= status < 300 and before[0] != self._sent:
            raise ResponseError(
                "The service's answer repeats, byte for byte, the one before it on the same connection, which was to "
                "other texts. A gateway may be at fault: it is asked for again on another connection."
            )
        return False


def is_quiet(sock: socket.socket | None) -> bool:
    """Tell whether an idle connection has nothing to say: neither bytes that nobody asked for, nor its end."""
    if sock is None or sock.fileno() < 0:
        return False
    for layer in (sock, getattr(sock, "sslobj", None)):  # the second is TLS inside of TLS
        pending = getattr(layer, "pending", None)
        if pending is not None and pending():
            return False
    if not hasattr(select, "poll"):
        return not select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)
