"""The bytes that the server answers with, rendered before any clock starts.

Numbers look like the vendor's: float32 values, printed as Java prints doubles. A reply of 32 x 1024 is about 690 KB.
"""

import random
import struct
from collections.abc import Callable
from decimal import Decimal

MAX_TEXTS = 32


def java_double(value: float) -> str:
    """Print a number as Java's `Double.toString` does: `-8.240503375418484E-4`, `0.0215`, `3.0`."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    mantissa, exponent = f"{Decimal(repr(value)).normalize():E}".split("E")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}"


def make_row(position: int, dimension: int) -> list[float]:
    """A vector of about unit length, all its numbers float32, particular to its position in the request."""
    rng = random.Random(position)
    numbers = [rng.gauss(0, dimension**-0.5) for _ in range(dimension)]
    return list(struct.unpack(f"{dimension}f", struct.pack(f"{dimension}f", *numbers)))


def http_reply(status: str, body: bytes) -> bytes:
    """A whole HTTP answer with a JSON body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def error_reply(status: str, code: str, message: str) -> bytes:
    """The documented body of an error."""
    body = f'{{"request_id":"bench-error","latency":0,"code":"{code}","message":"{message}"}}'
    return http_reply(status, body.encode())


THROTTLED = error_reply("429 Too Many Requests", "Throttling.RateQuota", "Requests throttling triggered.")
UNAVAILABLE = error_reply("503 Service Unavailable", "ServiceUnavailable", "The service is temporarily unavailable.")


NUMBER = b"00000000"
"""Where a reply has its number."""


def _vendor_form(vectors: list[str]) -> str:
    items = ",".join(f'{{"index":{index},"embedding":{vector}}}' for index, vector in enumerate(vectors))
    head = f'"request_id":"bench-{NUMBER.decode()}","latency":12,"usage":{{"token_count":{100 * len(vectors)}}}'
    return f'{{{head},"result":{{"embeddings":[{items}]}}}}'


def _openai_form(vectors: list[str]) -> str:
    items = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{vector}}}' for index, vector in enumerate(vectors)
    )
    tokens = 100 * len(vectors)
    usage = f'{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}'
    return f'{{"object":"list","model":"bench-{NUMBER.decode()}","data":[{items}],"usage":{usage}}}'


FORMS: dict[str, Callable[[list[str]], str]] = {"vendor": _vendor_form, "openai": _openai_form}
"""How a reply says the same vectors: as the service does, or as OpenAI does."""


class Replies:
    """Every reply that can be asked for in one form: one for each count of texts."""

    def __init__(self, dimension: int, form: str = "vendor") -> None:
        self._form = FORMS[form]
        rows = [[java_double(number) for number in make_row(position, dimension)] for position in range(MAX_TEXTS)]
        self._tails = [",".join(["", *row[1:]]) for row in rows]  # all but the first number
        self._firsts = [row[0] for row in rows]
        self._sent = 0
        self._ready = [self._render(self._firsts[:count]) for count in range(MAX_TEXTS + 1)]

    def plain(self, count: int) -> bytes:
        """The reply for `count` texts: no two are alike, since clients may refuse an answer that comes twice."""
        reply, self._sent = self._ready[count], self._sent + 1
        at = reply.index(NUMBER)
        return b"%s%08d%s" % (reply[:at], self._sent % 10**8, reply[at + len(NUMBER) :])

    def marked(self, texts: list[str]) -> bytes:
        """A reply whose vectors begin with their text's number, to check what reached whom. Rendered on demand."""
        return self._render([java_double(float(text.split(None, 1)[0])) for text in texts])

    def _render(self, firsts: list[str]) -> bytes:
        body = self._form([f"[{first}{self._tails[index]}]" for index, first in enumerate(firsts)])
        return http_reply("200 OK", body.encode())
