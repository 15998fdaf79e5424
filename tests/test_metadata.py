"""What is installed says where the project is, and its description can be read anywhere."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_metadata_leads_to_the_project() -> None:
    """Source, documentation, changelog and issues each have an address, and it is the project's own."""
    found = dict(entry.split(", ") for entry in metadata("opensearch-embed").get_all("Project-URL") or [])
    assert found == PROJECT["urls"]
    assert found.keys() == {"Source", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(found["Source"]) for url in found.values())


def test_the_description_has_absolute_links_alone() -> None:
    """The page that shows it has no repository around it; links within the page stay."""
    described = metadata("opensearch-embed")
    text = described.get("Description") or described.get_payload()  # type: ignore[attr-defined]
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert f"{PROJECT['urls']['Source']}/blob/main/docs/errors.md" in links
    assert f"{PROJECT['urls']['Source']}/raw/main/docs/throughput.png" in links
    assert "#how-fast" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
