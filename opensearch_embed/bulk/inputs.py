"""Which files are the input, in which form, and whether they are still the same. Nothing here knows what a row is."""

import glob
import gzip
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from opensearch_embed.errors import ConfigurationError, InputError

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "txt",
}
STDIN, STDIN_NAME = "-", "stdin"

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_WHOLE_BYTES = 64 << 20
"""Files up to this size are hashed whole; of larger ones, parts, together with the time of their last change."""
_PART_BYTES, _PARTS = 1 << 20, 32


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of one input, in their order, all of one format."""

    paths: tuple[Path, ...]
    format: str

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return what tells whether the files are the same ones: their names play no part."""
        return [asdict(_identity(path)) for path in self.paths]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is known by."""

    size: int
    digest: str
    changed: int | None


def content(fingerprint: list[dict[str, Any]]) -> str:
    """Return one digest of what the files of a fingerprint hold; when they were changed plays no part."""
    held = [(file["size"], file["digest"]) for file in fingerprint]
    return hashlib.blake2b(repr(held).encode(), digest_size=16).hexdigest()


def find_inputs(source: Source, format: str | None, spool: Path | None = None) -> Inputs:
    """Return the files that the source names: a path, a glob, several of these, or `-` for what comes in on stdin.

    Args:
        source: The source.
        format: The format of all files; `None` goes by their names. `-` needs it.
        spool: Where what comes in on stdin is kept, so that it can be read twice.

    Raises:
        InputError: A file is not there, or its format is not known.
        ConfigurationError: The format makes no sense.
    """
    if format is not None and format not in FORMATS.values():
        raise ConfigurationError(f"format must be one of {', '.join(dict.fromkeys(FORMATS.values()))}, not {format!r}.")
    given = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not given:
        raise InputError("There is no input: name a file.")
    if STDIN in [os.fspath(name) for name in given]:
        if len(given) > 1:
            raise ConfigurationError("'-' stands alone: stdin cannot be read together with files.")
        if format is None:
            raise ConfigurationError("'-' needs format= (--format): csv, jsonl, parquet, tsv or txt.")
        return Inputs((_spooled(spool),), format)
    paths = [path for name in given for path in _expand(os.fspath(name))]
    formats = {path: format or _format_of(path) for path in paths}
    if len(set(formats.values())) > 1:
        named = ", ".join(f"{path.name} is {kind}" for path, kind in formats.items())
        raise InputError(f"The files of one input must have one format: {named}.")
    return Inputs(tuple(paths), formats[paths[0]])


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read, unpacked where it is gzip, whatever its name."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield file


def _expand(name: str) -> list[Path]:
    if Path(name).is_file():
        return [Path(name)]
    found = sorted(path for path in map(Path, glob.glob(name, recursive=True)) if path.is_file())
    if not found:
        what = "is a folder" if Path(name).is_dir() else "matches no file" if glob.has_magic(name) else "is not there"
        raise InputError(f"The input {name!r} {what}.")
    return found


def _format_of(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    found = FORMATS.get(Path(name).suffix)
    if found is None or (found == "parquet" and path.suffix.lower() == ".gz"):
        raise InputError(
            f"What {path.name!r} holds cannot be told from its name. Its end says it ({', '.join(FORMATS)}; all but "
            "the first also with .gz), or format= (--format)."
        )
    return found


def _spooled(spool: Path | None) -> Path:
    if spool is None:
        raise ConfigurationError("stdin can be read once only: keep it in a file first.")
    with spool.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    return spool


def _identity(path: Path) -> Identity:
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        if stat.st_size <= _WHOLE_BYTES:
            while part := file.read(_PART_BYTES):
                digest.update(part)
            return Identity(stat.st_size, digest.hexdigest(), None)
        for number in range(_PARTS):
            file.seek((stat.st_size - _PART_BYTES) * number // (_PARTS - 1))
            digest.update(file.read(_PART_BYTES))
        return Identity(stat.st_size, digest.hexdigest(), stat.st_mtime_ns)
