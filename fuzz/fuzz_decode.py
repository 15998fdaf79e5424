"""Fuzzes the decoder: whatever a server sends, it is understood rightly or refused with an error of ours.

    python fuzz/fuzz_decode.py [--seconds 60] [options of libFuzzer] [a file that an earlier run has found]

The decoder is pure, so a second has thousands of rounds. What is right is asked of the standard library's json, which
shares no code with it. atheris steers by which lines are reached; it has wheels for Linux alone, so elsewhere this is
skipped, and says so.
"""

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
    from replies import KEY, MARK, Round

    from opensearch_embed._wire import large
    from opensearch_embed._wire.conceal import concealing
    from opensearch_embed._wire.numbers import as_array, as_lists
    from opensearch_embed._wire.refusal import Reply
    from opensearch_embed._wire.reply import decode_reply, max_reply_bytes
    from opensearch_embed.errors import ApiError, OpenSearchEmbedError, ResponseError

import numpy as np

HERE = Path(__file__).resolve().parent
CONCEAL = concealing(KEY)


def decode(made: Round, read: Any) -> Any:
    """Return the decoder's vectors, or its error; any other error comes through."""
    try:
        found = decode_reply(made.reply, expected=made.expected, dimension=made.dimension, read=read, conceal=CONCEAL)
    except OpenSearchEmbedError as error:
        return error
    assert type(found.tokens) is int
    return found.vectors


def should_be(made: Round) -> list[list[float]]:
    """Read the vectors with the standard library, which is slower and laxer, from a reply that was accepted."""
    body = made.reply.body
    plain = body.removeprefix(MARK).lstrip()[:1] in (b"{", b"[")
    if made.reply.headers.get("content-encoding", "").strip().lower() not in ("", "identity") and not plain:
        try:
            body = inflated(body, 47)
        except zlib.error:
            body = inflated(body, -zlib.MAX_WBITS)
    embeddings = json.loads(body)["result"]["embeddings"]
    assert all(type(item["index"]) is int for item in embeddings), "true is no index"
    assert sorted(item["index"] for item in embeddings) == list(range(made.expected))
    vectors = {item["index"]: item["embedding"] for item in embeddings}
    assert not any(isinstance(number, bool) for vector in vectors.values() for number in vector)
    return [[float(number) for number in vectors[index]] for index in range(made.expected)]


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
    lists, rows = decode(made, as_lists), decode(made, as_array)
    for result in (lists, rows):
        if isinstance(result, OpenSearchEmbedError):
            check_error(result, made.reply)
    if isinstance(lists, OpenSearchEmbedError):
        assert type(rows) is type(lists), "what lists refuse, arrays refuse alike"
        return
    assert len(made.reply.body) <= max_reply_bytes(made.dimension)
    should = should_be(made)
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
