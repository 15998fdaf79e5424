"""Vectors that were paid for once are kept in a file, so that the same text is not sent again, even by another process.

This file decides in which form a vector is kept, and who may write when. It sees neither texts nor the API key.
"""

import os
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from opensearch_embed.errors import ConfigurationError

_OWNER = 0x6F736563  # in the file's header, "osec" says that it is ours
_VERSION = 1  # of the table
_PATIENCE = 60.0  # seconds to wait for other processes; a write takes milliseconds
_CHUNK = 256  # keys asked for at once: old SQLites allow 999, and between chunks other threads have their turn

_WHOSE = (
    "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
    "FROM pragma_application_id, pragma_user_version"
)
_CREATE = "CREATE TABLE vectors (key TEXT PRIMARY KEY, width INTEGER, numbers BLOB, checksum INTEGER)"
_GET = "SELECT key, width, numbers, checksum FROM vectors WHERE key IN "
_PUT = (
    "INSERT INTO vectors VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET width = excluded.width, numbers = excluded.numbers, checksum = excluded.checksum"
)

_FOREIGN = "it belongs to another program or another version of this one. Name another file"
_DAMAGED = "it is damaged, or not a cache of embeddings. Delete it, or name another file"
_NO_ACCESS = "it must be a file that this user may write, in a directory that exists and that this user may write"
_ADVICE = {
    sqlite3.SQLITE_CANTOPEN: _NO_ACCESS,
    sqlite3.SQLITE_PERM: _NO_ACCESS,
    sqlite3.SQLITE_READONLY: _NO_ACCESS,
    sqlite3.SQLITE_BUSY: f"another process kept it locked for {_PATIENCE:.0f} seconds. Name another file",
    sqlite3.SQLITE_FULL: "its disk is full. Make room, or name another file",
    sqlite3.SQLITE_IOERR: "its disk fails. Name another file, on a local disk",
}


class VectorCache(Protocol):
    """What a client asks of a cache. Many threads ask at once."""

    def get_many(self, keys: Sequence[str], /) -> Mapping[str, Sequence[float]]:
        """Return the vectors of these keys; a key that has none is absent."""
        ...

    def put_many(self, vectors: Mapping[str, Sequence[float]], /) -> None:
        """Keep vectors by their key."""
        ...


class SqliteCache:
    """Vectors in a SQLite file: threads and processes may use it at once, and a kill at any instant leaves it whole.

    Pickled or copied, only the path travels. After `close`, the next use opens the file again.

    Args:
        path: A file on a local disk, made if it is not there.

    Raises:
        ConfigurationError: The file cannot be written, is damaged, or is no cache. Every method may raise it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            name = os.fsdecode(path)
        except TypeError as error:
            raise ConfigurationError(f"cache must be the path of a file, not {type(path).__name__}.") from error
        if not name.strip() or name == ":memory:" or "\0" in name:
            raise ConfigurationError(f"cache must be the path of a file, not {name!r}.")
        self.__setstate__(
            {"path": os.path.abspath(os.path.expanduser(name))}
        )  # a worker process may start in another directory
        with self._connected():
            pass  # what is wrong with the file is said now. Not when unpickled: there an error can hang a pool

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.path = state["path"]
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._disconnect: Callable[[], object] = lambda: None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def get_many(self, keys: Sequence[str]) -> dict[str, list[float]]:
        """Return the vectors of these keys; a key that has none is absent."""
        found: dict[str, list[float]] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            with self._connected() as connection:
                rows = connection.execute(f"{_GET} ({','.join('?' * len(chunk))})", chunk).fetchall()
            try:
                found.update((row[0], _unpack(*row)) for row in rows)
            except (TypeError, ValueError) as error:
                raise self._refusal(_DAMAGED, error) from error
        return found

    def put_many(self, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors by their key, in place of older ones: all of them or, if killed, none."""
        rows = [_pack(key, vector) for key, vector in vectors.items()]
        with self._connected() as connection, connection:  # the second commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_PUT, rows)

    def close(self) -> None:
        """Close the file. If nobody else has it open, all that was put is then in this one file."""
        with _lock:
            self._connection = None
            self._disconnect()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        # Threads take turns on one connection: a turn takes a millisecond, and SQLite has one writer at a time anyhow.
        with _lock:
            try:
                yield self._connect()
            except sqlite3.Error as error:
                self.close()
                raise self._refusal(_ADVICE.get(_code(error), _DAMAGED), error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = self._connection
        # Where the file was deleted, or another put in its place, what the old connection writes would be lost.
        if connection is None or self._file != _identity(self.path):
            self.close()
            connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            # At this object's end or the interpreter's; Python 3.13 warns of connections that are left open.
            self._disconnect = weakref.finalize(self, _close, connection)
            _users.add(self)
            if not _prepare(connection):
                self.close()
                raise self._refusal(_FOREIGN, "left unchanged")
            self._connection, self._file = connection, _identity(self.path)
        return connection

    def _refusal(self, advice: str, detail: object) -> ConfigurationError:
        return ConfigurationError(f"cache={self.path!r} cannot be used: {advice} ({detail}).")


def _close(connection: sqlite3.Connection) -> None:
    with _lock:
        connection.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is finer detail


def _is_busy(error: BaseException) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)


# Where two processes change a new file's journal mode at once, SQLite refuses one at once, whatever its timeout.
@retry(retry=retry_if_exception(_is_busy), wait=wait_random(0, 0.02), stop=stop_after_delay(_PATIENCE), reraise=True)
def _prepare(connection: sqlite3.Connection) -> bool:
    """Make the table, if the file is new; return false, and change nothing, if it is not ours."""
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last vectors, but not the file
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        [(owner, version, tables)] = connection.execute(_WHOSE)
        if (owner, version, tables) == (0, 0, 0):
            connection.execute(_CREATE)
        elif (owner, version) != (_OWNER, _VERSION):
            return False
        # Written even if it is there: so a file that may only be read is told now, not after vectors were paid for.
        connection.execute(f"PRAGMA application_id = {_OWNER}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()  # readers beside a writer
    return True


def _pack(key: str, vector: Sequence[float]) -> tuple[str, int, bytes, int]:
    """Make a row of a vector: 4 bytes a number where that loses nothing, else 8; little-endian."""
    import numpy as np

    exact = np.asarray(vector, "<f8")
    with np.errstate(over="ignore"):
        short = exact.astype("<f4")
    numbers = short if np.array_equal(short, exact) else exact
    data = numbers.tobytes()
    return key, numbers.itemsize, data, _checksum(key, numbers.itemsize, data)


def _unpack(key: str, width: int, data: bytes, checksum: int) -> list[float]:
    import numpy as np

    if _checksum(key, width, data) != checksum:
        raise ValueError("a vector is not what was put")
    numbers: list[float] = np.frombuffer(data, f"<f{width}").tolist()
    return numbers


def _checksum(key: str, width: int, data: bytes) -> int:
    # SQLite finds damage in its own structures, but not in what it stores in them.
    return zlib.crc32(data, zlib.crc32(f"{width} {key}".encode()))


# No connection may pass a fork, not even to be closed in the child: so all are closed before it, and open again on use.
# One lock serves all caches of a process: were it one each, two threads that fork at once could wait for each other.
_lock = threading.RLock()
_users: weakref.WeakSet[SqliteCache] = weakref.WeakSet()


def _close_before_fork() -> None:
    _lock.acquire()
    for cache in list(_users):
        cache.close()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_before_fork, after_in_parent=lambda: _lock.release(), after_in_child=_renew_lock)
