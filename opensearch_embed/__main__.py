"""The door to the command line: `opensearch-embed` and `python -m opensearch_embed`.

It says what to install where the extra `cli` is missing. The commands are in `cli`.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from opensearch_embed.cli import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        extras = "cli,emulator" if sys.argv[1:2] == ["emulator"] else "cli"
        sys.exit(f'The command line needs one more library: pip install "opensearch-embed[{extras}]"')
    app(prog_name="opensearch-embed")


if __name__ == "__main__":
    main()
