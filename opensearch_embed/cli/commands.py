"""The program, and the commands besides those for files: an emulator, the catalogue, a check of the settings, a demo.

What is here: options, their help, and the lines that are printed. What a command does is another module's concern:
nothing here batches, retries or speaks HTTP. A module that takes long to import is imported by its command alone.
"""

import contextlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import Annotated, Literal, NoReturn

import typer

from opensearch_embed import (
    DEFAULT_MODEL,
    MODELS,
    EmbeddingClient,
    InvalidRequest,
    OpenSearchEmbedError,
    ResponseError,
    __version__,
)
from opensearch_embed.settings import going_first

app = typer.Typer(
    name="opensearch-embed",
    help="Embeddings from Alibaba Cloud OpenSearch (AI Search Open Platform; not opensearch.org).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text: the same in a terminal, a pipe and a log
    pretty_exceptions_enable=False,  # they show local variables, and one of those could be a key
    context_settings={"help_option_names": ["-h", "--help"]},
)

CHECK_TEXT = "Is the service there?"

HINTS: tuple[tuple[type[OpenSearchEmbedError], str], ...] = (
    (InvalidRequest, "The known models: opensearch-embed models"),
    (ResponseError, "Check that the endpoint is the OpenSearch API's own host, and that the dimension is right."),
)
"""What helps with one request from a command line, besides what the error itself says."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"opensearch-embed {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and stop.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command()
def emulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    api_key: Annotated[str, typer.Option(help="The one key that is accepted. Make one up.")] = "OS-local",
    qps: Annotated[float, typer.Option(min=0, help="Requests a second; more get a 429. 0 means no limit.")] = 50,
    latency_ms: Annotated[float, typer.Option(min=0, help="Milliseconds that every answer takes at least.")] = 0,
    vectors: Annotated[
        Literal["semantic", "lexical"],
        typer.Option(help="From meaning (needs the extra `emulator`), or from words and letters."),
    ] = "semantic",
) -> None:
    """Serve the service's API on this machine, with no account.

    It runs until Ctrl-C, checks requests as the service does, and answers in the same form. Its vectors are not the
    service's: they are good for development and tests, and must not share an index with the service's.

    Example: opensearch-embed emulator --port 8080 --qps 10
    """
    _calm_numpy()
    from opensearch_embed.emulator import NOTICE, Emulator

    # Also where nobody types: containers send SIGTERM, and shells start background jobs with SIGINT ignored.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)
    typer.echo(NOTICE)
    try:
        server = Emulator(vectors=vectors, qps=qps or None, api_key=api_key, latency_ms=latency_ms, port=port)
    except (ImportError, ValueError) as error:
        _fail("emulator", _as_options(str(error)))
    try:
        with server, contextlib.suppress(KeyboardInterrupt):
            typer.echo("\n".join(_emulator_lines(server.url, api_key, vectors, qps)))
            server.wait()
    except OSError as error:
        _fail("emulator", f"Port {port} cannot be used: {error.strerror}.", "Try another; --port 0 takes a free one.")
    usage = server.usage
    typer.echo(f"Stopped after {usage.requests:,} requests, {usage.texts:,} texts, {usage.tokens:,} tokens.")


def _emulator_lines(url: str, api_key: str, vectors: str, qps: float) -> Iterable[str]:
    limit = f"at most {qps:g} requests a second" if qps else "no limit on requests"
    return (
        f"Serving {url} ({vectors} vectors, {limit}). Ctrl-C stops it.",
        f"To look at it, open {url}/ in a browser.",
        "",
        "In another terminal:",
        "",
        *([f"  unset {' '.join(going_first())}"] if going_first() else []),
        f"  export OPENSEARCH_ENDPOINT={url}",
        f"  export OPENSEARCH_API_KEY={shlex.quote(api_key)}",
        "  opensearch-embed check",
        "",
    )


@app.command()
def models() -> None:
    """List the service's models, with no request.

    For each: the length of its vectors, how much of a text it reads, and its languages. A model that is not listed can
    be used by saying its dimension.
    """
    rows = [("MODEL", "DIMENSION", "MAX TOKENS", "LANGUAGES")]
    for spec in MODELS.values():
        limit = f"{spec.max_input_tokens:,}" if spec.max_input_tokens else "unknown"
        default = ", the default" if spec.service_id == DEFAULT_MODEL else ""
        rows.append((spec.service_id, str(spec.dimension), limit, spec.languages + default))
    name_width = max(len(row[0]) for row in rows)
    for name, dimension, limit, languages in rows:
        typer.echo(f"{name:{name_width}}  {dimension:>9}  {limit:>10}  {languages}")


@app.command()
def check(
    endpoint: Annotated[
        str | None, typer.Option(help="Host of the API. Default: OPENSEARCH_ENDPOINT.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help=f"Default: OPENSEARCH_MODEL, or {DEFAULT_MODEL}.", show_default=False)
    ] = None,
    workspace: Annotated[
        str | None, typer.Option(help="Default: OPENSEARCH_WORKSPACE, or `default`.", show_default=False)
    ] = None,
    dimension: Annotated[int | None, typer.Option(help="Only for a model outside the catalogue.")] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Better in OPENSEARCH_API_KEY: a command line can be read by others, and stays in the history.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for the request.")] = 30,
    proxy: Annotated[str | None, typer.Option(help="Default: HTTPS_PROXY and NO_PROXY.", show_default=False)] = None,
    ca_bundle: Annotated[str | None, typer.Option(help="File of certificates to trust.", show_default=False)] = None,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Allow plain http to another machine: the key travels in clear.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Find out what is not documented: some 15 requests more, nearly all short.")
    ] = False,
) -> None:
    """Send one request with your settings, and say how it went.

    What is not given as an option comes from the environment, as it does in a program. The one text sent is a short
    English sentence. The exit code is 0 if its vector came back, and 1 if not, with what to do about it.

    Example: opensearch-embed check --model ops-text-embedding-001
    """
    made = partial(
        EmbeddingClient,
        model,
        endpoint=endpoint,
        api_key=api_key,
        workspace=workspace,
        dimension=dimension,
        timeout=timeout,
        allow_http=allow_http,
        ca_bundle=ca_bundle,
        proxy=proxy,
    )
    try:
        # One request: the first answer is what the user wants to see.
        with made(retry_timeout=0, max_attempts=1) as client:
            start = time.perf_counter()
            [vector] = client.embed([CHECK_TEXT], "query")
            milliseconds = (time.perf_counter() - start) * 1000
    except OpenSearchEmbedError as error:
        hint = next((hint for kind, hint in HINTS if isinstance(error, kind)), "")
        _fail("check", f"{type(error).__name__}: {_as_options(str(error))}", hint)
    settings = client.settings
    for name, value in (
        ("endpoint", settings.endpoint),
        ("workspace", settings.workspace),
        ("model", settings.model.service_id),
        ("dimension", len(vector)),
        ("latency", f"{milliseconds:.0f} ms, loading and connecting included"),
        ("tokens", client.usage.tokens),
    ):
        typer.echo(f"{name:9}  {value}")
    typer.echo("It works.")
    if probe:
        from opensearch_embed.cli.probing import print_findings

        try:
            with made() as client:
                print_findings(client)
        except OpenSearchEmbedError as error:
            _fail("check", f"{type(error).__name__}: {_as_options(str(error))}")


@app.command()
def demo() -> None:
    """Search a small corpus through LangChain and LlamaIndex.

    Forty documents in English and Chinese, ten questions. With OPENSEARCH_API_KEY and OPENSEARCH_ENDPOINT set, the
    vectors come from the service; else from an emulator that lives as long as the demo. Needs the extras `langchain`,
    `llama-index` and, for the emulator, `emulator`.
    """
    _calm_numpy()
    from opensearch_embed.demo import run

    raise typer.Exit(run())


def _calm_numpy() -> None:
    """Keep numpy, which reads this when it is imported, to one thread: semantic vectors come ten times as fast."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _as_options(message: str) -> str:
    """Name options where the library's message names arguments: `ca_bundle=...` becomes `--ca-bundle`."""
    names = "endpoint|api_key|workspace|model|dimension|timeout|allow_http|ca_bundle|proxy|vectors|overflow|qps"
    return re.sub(rf'\b({names})=(?:\.\.\.|True|"(\w+)"|(\d\S*))?', _as_option, message)


def _as_option(found: re.Match[str]) -> str:
    name, *values = found.groups()
    return " ".join([f"--{name.replace('_', '-')}", *filter(None, values)])


def _fail(command: str, problem: str, hint: str = "", code: int = 1) -> NoReturn:
    """Say what is wrong and what to do about it, and end with this exit code."""
    typer.echo(f"opensearch-embed {command}: {' '.join(problem.split())}", err=True)
    if hint:
        typer.echo(hint, err=True)
    sys.exit(code)
