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
        sys.exit('The command line needs one more library: pip install "opensearch-embed[cli]"')
    app(prog_name="opensearch-embed")


if __name__ == "__main__":
    main()
