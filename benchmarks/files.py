"""From a file to a file through the command line: share of the quota, memory, and what `kill -9` costs.

    python -m benchmarks.files --rows 1000000 --qps 500 --kills 3

One run is left alone, one is killed, both against the same server; what they write must be the same, byte for byte.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.job import BATCH, KEY, Job
from benchmarks.lab import Lab, open_lab
from benchmarks.report import table

_CHUNK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Load:
    """What is embedded, and how fast the server lets it."""

    rows: int
    length: int
    qps: float
    latency_ms: float


@dataclass(slots=True)
class Measured:
    """One output, made in as many runs as it took. Seconds and megabytes (10^6 bytes)."""

    seconds: float = 0.0
    peak: float = 0.0
    runs: int = 0
    texts: int = 0
    rejected: int = 0
    digest: str = ""


def write_corpus(path: Path, load: Load) -> None:
    """Write texts that begin with their own number, with a column beside them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        texts = Job("files", "", load.rows, length=load.length).make_texts()
        for start in range(0, load.rows, _CHUNK_ROWS):
            part = texts[start : start + _CHUNK_ROWS]
            writer.write_table(pa.table([range(start, start + len(part)), part], schema=schema))


def embed(lab: Lab, load: Load, source: Path, output: Path, kills: list[float]) -> Measured:
    """Embed a file, killed after so many seconds of each run, and then left alone."""
    settings = {"latency_ms": load.latency_ms, "qps": load.qps or None, "marked": True}
    lab.control("POST", "/reset", settings)
    measured = Measured()
    dimension = [] if lab.dimension == 1024 else ["--model", "benchmark-model", "--dimension", str(lab.dimension)]
    command = [sys.executable, "-m", "opensearch_embed", "embed", str(source), "--output", str(output), "--quiet"]
    command += ["--qps", f"{load.qps:g}", *dimension]
    environment = {**os.environ, "OPENSEARCH_ENDPOINT": lab.url, "OPENSEARCH_API_KEY": KEY}
    for seconds in [*kills, None]:
        start = time.monotonic()
        with subprocess.Popen(command, env=environment) as process:
            while process.poll() is None:
                measured.peak = max(measured.peak, peak_bytes(process.pid) / 1e6)
                if seconds is not None and time.monotonic() - start > seconds:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                time.sleep(0.02)
        measured.seconds += time.monotonic() - start
        measured.runs += 1
        if process.returncode not in (0, -signal.SIGKILL):
            sys.exit(f"opensearch-embed ended with {process.returncode}")
    counts = lab.control("GET", "/stats")
    measured.texts, measured.rejected = counts["texts"], counts["rejected"]
    with output.open("rb") as file:
        measured.digest = hashlib.file_digest(file, "sha256").hexdigest()
    return measured


def peak_bytes(pid: int) -> int:
    """The most memory that a process and its helpers have held so far, added up; 0 when it has gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as lines:
            own = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
        started = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return 0
    return own + sum(peak_bytes(int(child)) for children in started for child in children.split())


def run(lab: Lab, load: Load, kills: int, folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Measure an undisturbed run, and one that is killed so many times; fail where their outputs differ."""
    source = folder / "corpus.parquet"
    write_corpus(source, load)
    rows = []
    chance = random.Random(seed)
    alone: Measured | None = None
    for name in ["undisturbed", "killed"][: 1 + bool(kills)]:
        delays = [] if alone is None else [chance.uniform(0.1, 0.9) * alone.seconds / kills for _ in range(kills)]
        measured = embed(lab, load, source, folder / f"{name}.parquet", delays)
        ideal = -(-load.rows // BATCH) / load.qps if load.qps else 0.0
        rows.append(
            {
                "run": name,
                "rows": f"{load.rows:,}",
                "seconds": f"{measured.seconds:.1f}",
                "requests/s": f"{load.rows / BATCH / measured.seconds:.0f}",
                "of the quota": f"{ideal / measured.seconds:.1%}" if ideal else "-",
                "peak, MB": f"{measured.peak:.0f}",
                "texts sent twice": f"{measured.texts - load.rows:,}",
                "refused (429)": f"{measured.rejected:,}",
                "kills": str(len(delays)),
            }
        )
        (folder / f"{name}.parquet").unlink()
        if alone is not None and measured.digest != alone.digest:
            raise SystemExit("The killed run has written something else.")
        alone = alone or measured
    return rows


def main() -> None:
    """Read the options, measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    parser.add_argument("--rows", type=int, action="append", help="may be repeated; default: 10,000")
    parser.add_argument("--length", type=int, default=500, help="characters of a text")
    parser.add_argument("--qps", type=float, default=500, help="0 means no limit")
    parser.add_argument("--latency-ms", type=float, default=100)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files go for the time being: 9 KB a row")
    options = parser.parse_args()
    rows = []
    with open_lab(options.dimension) as lab, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for count in options.rows or [10_000]:
            load = Load(count, options.length, options.qps, options.latency_ms)
            rows += run(lab, load, options.kills, Path(folder))
    print(table(rows[0], (row.values() for row in rows)))


if __name__ == "__main__":
    main()
