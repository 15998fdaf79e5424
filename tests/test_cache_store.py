"""The file of vectors: what was put is what is got, whoever else reads, writes, forks or is killed meanwhile."""

import copy
import math
import os
import pickle
import random
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opensearch_embed._call.keys import cache_key, keys_for
from opensearch_embed.cache import SqliteCache, VectorCache
from opensearch_embed.errors import ConfigurationError

PARTS = ("https://example.com", "ops-text-embedding-002", "document", "some words")
NOT_FLOAT32 = 0.1

# Batches of 8 vectors; each batch says its name when it is kept.
WRITER = """
import sys
from opensearch_embed.cache import SqliteCache
cache = SqliteCache(sys.argv[1])
for batch in range(1_000_000):
    cache.put_many({f"{sys.argv[2]}-{batch}-{i}": [float(batch)] * 700 + [0.1 * (i % 2)] for i in range(8)})
    print(batch, flush=True)
"""

CREATOR = """
import sys
from opensearch_embed.cache import SqliteCache
for number in range(1_000_000):
    SqliteCache(f"{sys.argv[1]}/{sys.argv[2]}-{number}.sqlite")
    print(number, flush=True)
"""

TOGETHER = """
import multiprocessing, sys
from opensearch_embed.cache import SqliteCache

def work(name, together):
    for turn in range(12):
        together.wait(60)
        cache = SqliteCache(f"{sys.argv[1]}/{turn}.sqlite")
        for number in range(3):
            cache.put_many({f"{name}-{number}": [float(number)] * 500, "contended": [float(name)] * 500})
            assert len(set(cache.get_many(["contended"])["contended"])) == 1

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(4)
    processes = [context.Process(target=work, args=(name, together)) for name in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))
"""

FORKER = """
import glob, os, sys, threading, warnings
from opensearch_embed.cache import SqliteCache
warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
cache = SqliteCache(sys.argv[1])
cache.put_many({"before": [1.0]})
done = threading.Event()

def work(name):
    number = 0
    while not done.is_set() or number < 20:
        cache.put_many({f"{name}-{number}": [float(number)] * 500})
        assert cache.get_many([f"{name}-{number}"]) == {f"{name}-{number}": [float(number)] * 500}
        number += 1

threads = [threading.Thread(target=work, args=(f"thread-{i}",)) for i in range(2)]
for thread in threads:
    thread.start()
for number in range(3):
    child = os.fork()
    if child == 0:
        files = [os.path.realpath(file) for file in glob.glob("/proc/self/fd/*")]  # Linux has it
        assert not [file for file in files if file.startswith(sys.argv[1])]
        assert cache.get_many(["before"]) == {"before": [1.0]}
        cache.put_many({f"child-{number}": [float(number)]})
        sys.exit()  # with all that the interpreter does at its end
    cache.put_many({f"parent-{number}": [float(number)]})
    assert os.waitpid(child, 0)[1] == 0
done.set()
for thread in threads:
    thread.join()
"""

AT_EXIT = """
import gc, sys, threading
from opensearch_embed.cache import SqliteCache
cache = SqliteCache(sys.argv[1])
cache.put_many({"kept": [1.0]})
dropped = SqliteCache(sys.argv[1])
dropped.itself = dropped
del dropped
gc.collect()
def read():
    while cache.get_many(["kept"]) == {"kept": [1.0]}:
        started.set()
started = threading.Event()
threading.excepthook = lambda args: None  # a daemon is cut off in the middle, and may say so
threading.Thread(target=read, daemon=True).start()
started.wait()
"""

FULL_DISK = """
import resource, sys
from opensearch_embed.cache import SqliteCache
from opensearch_embed.errors import ConfigurationError
cache = SqliteCache(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    for number in range(100):
        cache.put_many({str(number): [float(number)] * 1024})
except ConfigurationError as error:
    kept = number
    assert sys.argv[1] in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert cache.get_many(list(map(str, range(100)))) == {str(i): [float(i)] * 1024 for i in range(kept)}
cache.put_many({"more": [1.0]})
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a cache may be made."""
    return str(tmp_path / "embeddings.sqlite")


@pytest.fixture
def cache(path: str) -> SqliteCache:
    """An empty cache."""
    return SqliteCache(path)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-X", "dev", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def kill_after(lines: int, script: str, *args: str) -> int:
    """Run a script until it has written so many lines, kill it, and return how many it wrote in all."""
    with subprocess.Popen([sys.executable, "-c", script, *args], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        return lines + sum(line.endswith("\n") for line in process.stdout)


def vectors_or_error(path: str, keys: list[str]) -> dict[str, list[float]] | ConfigurationError:
    """Return what a file says."""
    try:
        return SqliteCache(path).get_many(keys)
    except ConfigurationError as error:
        return error


def as_bytes(vector: list[float]) -> bytes:
    """Tell apart what == does not: 0.0 and -0.0, and one NaN from another."""
    return struct.pack(f"{len(vector)}d", *vector)


# --- keys ---


@pytest.mark.parametrize("changed", range(4))
def test_a_key_depends_on_each_of_its_parts(changed: int) -> None:
    """Endpoint, service, input type and text all count."""
    others = [part + "!" * (index == changed) for index, part in enumerate(PARTS)]
    assert cache_key(*PARTS) != cache_key(*others)


@given(st.lists(st.text(alphabet="ab", max_size=3), min_size=4, max_size=4), st.data())
def test_a_key_is_never_that_of_the_same_words_cut_elsewhere(parts: list[str], data: st.DataObject) -> None:
    """("a", "bc") has another key than ("ab", "c"), wherever the cut is."""
    words = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(words)), min_size=3, max_size=3)))
    others = [words[start:end] for start, end in zip([0, *cuts], [*cuts, len(words)], strict=True)]
    assert (cache_key(*parts) == cache_key(*others)) == (parts == others)


def test_a_key_shows_nothing_of_its_parts() -> None:
    """A key is a hash, the same in every process and version: another one would mean paying again."""
    assert cache_key(*PARTS) == "108440ad335d4925196b9ab713c07f249517c64f1f10bd38120a88a21d800455"


@given(st.text(st.characters()))
def test_keys_for_makes_the_same_keys(text: str) -> None:
    """The fast way and the plain way agree on every text, and on half a surrogate pair."""
    assert keys_for(*PARTS[:3])(text) == cache_key(*PARTS[:3], text)
    assert keys_for(*PARTS[:3])(text + "\ud800") == cache_key(*PARTS[:3], text + "\ud800")


# --- what was put is got ---


@pytest.mark.parametrize(
    "vector",
    [
        [1.0, -0.5, 0.0],
        [0.0, -0.0],
        [2.0**-149, -(2.0**-126), 2.0**-150],
        [5e-324, -2.2250738585072014e-308],
        [3.4028234663852886e38, 3.402823466385289e38, 1e300],
        [math.inf, -math.inf],
        [math.nan, 1.0],
        [NOT_FLOAT32, 1 / 3, 16777217.0],
        [],
    ],
    ids=str,
)
def test_every_number_comes_back_exactly(cache: VectorCache, vector: list[float]) -> None:
    """Signed zeros, the smallest and the largest numbers, and what float32 cannot hold, all survive."""
    cache.put_many({"key": vector})
    found = cache.get_many(["key"])["key"]
    assert type(found) is list
    assert as_bytes(found) == as_bytes(vector)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.lists(st.floats(width=32), max_size=8) | st.lists(st.floats(), max_size=8),
    )
)
def test_any_vectors_come_back_exactly(cache: SqliteCache, vectors: dict[str, list[float]]) -> None:
    """Whatever the numbers and the keys are, what was put last is got."""
    cache.put_many(vectors)
    found = cache.get_many(list(vectors))
    assert {key: as_bytes(vector) for key, vector in found.items()} == {
        key: as_bytes(vector) for key, vector in vectors.items()
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_an_array_are_taken_too(cache: SqliteCache, dtype: str) -> None:
    """A row comes back as the list of its numbers."""
    numpy = pytest.importorskip("numpy")
    rows = numpy.random.default_rng(1).standard_normal((3, 5)).astype(dtype)
    cache.put_many(dict(zip("abc", rows, strict=True)))
    assert cache.get_many("abc") == dict(zip("abc", rows.tolist(), strict=True))


def test_float32_numbers_take_half_the_space(tmp_path: Path) -> None:
    """Four bytes a number where that loses nothing, else eight."""
    sizes = []
    for name, number in (("short", 0.5), ("long", NOT_FLOAT32)):
        cache = SqliteCache(tmp_path / name)
        cache.put_many({str(i): [number] * 1024 for i in range(100)})
        cache.close()
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes[0] < 1.2 * 100 * 4096
    assert sizes[1] > 100 * 8192


def test_a_key_without_a_vector_is_absent(cache: SqliteCache) -> None:
    """Only what was put is returned, and no keys or no vectors are no trouble."""
    cache.put_many({})
    cache.put_many({"there": [1.0]})
    assert cache.get_many(["there", "not there", "there"]) == {"there": [1.0]}
    assert cache.get_many([]) == {}


def test_a_later_vector_takes_the_place_of_an_earlier_one(cache: SqliteCache) -> None:
    """What was put last counts."""
    cache.put_many({"key": [1.0, 2.0], "other": [3.0]})
    cache.put_many({"key": [NOT_FLOAT32]})
    assert cache.get_many(["key", "other"]) == {"key": [NOT_FLOAT32], "other": [3.0]}


def test_any_number_of_keys_may_be_asked_for(cache: SqliteCache) -> None:
    """More keys than SQLite takes in one statement are no trouble."""
    vectors = {str(i): [float(i)] for i in range(0, 40_000, 100)}
    cache.put_many(vectors)
    assert cache.get_many([str(i) for i in range(40_000)]) == vectors


# --- threads, processes, kills, forks ---


def test_many_threads_share_one_cache(cache: SqliteCache) -> None:
    """Threads that read and write at once each find what they put, and never a part of a vector."""

    def work(thread: int) -> None:
        for number in range(30):
            keys = [f"{thread}-{number}", "contended"]
            cache.put_many({key: [float(thread)] * 300 for key in keys})
            found = cache.get_many(keys)
            assert found[keys[0]] == [float(thread)] * 300
            assert len(set(found["contended"])) == 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(cache.get_many([f"{thread}-{number}" for thread in range(8) for number in range(30)])) == 240


def test_many_processes_create_and_write_one_file_at_once(tmp_path: Path) -> None:
    """Processes that make the same file at the same instant all succeed, and none loses what another put."""
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    result = run(str(script), str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    vectors = {f"{name}-{number}": [float(number)] * 500 for name in range(4) for number in range(3)}
    for turn in range(12):
        assert SqliteCache(tmp_path / f"{turn}.sqlite").get_many(list(vectors)) == vectors


def test_a_kill_in_mid_write_loses_nothing_that_was_put(path: str) -> None:
    """After kill -9 the file opens, each batch is there whole or not at all, and each that was confirmed is there."""
    for life, lines in enumerate([1, 2, 30, 100]):
        confirmed = kill_after(lines, WRITER, path, str(life))
        found = SqliteCache(path).get_many([f"{life}-{batch}-{i}" for batch in range(confirmed + 5) for i in range(8)])
        assert len(found) // 8 >= confirmed
        assert found == {
            f"{life}-{batch}-{i}": [float(batch)] * 700 + [0.1 * (i % 2)]
            for batch in range(len(found) // 8)
            for i in range(8)
        }


def test_a_kill_while_files_are_made_leaves_none_that_cannot_be_opened(tmp_path: Path) -> None:
    """A file that was half made when the kill came is simply finished."""
    for life, lines in enumerate([0, 1, 7, 20]):
        kill_after(lines, CREATOR, str(tmp_path), str(life))
    for file in tmp_path.glob("*.sqlite"):
        cache = SqliteCache(file)
        cache.put_many({"key": [1.0]})
        assert cache.get_many(["key"]) == {"key": [1.0]}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_cache_works_on_both_sides_of_a_fork(path: str) -> None:
    """A process that forks in the midst of its threads' reads and writes goes on, and so do its children."""
    result = run("-c", FORKER, path)
    assert (result.returncode, result.stderr) == (0, "")
    kept = {f"{who}-{number}": [float(number)] for who in ("child", "parent") for number in range(3)}
    assert SqliteCache(path).get_many(list(kept)) == kept


def test_a_write_waits_for_another_process(cache: SqliteCache, path: str) -> None:
    """While somebody else writes, a put waits, and a get does not."""
    cache.put_many({"old": [1.0]})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert cache.get_many(["old"]) == {"old": [1.0]}
    thread = threading.Thread(target=cache.put_many, args=({"new": [2.0]},))
    thread.start()
    other.execute("COMMIT")
    other.close()
    thread.join(30)
    assert cache.get_many(["new"]) == {"new": [2.0]}


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_is_another_door_to_the_same_file(
    path: str, monkeypatch: pytest.MonkeyPatch, clone: Callable[[SqliteCache], SqliteCache]
) -> None:
    """Copied or pickled, the path travels, and means the same file in another directory."""
    monkeypatch.chdir(Path(path).parent)
    cache = SqliteCache(Path(path).name)
    cache.put_many({"key": [1.0]})
    twin = clone(cache)
    monkeypatch.chdir("/")
    assert repr(twin) == repr(cache) == f"SqliteCache({path!r})"
    twin.put_many({"more": [2.0]})
    cache.close()
    assert twin.get_many(["key", "more"]) == {"key": [1.0], "more": [2.0]}
    assert b"key" not in pickle.dumps(cache)


def test_unpickling_never_fails(cache: SqliteCache, path: str) -> None:
    """What is wrong with the file is said at the first use: an error before that would hang a pool of workers."""
    pickled = pickle.dumps(cache)
    cache.close()
    Path(path).write_text("no database")
    twin = pickle.loads(pickled)
    with pytest.raises(ConfigurationError):
        twin.get_many(["key"])


# --- open and closed ---


def test_a_closed_cache_is_one_file_and_opens_again(cache: SqliteCache, path: str) -> None:
    """Closing leaves no other file behind; using it later is no error, nor is closing it twice."""
    cache.put_many({"key": [1.0]})
    cache.close()
    cache.close()
    assert [file.name for file in Path(path).parent.iterdir()] == [Path(path).name]
    assert cache.get_many(["key"]) == {"key": [1.0]}
    cache.put_many({"more": [2.0]})
    assert SqliteCache(path).get_many(["key", "more"]) == {"key": [1.0], "more": [2.0]}


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete open files")
@pytest.mark.parametrize("companions", [True, False])
def test_a_file_that_is_deleted_while_open_is_made_anew(cache: SqliteCache, path: str, companions: bool) -> None:
    """What is put after a deletion is kept, with or without the files that SQLite puts beside it."""
    cache.put_many({"old": [1.0]})
    for file in [Path(path), *[Path(f"{path}{ending}") for ending in ("-wal", "-shm") if companions]]:
        file.unlink()
    cache.put_many({"new": [2.0]})
    assert cache.get_many(["old", "new"]) == {"new": [2.0]}
    cache.close()
    assert SqliteCache(path).get_many(["old", "new"]) == {"new": [2.0]}


def test_a_cache_that_is_left_open_ends_without_a_word(path: str) -> None:
    """Neither garbage collection nor the interpreter's end, with a thread in mid-read, warns or hangs."""
    result = run("-c", AT_EXIT, path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not Path(f"{path}-wal").exists()


# --- files that cannot be used ---


@pytest.mark.parametrize(
    "content", [b"no", b"Some notes, not a database.\n" * 300, b"SQLite format 3\0" + bytes(range(256)) * 16]
)
def test_a_file_that_is_no_database_is_left_alone(path: str, content: bytes) -> None:
    """The error names the file and what to do, and nothing is overwritten."""
    Path(path).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"Delete it, or name another file") as caught:
        SqliteCache(path)
    assert path in str(caught.value)
    assert Path(path).read_bytes() == content


@pytest.mark.parametrize(
    "statements",
    ["CREATE TABLE accounts (name TEXT)", "PRAGMA application_id = 7", "PRAGMA user_version = 7"],
)
def test_another_programs_database_is_left_alone(path: str, statements: str) -> None:
    """A database that is not a cache, even an empty one that somebody has marked, is not touched."""
    other = sqlite3.connect(path)
    other.execute(statements)
    other.commit()
    other.close()
    before = Path(path).read_bytes()
    with pytest.raises(ConfigurationError, match="another program or another version") as caught:
        SqliteCache(path)
    assert path in str(caught.value)
    assert Path(path).read_bytes() == before
    assert [file.name for file in Path(path).parent.iterdir()] == [Path(path).name]


def test_another_versions_cache_is_left_alone(cache: SqliteCache, path: str) -> None:
    """A table that may look different is not read."""
    cache.close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 2")
    other.close()
    with pytest.raises(ConfigurationError, match="another version"):
        cache.get_many(["key"])


def test_an_empty_file_is_made_a_cache(path: str) -> None:
    """A file without content, as `tempfile` makes it, is nobody's."""
    Path(path).touch()
    SqliteCache(path).put_many({"key": [1.0]})
    assert SqliteCache(path).get_many(["key"]) == {"key": [1.0]}


def test_damage_is_told_and_never_returned_as_a_vector(cache: SqliteCache, path: str) -> None:
    """Wherever a file is damaged: every answer is a right vector, or none, or an error that names the file."""
    vectors = {str(i): [float(i)] * 200 for i in range(100)}
    cache.put_many(vectors)
    cache.close()
    whole = Path(path).read_bytes()
    randomly = random.Random(1)
    errors = []
    for _ in range(60):
        damaged = bytearray(whole)
        start = randomly.randrange(len(whole) - 400)
        damaged[start : start + 400] = randomly.randbytes(400)
        Path(path).write_bytes(damaged)
        answer = vectors_or_error(path, list(vectors))
        if isinstance(answer, dict):
            assert answer.items() <= vectors.items()
        else:
            errors.append(str(answer))
    assert len(errors) > 30
    assert all(path in error and "ame another file" in error for error in errors)


def test_a_file_that_was_cut_short_is_told(cache: SqliteCache, path: str) -> None:
    """Half a file is an error, not half a cache."""
    cache.put_many({str(i): [float(i)] * 200 for i in range(100)})
    cache.close()
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(ConfigurationError, match="damaged"):
        SqliteCache(path).get_many([str(i) for i in range(100)])


@pytest.mark.parametrize("place", ["missing/embeddings.sqlite", "", "file/embeddings.sqlite"])
def test_a_place_that_cannot_hold_the_file_is_refused_at_once(tmp_path: Path, place: str) -> None:
    """A directory that is missing or none, or a directory in the file's place, is told before anything is paid for."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"this user may write, in a directory that exists") as caught:
        SqliteCache(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("protected", ["file", "directory"])
def test_what_must_not_be_written_is_refused_at_once(cache: SqliteCache, path: str, protected: str) -> None:
    """A file or directory that is read-only for this user is told when the cache is made."""
    cache.close()
    target = Path(path) if protected == "file" else Path(path).parent
    target.chmod(0o555)
    try:
        with pytest.raises(ConfigurationError, match="this user may write"):
            SqliteCache(path)
    finally:
        target.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit stands in for a full disk on Linux")
def test_a_full_disk_is_told_and_loses_nothing(path: str) -> None:
    """What was put before the disk was full is there, and when there is room again, the cache goes on."""
    result = run("-c", FULL_DISK, path)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("path", ["", " ", ":memory:", "a\0b", None, 7, ["a"]])
def test_what_is_not_the_path_of_a_file_is_refused(path: object) -> None:
    """The error says what is expected."""
    with pytest.raises(ConfigurationError, match="cache must be the path of a file"):
        SqliteCache(path)  # type: ignore[arg-type]
