"""Tables of the pages under docs/, to hold what is measured against what is written."""

from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table that has a column of this heading."""
    tables = (DOCS / page).read_text(encoding="utf-8").split("\n\n")
    table = next(table.splitlines() for table in tables if table.startswith("|") and f"| {heading} |" in table)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
