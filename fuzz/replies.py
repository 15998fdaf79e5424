"""Replies made from a fuzzer's bytes: of the documented shape, with wrong parts here and there; or noise."""

import gzip
import json
import zlib
from typing import Any

import atheris

from opensearch_embed._wire.refusal import Reply

KEY = 'OS-s3cr3t/"k\u00e9y'
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
