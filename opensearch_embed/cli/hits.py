"""How the rows that a search found are printed."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
import typer

if TYPE_CHECKING:
    from opensearch_embed.bulk import Hit


def print_hits(hits: "Sequence[Hit]", *, as_json: bool) -> None:
    """Print score and text, best first: as long as the terminal is wide, or whole, as JSON."""
    width = shutil.get_terminal_size().columns - 8
    for hit in hits:
        if as_json:
            found = {"row": hit.row, "score": hit.score, "text": hit.value}
            typer.echo(orjson.dumps(found, default=str).decode())
        else:
            text = " ".join(str("" if hit.value is None else hit.value).split())
            typer.echo(f"{hit.score:6.3f}  {_shortened(text, width)}")


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 8)]}…"
