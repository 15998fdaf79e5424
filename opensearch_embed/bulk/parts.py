"""The folder OUTPUT.parts: whose it is, what it belongs to, and what becomes of it. It knows nothing of vectors."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from opensearch_embed.errors import ConfigurationError

MANIFEST = "manifest.json"
LOCK = "lock"

AGAIN = "Run with --restart (restart=True) to begin anew, or choose another output."


def parts_of(output: Path) -> Path:
    """Return the folder where the unfinished work on an output is kept."""
    return output.with_name(f"{output.name}.parts")


def rejected_of(output: Path) -> Path:
    """Return the file that says which rows were rejected."""
    return output.with_name(f"{output.name}.rejected.jsonl")


def made_of(output: Path) -> Path:
    """Return the file that says what an output was made of, where the output itself has no room for that."""
    return output.with_name(f"{output.name}.made.json")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made if need be, for this process alone.

    Raises:
        ConfigurationError: Another process holds it.
    """
    while True:
        folder.mkdir(exist_ok=True)
        try:
            file = (folder / LOCK).open("a+b")
        except FileNotFoundError:  # the other one has just finished and removed it
            continue
        with file:
            if not _lock(file):
                raise ConfigurationError(
                    f"Another process is at work on {folder.name.removesuffix('.parts')}: it holds {folder}. "
                    "Wait for it, or choose another output."
                )
            if _is_still_there(file, folder / LOCK):
                yield
                return


def _lock(file: IO[bytes]) -> bool:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_there(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def empty(folder: Path, but: str = "") -> None:
    """Remove what an earlier run left in the folder; the manifest first, since the rest means nothing without it."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name not in (LOCK, but):
            path.unlink()


def remove(folder: Path) -> None:
    """Remove the folder."""
    empty(folder)
    shutil.rmtree(folder, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what the folder belongs to; `None` where it holds nothing, or nothing that can be read."""
    try:
        found = orjson.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write what the folder belongs to, whole or not at all."""
    move(write_json(folder / f"{MANIFEST}.new", manifest), folder / MANIFEST)


def write_json(path: Path, value: dict[str, Any]) -> Path:
    """Write an object for people and programs, and return the file, which is on the disk."""
    with path.open("wb") as file:
        file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sync(file.fileno())
    return path


def compare(found: dict[str, Any], wanted: dict[str, Any], output: Path) -> None:
    """Refuse to go on with work that another input or other settings began.

    Raises:
        ConfigurationError: It names what has changed.
    """
    changed = [name for name in wanted if found.get(name) != wanted[name]]
    if not changed:
        return
    told = [
        "the input" if name == "inputs" else f"{name} ({found.get(name)!r} then, {wanted[name]!r} now)"
        for name in changed
    ]
    raise ConfigurationError(
        f"{parts_of(output)} holds unfinished work, and what it was made from has changed: {', '.join(told)}. "
        f"Vectors of two kinds must not be mixed. {AGAIN}"
    )


def put_in_place(folder: Path, output: Path, done: Mapping[str, Any]) -> bool:
    """Put what is complete in its place, the rejected rows first; all of it, also where a kill came between.

    Returns whether the output is there.
    """
    aside = folder / done["output"]
    if aside.exists():
        if done["rejected"] is None:
            rejected_of(output).unlink(missing_ok=True)
        elif (rejected := folder / done["rejected"]).exists():
            move(rejected, rejected_of(output))
        if done["made"] is not None and (made := folder / done["made"]).exists():
            move(made, made_of(output))
        move(aside, output)
    if not output.exists():
        return False
    remove(folder)
    return True


def sync(descriptor: int) -> None:
    """Wait until what was written is on the disk."""
    os.fsync(descriptor)


def move(source: Path, target: Path) -> None:
    """Put a finished file in its place, at once, and for good."""
    source.replace(target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
