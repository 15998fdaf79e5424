"""FROM FILES TO FILES: a corpus in, its vectors out, and a question answered from them. Needs the extra `bulk`.

`embed_file` embeds a file of any length, `estimate_file` says what that will cost, `search_file` finds the rows that
are nearest to a question. What is read and written goes through pyarrow; the command line only prints.
"""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opensearch_embed.bulk.embed import embed_file as embed_file
    from opensearch_embed.bulk.estimate import Estimate as Estimate
    from opensearch_embed.bulk.estimate import estimate_file as estimate_file
    from opensearch_embed.bulk.report import Progress as Progress
    from opensearch_embed.bulk.report import Report as Report
    from opensearch_embed.bulk.search import Hit as Hit
    from opensearch_embed.bulk.search import made_with as made_with
    from opensearch_embed.bulk.search import search_file as search_file

_HOMES = {
    "embed_file": "embed",
    "Estimate": "estimate",
    "estimate_file": "estimate",
    "Progress": "report",
    "Report": "report",
    "Hit": "search",
    "made_with": "search",
    "search_file": "search",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from opensearch_embed.errors import ConfigurationError

    try:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise ConfigurationError(
            'Files are read and written with one more library: pip install "opensearch-embed[bulk]"'
        ) from error
    globals()[name] = value
    return value
