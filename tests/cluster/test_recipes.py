"""Each example of docs/cluster.md runs as a program of its own, and prints what the page shows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_docs import ROOT, Block, blocks

from opensearch_embed.emulator import Emulator

ROWS = 5000
OUTPUTS = ("embedded", "embedded-by-spark", "embedded-by-dask")
RECIPES = dict(zip(OUTPUTS, blocks(ROOT / "docs" / "cluster.md", "python"), strict=True))


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator with the quota of the examples, with some room."""
    with Emulator(qps=100) as running:
        yield running


@pytest.mark.parametrize("output", RECIPES)
def test_the_recipe_runs(output: str, emulator: Emulator, tmp_path: Path) -> None:
    """Against a corpus with one empty text: every other row has its vector, in float32, in Parquet."""
    recipe: Block = RECIPES[output]
    texts = [f"This is document {number}." for number in range(ROWS - 1)] + [""]
    (tmp_path / "corpus").mkdir()
    for number in range(2):
        table = pa.table({"id": range(number, ROWS, 2), "text": texts[number::2]})
        pq.write_table(table, tmp_path / "corpus" / f"{number}.parquet")
    (tmp_path / "recipe.py").write_text(f"if __name__ == '__main__':\n{_indented(recipe.code)}")
    environment = {
        **os.environ,
        "OPENSEARCH_ENDPOINT": emulator.url,
        "OPENSEARCH_API_KEY": emulator.api_key,
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "recipe.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = done.stdout.splitlines()[-1] + "\n"
    assert OutputChecker().check_output(recipe.output, shown, ELLIPSIS | NORMALIZE_WHITESPACE), done.stdout
    found = pq.read_table(tmp_path / output, columns=["id", "text", "embedding"]).sort_by("id")
    assert [number for number in found["id"].to_pylist() if texts[number]] == list(range(ROWS - 1))
    vectors = found["embedding"].combine_chunks()
    lists = getattr(vectors.type, "storage_type", vectors.type)
    assert lists.value_type == pa.float32()
    for number in (0, 1, 2047, 2048, ROWS - 2):
        np.testing.assert_array_equal(
            np.array(vectors[number].as_py(), np.float32), np.array(emulator.vector(texts[number]), np.float32)
        )


def _indented(code: str) -> str:
    return "".join(f"    {line}" if line.strip() else line for line in code.splitlines(keepends=True))
