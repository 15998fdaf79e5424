"""The command line. `commands` has the program and its first commands, `files` those that work on files."""

from opensearch_embed.cli.commands import app
from opensearch_embed.cli.files import embed, search

__all__ = ["app"]

app.command()(embed)
app.command()(search)
