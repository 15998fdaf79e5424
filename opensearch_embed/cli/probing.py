"""`check --probe`: what it will send, what it found, and the settings that follow."""

import warnings

import typer

from opensearch_embed import EmbeddingClient


def print_findings(client: EmbeddingClient) -> None:
    """Probe the service, and print each finding as it comes."""
    from opensearch_embed.bulk.probe import probe

    settings: dict[str, object] = {}
    before = client.usage
    typer.echo("\nProbing what is not documented. About to send:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a text is too long on purpose
        findings = list(probe(client, lambda what: typer.echo(f"- {what}")))
    typer.echo("\nFound:")
    for finding in findings:
        typer.echo(f"{finding.name:10}  {finding.found}")
        settings |= finding.settings
    after = client.usage
    typer.echo(f"{'cost':10}  {after.requests - before.requests} requests, {after.tokens - before.tokens:,} tokens")
    if settings:
        told = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
        typer.echo(f"\nSettings to use: EmbeddingClient({told}), or embed {options}")
    else:
        typer.echo("\nSettings to use: the defaults.")
