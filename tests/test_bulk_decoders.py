"""Helpers that decode change how fast a file is embedded, and nothing else, whatever becomes of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from interfaces import settings_for
from servers import DIMENSION, KEY, RawServer, vector
from test_bulk_resume import content, refuse_some, texts_of, write_input
from test_wire import UNDERSTOOD, UNUSABLE

from opensearch_embed import EmbeddingClient, ResponseError
from opensearch_embed._dispatch.lanes import Pool
from opensearch_embed._wire.conceal import on_one_line
from opensearch_embed._wire.numbers import as_array
from opensearch_embed._wire.refusal import Reply
from opensearch_embed._wire.reply import decode_reply
from opensearch_embed.bulk import decoders, embed_file, helper
from opensearch_embed.bulk.decoders import Decoders, helpers_for

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="helpers need Linux's memfd_create")

SOON = 30.0
ROWS = 3000


@pytest.fixture(autouse=True, scope="module")
def from_the_first_answer_on() -> Iterator[None]:
    """Let helpers be started at once, and decode answers of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoders, "LARGE_REPLY_BYTES", 0)
        patch.setattr(decoders, "ANSWERS_BEFORE", 0)
        yield


def until(condition: Callable[[], object]) -> None:
    """Return when something is so."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Return whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def ask(some: Decoders, reply: Reply, expected: int = 2, dimension: int = 2) -> Any:
    """Have a reply decoded to rows."""
    return some.decode(reply, expected=expected, dimension=dimension, read=as_array, conceal=on_one_line)


def pids(some: Decoders) -> list[int]:
    """Return the processes of the helpers."""
    return [one._process.pid for one in some._all]


def numbered(number: int) -> Reply:
    """Return a reply with two vectors that say its number."""
    return Reply(
        200,
        {},
        b'{"result":{"embeddings":[%b]}}'
        % b",".join(b'{"index":%d,"embedding":[%d,0.5]}' % (index, number) for index in range(2)),
    )


def two_helpers() -> Iterator[Decoders]:
    """Yield two helpers at work, and see them end."""
    some = Decoders(2, 2)
    for _ in range(2):
        ask(some, numbered(1))
    until(lambda: len(some._all) == 2 and all(one.ready for one in some._all))
    started = pids(some)
    yield some
    some.close()
    assert not any(map(is_running, started))


two = pytest.fixture(two_helpers)
lasting = pytest.fixture(two_helpers, scope="module")


def test_a_helper_knows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in its environment nor on its command line."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
    monkeypatch.setenv("AISEARCH_API_KEY", KEY)
    monkeypatch.setenv("my_secret", KEY)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{KEY}@proxy")
    for some in two_helpers():
        for pid in pids(some):
            known = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            assert b"PATH=" in known
            assert KEY.encode() not in known


# --- the same, by another process ---


@pytest.mark.parametrize("received", [pytest.param(case[0], id=name) for name, *case in UNDERSTOOD])
def test_a_good_reply_gives_the_same_rows(lasting: Decoders, received: Reply) -> None:
    """To the last bit, with the same count of tokens."""
    found, right = ask(lasting, received), decode_reply(received, expected=2, dimension=2, read=as_array)
    assert found.vectors.tobytes() == right.vectors.tobytes()
    assert (found.vectors.dtype, found.vectors.shape, found.tokens) == (np.float32, (2, 2), right.tokens)


@pytest.mark.parametrize("received", [pytest.param(case[0], id=name) for name, *case in UNUSABLE])
def test_a_bad_reply_raises_the_same_error(lasting: Decoders, received: Reply) -> None:
    """In the same words, and the next one is decoded as if nothing had been."""
    with pytest.raises(ResponseError) as right:
        decode_reply(received, expected=2, dimension=2, read=as_array)
    with pytest.raises(ResponseError) as found:
        ask(lasting, received)
    assert str(found.value) == str(right.value)
    assert ask(lasting, numbered(7)).vectors.tolist() == [[7, 0.5]] * 2
    assert len(pids(lasting)) == 2
    assert all(one.ready for one in lasting._all)


def test_threads_get_their_own_vectors(two: Decoders) -> None:
    """Sixteen at once, each its own number."""
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda number: ask(two, numbered(number)).vectors[0, 0], range(2000)))
    assert found == list(range(2000))


# --- whatever becomes of them ---


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT])
def test_a_helper_that_is_gone_or_hangs_costs_nothing(
    two: Decoders, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    """Killed or stopped in the middle of the work, one first and then the other."""
    monkeypatch.setattr(helper, "ANSWER_SECONDS", 0.2)
    for number in range(300):
        if number in (100, 200):
            os.kill(pids(two)[number // 100 - 1], sent)
        assert ask(two, numbered(number)).vectors[0, 0] == number


def test_an_interrupted_question_is_not_answered_to_the_next(two: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes between the question and its answer; the helper is asked no more."""
    poll = Connection.poll
    interrupts = [KeyboardInterrupt(), KeyboardInterrupt()]

    def interrupted(link: Connection, seconds: float) -> bool:
        if interrupts:
            raise interrupts.pop()
        return poll(link, seconds)

    monkeypatch.setattr(Connection, "poll", interrupted)
    for _ in two._all:
        with pytest.raises(KeyboardInterrupt):
            ask(two, numbered(13))
    monkeypatch.setattr(decoders, "PATIENCE_SECONDS", 0.01)
    assert [ask(two, numbered(number)).vectors[0, 0] for number in range(20)] == list(range(20))


@pytest.mark.parametrize("program", ["/bin/true", "/bin/cat", "/no/such/program", "/etc/passwd"])
def test_another_program_in_the_interpreters_place(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """As where Python is embedded: what does not say that it decodes is not asked, and ends."""
    monkeypatch.setattr(sys, "executable", program)
    some = Decoders(2, 2)
    assert [ask(some, numbered(number)).vectors[0, 0] for number in range(50)] == list(range(50))
    started = pids(some)
    some.close()
    assert not any(one.ready for one in some._all)
    assert not any(map(is_running, started))


KILLED = """
import sys, time
from opensearch_embed.bulk import decoders
from test_bulk_decoders import ask, numbered, pids, until
decoders.LARGE_REPLY_BYTES = decoders.ANSWERS_BEFORE = 0
some = decoders.Decoders(2, 2)
ask(some, numbered(1)), ask(some, numbered(1))
until(lambda: len(some._all) == 2 and all(one.ready for one in some._all))
print(*pids(some), flush=True)
{end}
"""

FORKED = """
import os
if not os.fork():
    time.sleep(600)
print("forked", flush=True)
sys.stdin.read()
"""

STOPPED = """
import os, signal
for pid in pids(some):
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
print("stopped", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["sys.stdin.read()", "pass", "1 / 0", FORKED, STOPPED])
def test_helpers_end_with_their_process(end: str) -> None:
    """Killed, with a forked child that lives on or with stopped helpers; at its end without `close`; by an error."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED.format(end=end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        started = [int(pid) for pid in process.stdout.readline().split()]
        assert len(started) == 2
        if end in (FORKED, STOPPED):
            process.stdout.readline()  # it has done so
        if "stdin" in end:
            process.kill()
        try:
            process.wait()
            until(lambda: not any(map(is_running, started)))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


# --- when there are any ---


@pytest.mark.parametrize(
    ("qps", "processors", "helpers"),
    [(None, 2, 1), (500.0, 2, 1), (500.0, 64, 4), (101.0, 3, 2), (500.0, 1, 0), (100.0, 8, 0), (1.0, 8, 0)],
)
def test_helpers_are_for_high_rates_on_several_processors(
    monkeypatch: pytest.MonkeyPatch, qps: float | None, processors: int, helpers: int
) -> None:
    """One for each processor but one, four at most, and none where this process is fast enough."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    assert helpers_for(qps) == helpers


@pytest.mark.parametrize("missing", ["memfd_create", "executable"])
def test_no_helpers_where_there_can_be_none(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without Linux's anonymous files, or without an interpreter that could be started."""
    if missing == "executable":
        monkeypatch.setattr(sys, "executable", "")
    else:
        monkeypatch.delattr(os, missing)
    assert helpers_for(None) == 0


def test_few_answers_start_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is done by the time that a helper is there needs none."""
    monkeypatch.setattr(decoders, "ANSWERS_BEFORE", 100)
    some = Decoders(2, 2)
    for number in range(100):
        ask(some, numbered(number))
    assert not some._all
    some.close()


# --- how much waits ---


def test_while_answers_wait_no_more_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit falls to what is under way while many wait, never below what keeps all busy, and rises again."""
    some, pool = Decoders(0, 1024), Pool(256)
    some.bound(pool)
    at_first = pool.limit
    assert 64 <= at_first <= 80
    waiting: set[Any] = {object() for _ in range(decoders.MOST_WAITING + 1)}
    monkeypatch.setattr(some, "_here", waiting)
    pool.under_way.update(range(at_first))  # type: ignore[arg-type]
    limits = []
    while pool.under_way:
        some._adjust()
        limits.append(pool.limit)
        pool.under_way.pop()
    assert limits == [max(decoders.FEWEST_UNDER_WAY, n - 1) for n in range(at_first, 0, -1)]
    waiting.clear()
    some._adjust()
    assert pool.limit == decoders.FEWEST_UNDER_WAY  # no more are wanted
    for _ in range(1000):
        pool.under_way.update(range(pool.limit))  # type: ignore[arg-type]
        some._adjust()
    assert pool.limit == 2 * at_first


@pytest.mark.parametrize(("dimension", "limit"), [(1024, 4), (4, 256), (100_000, 256)])
def test_what_a_user_or_a_small_dimension_bounds(dimension: int, limit: int) -> None:
    """A limit of the user's own is kept; answers that are small need none."""
    some, pool = Decoders(0, dimension), Pool(limit)
    some.bound(pool)
    assert pool.limit == (decoders.FEWEST_UNDER_WAY if dimension == 100_000 else limit)


# --- a file ---


@pytest.mark.parametrize("stopped", [False, True])
def test_a_file_is_the_same_with_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool) -> None:
    """Byte for byte, rejected rows too, also where each helper hangs from its first answer on."""
    monkeypatch.setattr(helper, "ANSWER_SECONDS", 0.2)
    source = write_input(tmp_path / "in.parquet", ROWS)
    made: list[Decoders] = []
    asked: list[int] = []
    decode = helper.Helper.decode

    def watched(one: Any, *args: Any) -> Any:
        asked.append(one._process.pid)
        if stopped:
            os.kill(one._process.pid, signal.SIGSTOP)
        return decode(one, *args)

    class Kept(Decoders):
        """Is looked at afterwards."""

        def __init__(self, count: int, dimension: int) -> None:
            super().__init__(count if made else 0, dimension)
            made.append(self)

        def decode(self, *args: Any, **settings: Any) -> Any:
            """Let two answers start the helpers, and the others wait for the first of them."""
            if self is not made[0] and not self._unstarted:
                until(lambda: asked or any(one.ready for one in self._all))
            return super().decode(*args, **settings)

    monkeypatch.setattr(helper.Helper, "decode", watched)
    monkeypatch.setattr("opensearch_embed.bulk.run.Decoders", Kept)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    outputs = []
    with RawServer(default=refuse_some) as server, EmbeddingClient(**settings_for(server.url, qps=150.0)) as client:
        for name in ("without.parquet", "with.parquet"):
            embed_file(source, tmp_path / name, client=client)
            outputs.append(content(tmp_path / name))
    assert outputs[0] == outputs[1]
    vectors = pq.read_table(tmp_path / "with.parquet")["embedding"].to_pylist()
    right = [vector(text) if text and "refuse" not in text else None for text in texts_of(ROWS)]
    assert vectors == right
    assert len(right[0] or []) == DIMENSION
    assert asked
    assert not any(is_running(pid) for some in made for pid in pids(some))
