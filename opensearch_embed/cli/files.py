"""The commands that work on files: options, and what is printed. What they do is the concern of `bulk`."""

import ctypes
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from opensearch_embed import DEFAULT_MODEL, ConfigurationError, EmbeddingClient, InputError, OpenSearchEmbedError
from opensearch_embed.cli.commands import _as_options, _fail
from opensearch_embed.cli.progress import progress_shown
from opensearch_embed.cli.summary import print_estimate, print_report

USAGE, FAILED, REJECTED, INTERRUPTED = 2, 1, 3, 130
"""Exit codes, besides 0."""

NOWHERE, NO_KEY = "nowhere.invalid", "OS-dry-run"
"""For a dry run, which needs no account."""

MALLOC_ARENAS = -8
"""M_ARENA_MAX of glibc's malloc.h."""

Endpoint = Annotated[
    str | None, typer.Option(help="Host of the API. Default: OPENSEARCH_ENDPOINT.", show_default=False)
]
Model = Annotated[str | None, typer.Option(help=f"Default: OPENSEARCH_MODEL, or {DEFAULT_MODEL}.", show_default=False)]
Workspace = Annotated[str | None, typer.Option(help="Default: OPENSEARCH_WORKSPACE, or `default`.", show_default=False)]
Dimension = Annotated[int | None, typer.Option(help="Only for a model outside the catalogue.")]
Proxy = Annotated[str | None, typer.Option(help="Default: HTTPS_PROXY and NO_PROXY.", show_default=False)]
CaBundle = Annotated[str | None, typer.Option(help="File of certificates to trust.", show_default=False)]
AllowHttp = Annotated[
    bool, typer.Option("--allow-http", help="Allow plain http to another machine: the key travels in clear.")
]


def embed(
    source: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Files, a glob in quotes, or - for stdin.", show_default=False),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .parquet, .jsonl or .npy file.", show_default=False)
    ] = None,
    column: Annotated[str, typer.Option(help="The column with the texts.")] = "text",
    output_column: Annotated[str, typer.Option(help="The column for the vectors.")] = "embedding",
    format: Annotated[
        Literal["csv", "jsonl", "parquet", "tsv", "txt"] | None,
        typer.Option(help="Of the input, where its name does not say it.", show_default=False),
    ] = None,
    input_type: Annotated[
        Literal["document", "query"], typer.Option(help="Texts to be found, or texts that search.")
    ] = "document",
    model: Model = None,
    qps: Annotated[float, typer.Option(min=0, help="Requests a second: your quota. 0 means no limit.")] = 50,
    overflow: Annotated[
        Literal["send", "error", "truncate", "average"],
        typer.Option(help="What happens to a text that is longer than the model reads; `error` rejects its row."),
    ] = "send",
    empty: Annotated[
        Literal["error", "zero"],
        typer.Option(help="What an empty document gets: `error` rejects its row, `zero` makes it a vector of zeros."),
    ] = "error",
    batch_size: Annotated[int, typer.Option(min=1, max=32, help="Texts in one request, at most.")] = 32,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and send nothing.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what an earlier run has done, and begin anew.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    endpoint: Endpoint = None,
    workspace: Workspace = None,
    dimension: Dimension = None,
    proxy: Proxy = None,
    ca_bundle: CaBundle = None,
    allow_http: AllowHttp = False,
) -> None:
    """Embed a file into a file: a corpus in, its vectors out.

    INPUT is .parquet, .jsonl, .csv, .tsv or .txt (a text a line), also with .gz. Killed at any moment and run again
    with the same options, it goes on, and pays for nothing twice but what was under way. Rows that cannot be embedded
    get no vector, and are told in OUTPUT.rejected.jsonl. The key comes from OPENSEARCH_API_KEY.

    Exit codes: 0 all done, 3 done with rejected rows, 2 a wrong option or input, 1 failed (what is done is kept), 130
    interrupted.

    Example: opensearch-embed embed corpus.jsonl --output vectors.parquet --qps 50
    """
    # Also where nobody types: shells start background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _share_memory()
    with (
        _failing_as("embed"),
        _warnings_told(quiet),
        EmbeddingClient(
            model,
            endpoint=NOWHERE if dry_run else endpoint,
            api_key=NO_KEY if dry_run else None,
            workspace=workspace,
            dimension=dimension,
            qps=qps or None,
            overflow=overflow,
            empty=empty,
            batch_size=batch_size,
            allow_http=allow_http,
            ca_bundle=ca_bundle,
            proxy=proxy,
        ) as client,
    ):
        from opensearch_embed.bulk import embed_file, estimate_file

        given: Any = source[0] if len(source) == 1 else source
        if dry_run:
            estimate = estimate_file(
                given,
                client=client,
                column=column,
                input_type=input_type,
                format=format,
                output=None if restart else output,
                output_column=output_column,
            )
            print_estimate(estimate, qps)
            return
        if output is None:
            raise ConfigurationError("--output is missing: the .parquet, .jsonl or .npy file to write.")
        with progress_shown(quiet) as progress:
            report = embed_file(
                given,
                output,
                client=client,
                column=column,
                input_type=input_type,
                output_column=output_column,
                format=format,
                restart=restart,
                progress=progress,
            )
    if not quiet:
        print_report(report)
    if report.rejected:
        raise typer.Exit(REJECTED)


def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .parquet file of `embed`.", show_default=False)],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is searched for.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="How many rows.")] = 5,
    show: Annotated[
        str | None, typer.Option(help="The column to print. Default: the one that was embedded.", show_default=False)
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The column with the vectors. Default: what the file says.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON object a row, for programs.")] = False,
    model: Annotated[str | None, typer.Option(help="Default: what the file says.", show_default=False)] = None,
    endpoint: Endpoint = None,
    workspace: Workspace = None,
    dimension: Dimension = None,
    proxy: Proxy = None,
    ca_bundle: CaBundle = None,
    allow_http: AllowHttp = False,
) -> None:
    """Embed a question, and print the rows of a file that are nearest to it, best first.

    The score is the cosine of the two vectors: 1 at most. The whole file is looked through, in bounded memory; the one
    request embeds the question as a query, with the model that the file was made with.

    Example: opensearch-embed search vectors.parquet "How do I bake bread?" -k 3
    """
    with _failing_as("search"), ExitStack() as stack:
        from opensearch_embed.bulk import made_with, search_file
        from opensearch_embed.cli.hits import print_hits

        settings: dict[str, Any] = {"model": model} if model else made_with(file)
        if dimension is not None:
            settings["dimension"] = dimension
        client = stack.enter_context(
            EmbeddingClient(
                **settings,
                endpoint=endpoint,
                workspace=workspace,
                allow_http=allow_http,
                ca_bundle=ca_bundle,
                proxy=proxy,
            )
        )
        print_hits(search_file(file, question, client=client, k=k, show=show, column=column), as_json=json)


def _share_memory() -> None:
    """Let the threads of this process share what they free: glibc keeps it by thread, which is a third more memory."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(MALLOC_ARENAS, 2)


@contextmanager
def _failing_as(command: str) -> Iterator[None]:
    """Say what went wrong, and exit with the code for it."""
    try:
        yield
    except (ConfigurationError, InputError) as error:
        _fail(command, _as_options(str(error)), code=USAGE)
    except BrokenPipeError:
        raise  # typer ends it silently: whoever reads has enough
    except KeyboardInterrupt as error:
        _fail(command, "Interrupted.", " ".join(getattr(error, "__notes__", [])), code=INTERRUPTED)
    except (OpenSearchEmbedError, OSError, ValueError) as error:
        notes = " ".join(getattr(error, "__notes__", []))
        _fail(command, f"{type(error).__name__}: {_as_options(str(error))}", notes, code=FAILED)


@contextmanager
def _warnings_told(quiet: bool) -> Iterator[None]:
    """Print warnings as lines of their own, without the source."""
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", UserWarning)
        else:
            warnings.showwarning = lambda message, *_args, **_kwargs: typer.echo(f"Note: {message}", err=True)
        yield
