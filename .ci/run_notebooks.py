"""Execute every notebook as a newcomer would: no key in the environment, from a temporary copy, on the emulator.

    python .ci/run_notebooks.py          fail if a cell raises or warns, or one is not committed executed and small
    python .ci/run_notebooks.py --save   write the outputs into the notebooks, and their pictures in fewer colours

The Jupyter kernel is this interpreter.
"""

import base64
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
CELL_SECONDS = 120
MAX_BYTES = 300_000
COLORS = 256  # of a picture: half the bytes are left, and no difference to see


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run all cells of a notebook in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources, coalesce_streams=True
        )
        client.execute()


def is_executed(notebook: nbformat.NotebookNode) -> bool:
    """Tell whether every code cell was run, in order, in one go."""
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    return counts == list(range(1, len(counts) + 1))


def find_warning(notebook: nbformat.NotebookNode) -> str:
    """Return what a cell wrote to stderr, which no reader should meet, or nothing."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.get("name") == "stderr")


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Take out what changes with every run or machine, and make the pictures small."""
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                output.data["image/png"] = shrink(picture)


def shrink(picture: str) -> str:
    """Reduce a PNG, in base64, to a palette."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    small = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def check(path: Path, save: bool) -> str:
    """Execute one notebook; return what is wrong with it, or nothing."""
    notebook = nbformat.read(path, as_version=4)
    executed, size = is_executed(notebook), path.stat().st_size
    try:
        execute(notebook)
    except CellExecutionError as error:
        return str(error)
    if warning := find_warning(notebook):
        return f"a cell warns: {warning}"
    if save:
        tidy(notebook)
        nbformat.write(notebook, path)
        return ""
    if not executed:
        return "it is not committed executed: run .ci/run_notebooks.py --save"
    return f"it is {size:,} bytes, over {MAX_BYTES:,}" if size > MAX_BYTES else ""


def main() -> int:
    """Execute the notebooks; return the exit code."""
    for name in [name for name in os.environ if name.startswith("OPENSEARCH_")]:
        del os.environ[name]
    paths = sorted(FOLDER.glob("*.ipynb"))
    if not paths:
        print(f"No notebooks in {FOLDER.name}/: nothing to execute.")
    wrong = 0
    for path in paths:
        start = time.perf_counter()
        problem = check(path, save="--save" in sys.argv[1:])
        print(f"{path.name}: {problem or 'ok'} ({time.perf_counter() - start:.0f} s)", flush=True)
        wrong += bool(problem)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
