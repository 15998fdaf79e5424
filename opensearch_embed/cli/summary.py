"""What a run took, or will take, as a small table."""

from typing import TYPE_CHECKING

import typer

from opensearch_embed.cli.progress import duration

if TYPE_CHECKING:
    from opensearch_embed.bulk import Estimate, Report


def print_report(report: "Report") -> None:
    """Print what became of a file, and what to do next."""
    _print_table(
        ("rows", f"{report.rows:,}"),
        ("embedded", f"{report.embedded:,}"),
        ("rejected", f"{report.rejected:,}" + (f", told in {report.rejected_rows}" if report.rejected else "")),
        *([("kept", f"{report.kept:,} rows that were done before")] if report.kept else []),
        ("requests", f"{report.requests:,}"),
        ("tokens", f"{report.tokens:,}"),
        ("time", f"{report.seconds:.1f} s" if report.seconds < 100 else duration(report.seconds)),
        ("output", str(report.output)),
    )
    if report.output.suffix.lower() == ".parquet" and report.embedded:
        typer.echo(f'Next: opensearch-embed search {report.output} "a question"')


def print_estimate(estimate: "Estimate", qps: float) -> None:
    """Print what a file will take."""
    seconds = estimate.seconds
    _print_table(
        ("rows", f"{estimate.rows:,}"),
        ("rejected", f"{estimate.rejected:,}"),
        *([("kept", f"{estimate.kept:,} rows that are done already")] if estimate.kept else []),
        ("requests", f"{estimate.requests:,}"),
        ("tokens", f"about {estimate.tokens:,}"),
        ("time", "as fast as it goes" if seconds is None else f"{duration(seconds)} at {qps:g} requests a second"),
    )
    typer.echo("Nothing was sent.")


def _print_table(*lines: tuple[str, str]) -> None:
    for name, value in lines:
        typer.echo(f"{name:9}  {value}")
