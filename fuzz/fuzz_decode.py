"""Fuzzes the decoder: whatever a server sends, it is understood rightly or refused with an error of ours.

    python fuzz/fuzz_decode.py [--seconds 60] [options of libFuzzer] [a file that an earlier run has found]

The decoder is pure, so a round is some 50 microseconds. What is right is asked of the standard library's json, which
shares no code with it. atheris steers by which lines are reached; it has wheels for Linux alone, so elsewhere this is
skipped, and says so.
"""

import gzip
import json
import math
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    print(f"SKIPPED: atheris cannot be installed for this Python ({sys.version.split()[0]} on {sys.platform}).")
    sys.exit(0)

with atheris.instrument_imports(include=["opensearch_embed"]):
    from opensearch_embed._wire import large
    from opensearch_embed._wire.conceal import concealing
    from opensearch_embed._wire.numbers import as_array, as_lists
    from opensearch_embed._wire.refusal import Reply
    from opensearch_embed._wire.reply import decode_reply, max_reply_bytes
    from opensearch_embed.errors import ApiError, OpenSearchEmbedError, ResponseError

import numpy as np

HERE = Path(__file__).resolve().parent
KEY = 'OS-s3cr3t/"k\u00e9y'
CONCEAL = concealing(KEY)
STATUSES = (200, 200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 413, 429, 500, 502, 503, 0, 999)
ENCODINGS = ("", "identity", " GZIP ", "gzip", "x-gzip", "deflate", "br", "gzip, gzip")
DELAYS = ("0", "1.5", "-1", "nan", "inf", "1e999", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00", "soon")
CODES = ("Throttling", "Throttling.RateQuota", "Throttling.AllocationQuota", "InvalidParameter", "Success", KEY, "")
NUMBERS = (
    *("0", "-0.0", "1", "1.0", "-1", "0.1", "1e-400", "4.9E-324", "3.4028235e38", "3.4028236e38", "1e39", "1e308"),
    *("1e309", "1" + "0" * 400, "18446744073709551615", "18446744073709551616", "-9223372036854775809"),
    *("NaN", "Infinity", "-Infinity", "true", "false", "null", '"1"', "[1]", "{}", "01", "1.", ".5", "+1", "0x1"),
)
ORDINARY = 9
"""The first of the numbers, which are such as a server sends; of these, most vectors are made."""
MARK = b"\xef\xbb\xbf"
"""Which some put before UTF-8."""
INDICES = ("-1", "0.0", "1.0", "true", "false", "null", '"0"', "[0]", "18446744073709551616", "1e0", "-0")


class Round:
    """One reply to one request, made from the fuzzer's bytes."""

    def __init__(self, data: bytes) -> None:
        self._bytes = atheris.FuzzedDataProvider(data[1:])
        self.expected = self._up_to(4) + 1
        self.dimension = self._up_to(4) + 1
        status = self._one_of(STATUSES)
        headers = {"content-encoding": self._one_of(ENCODINGS), "retry-after": self._one_of(DELAYS)}
        headers = {name: value for name, value in headers.items() if self._up_to(1)}
        if self._rarely(8):
            headers[self._one_of(tuple(headers) or ("retry-after",))] = self._words()
        complete = not self._rarely(16)
        # Half of the rounds send the bytes as they are, so that a dictionary and seeds of JSON are of use.
        structured = bool(data) and data[0] % 2 == 1
        body = self._payload().encode("utf-8", "surrogatepass") if structured else self._bytes.ConsumeBytes(1 << 16)
        body = self._damaged(body) if structured and self._rarely(8) else body
        headers, body = self._compressed(headers, body)
        self.reply = Reply(status, headers, body, complete, received_at=1_445_412_000.0)

    def _up_to(self, most: int) -> int:
        return self._bytes.ConsumeIntInRange(0, most)

    def _rarely(self, once_in: int) -> bool:
        return self._up_to(once_in - 1) == once_in - 1  # not 0, which is what comes when the bytes are used up

    def _one_of(self, choices: tuple[str, ...] | tuple[int, ...]) -> Any:
        return choices[self._up_to(len(choices) - 1)]

    def _words(self) -> str:
        return str(self._bytes.ConsumeUnicode(self._up_to(40)))

    def _payload(self) -> str:
        """JSON of the documented shape, with wrong parts here and there."""
        items = [self._item(index) for index in range(self.expected)]
        for _ in range(self._up_to(2)):
            first, second = self._up_to(len(items) - 1), self._up_to(len(items) - 1)
            items[first], items[second] = items[second], items[first]
        match self._up_to(15):
            case 13:
                items.pop()
            case 14:
                items.append(self._one_of(tuple(items)))
            case 15:
                items[-1] = self._one_of(NUMBERS)
        parts = [f'"result": {{"embeddings": [{", ".join(items)}]}}']
        if self._rarely(4):
            parts.append(f'"usage": {{"token_count": {self._one_of(NUMBERS)}}}')
        for name in ("request_id", "RequestId", "code", "message", "result", "usage"):
            if self._rarely(8):
                value = self._one_of(NUMBERS) if self._rarely(4) else json.dumps(self._one_of(CODES) + self._words())
                parts.insert(self._up_to(len(parts)), f'"{name}": {value}')
        if self._rarely(4):
            parts.remove(self._one_of(tuple(parts)))
        return f"{{{', '.join(parts)}}}"

    def _item(self, index: int) -> str:
        length = self.dimension + (self._up_to(2) - 1 if self._rarely(16) else 0)
        strange = self._rarely(16)
        numbers = [self._one_of(NUMBERS if strange else NUMBERS[:ORDINARY]) for _ in range(length)]
        number = self._one_of(INDICES) if self._rarely(16) else str(index)
        return f'{{"index": {number}, "embedding": [{", ".join(numbers)}]}}'

    def _damaged(self, body: bytes) -> bytes:
        start = self._up_to(len(body))
        return body[:start] + self._bytes.ConsumeBytes(self._up_to(4)) + body[start + self._up_to(4) :]

    def _compressed(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        """Do what the header says; or something else."""
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding and not self._rarely(8):
            body = zlib.compress(body) if encoding == "deflate" else gzip.compress(body, mtime=0)
            if self._rarely(8):
                body = self._damaged(body)
            if self._rarely(8):
                body = body[: max(0, len(body) - self._up_to(12))]
        return headers, body

    def decode(self, read: Any) -> Any:
        """Return the decoder's vectors, or its error; any other error comes through."""
        try:
            found = decode_reply(
                self.reply, expected=self.expected, dimension=self.dimension, read=read, conceal=CONCEAL
            )
        except OpenSearchEmbedError as error:
            return error
        assert type(found.tokens) is int
        return found.vectors

    def should_be(self) -> list[list[float]]:
        """Read the vectors with the standard library, which is slower and laxer, from a reply that was accepted."""
        body = self.reply.body
        plain = body.removeprefix(MARK).lstrip()[:1] in (b"{", b"[")
        if self.reply.headers.get("content-encoding", "").strip().lower() not in ("", "identity") and not plain:
            try:
                body = inflated(body, 47)
            except zlib.error:
                body = inflated(body, -zlib.MAX_WBITS)
        embeddings = json.loads(body)["result"]["embeddings"]
        assert all(type(item["index"]) is int for item in embeddings), "true is no index"
        assert sorted(item["index"] for item in embeddings) == list(range(self.expected))
        vectors = {item["index"]: item["embedding"] for item in embeddings}
        assert not any(isinstance(number, bool) for vector in vectors.values() for number in vector)
        return [[float(number) for number in vectors[index]] for index in range(self.expected)]


def inflated(body: bytes, frame: int) -> bytes:
    """Decompress every member; none is cut short."""
    parts: list[bytes] = []
    while body.rstrip(b"\0") or not parts:
        inflater = zlib.decompressobj(frame)
        parts.append(inflater.decompress(body))
        assert inflater.eof, "cut short within what is compressed"
        body = inflater.unused_data
    return b"".join(parts)


def check_error(error: OpenSearchEmbedError, reply: Reply) -> None:
    """An error is of the right family, tells no secret, and asks for no impossible delay."""
    assert isinstance(error, (ApiError, ResponseError)), type(error)
    told = [str(error), repr(error), str(error.request_id)]
    if isinstance(error, ApiError):
        told += [error.message, str(error.code)]
        delay = error.retry_after
        assert delay is None or (delay >= 0 and math.isfinite(delay))
        assert error.status == reply.status
    else:
        assert 200 <= reply.status < 300
    assert not any(KEY.casefold() in words.casefold() for words in told)
    assert not any("\n" in words for words in told)


def check_vectors(lists: Any, should: list[list[float]]) -> None:
    """Vectors have exactly the shape asked for, of floats, all finite, all as the reply has them."""
    assert type(lists) is list
    assert all(type(vector) is list for vector in lists)
    assert all(type(number) is float and math.isfinite(number) for vector in lists for number in vector)
    assert lists == should


def one_round(data: bytes) -> None:
    """Decode one reply as small ones are, and as large ones are."""
    for large.LARGE_BYTES in (1 << 30, 0):
        check_round(Round(data))


def check_round(made: Round) -> None:
    """Decode one reply in both forms, and compare each with what it should be, and with the other."""
    lists, rows = made.decode(as_lists), made.decode(as_array)
    for result in (lists, rows):
        if isinstance(result, OpenSearchEmbedError):
            check_error(result, made.reply)
    if isinstance(lists, OpenSearchEmbedError):
        assert type(rows) is type(lists), "what lists refuse, arrays refuse alike"
        return
    assert len(made.reply.body) <= max_reply_bytes(made.dimension)
    should = made.should_be()
    assert [len(vector) for vector in should] == [made.dimension] * made.expected
    check_vectors(lists, should)
    with np.errstate(over="ignore"):
        narrow = np.array(should, np.float64).astype(np.float32)
    if isinstance(rows, OpenSearchEmbedError):
        assert not np.isfinite(narrow).all(), f"an array was refused that holds: {rows}"
        return
    assert rows.dtype == np.float32
    assert rows.shape == (made.expected, made.dimension)
    assert np.isfinite(rows).all()
    assert (rows == narrow).all()


def write_seeds(folder: Path) -> None:
    """Write replies to start from: whole ones, refused ones, and noise for the structured rounds."""
    vectors = [{"index": index, "embedding": [0.5, -1]} for index in range(2)]
    payloads = (
        {"request_id": "r", "latency": 38, "usage": {"token_count": 9}, "result": {"embeddings": vectors}},
        {"request_id": "r", "code": "Throttling.AllocationQuota", "message": "Your free quota is used up."},
        {"RequestId": "r", "Code": "InvalidParameter", "Message": KEY},
    )
    for number, payload in enumerate(payloads):
        (folder / f"reply{number}").write_bytes(b"\0" + json.dumps(payload).encode() + bytes(16))
    for number in range(8):
        (folder / f"noise{number}").write_bytes(b"\1" + bytes((number * 37 + i * 101) % 256 for i in range(300)))


def main() -> None:
    """Fuzz for as long as is asked, and end with an error at the first reply that the decoder does not stand."""
    arguments = sys.argv[1:]
    seconds = "60"
    if "--seconds" in arguments:
        place = arguments.index("--seconds")
        seconds = arguments[place + 1]
        del arguments[place : place + 2]
    with tempfile.TemporaryDirectory() as folder:
        replayed = any(Path(argument).is_file() for argument in arguments)
        write_seeds(Path(folder))
        limits = [] if replayed else [f"-max_total_time={seconds}", "-max_len=4096", folder]
        quietly = ["-verbosity=1", "-print_final_stats=1", f"-artifact_prefix={HERE}/found-", f"-dict={HERE}/json.dict"]
        atheris.Setup([sys.argv[0], *quietly, *arguments, *limits], one_round)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
