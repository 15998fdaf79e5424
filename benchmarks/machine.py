"""Which machine this is, and which core is whose."""

import importlib.metadata
import os
import platform
import sys
from typing import Any

_LIBRARIES = (
    "opensearch-embed",
    "llama-index-embeddings-alibabacloud-aisearch",
    "alibabacloud-searchplat20240529",
    "alibabacloud-tea",
    "baseten-performance-client",
    "llama-index-core",
    "langchain-core",
    "requests",
    "urllib3",
    "aiohttp",
    "orjson",
    "numpy",
    "pyrate-limiter",
    "tenacity",
)


def choose_cores() -> tuple[int | None, int | None]:
    """A core for the clients and one for the server; none where there is one core, or no way to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, Any]:
    """What a reader needs to judge the figures."""
    client, server = choose_cores()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned": client is not None,
        "client_core": client,
        "server_core": server,
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {library: _version(library) for library in _LIBRARIES},
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }
