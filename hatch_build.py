"""The README in the package's metadata: links that are relative in the repository lead to the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(?P<image>!?)(?P<text>\[[^\]]*\])\((?!\w+:|#)(?P<path>[^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Reads the README; pages that are read elsewhere cannot follow its relative links."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the README into the metadata."""
        source = metadata["urls"]["Source"]

        def absolute(link: re.Match[str]) -> str:
            kind = "raw" if link["image"] else "blob"
            return f"{link['image']}{link['text']}({source}/{kind}/main/{link['path']})"

        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": RELATIVE.sub(absolute, text)}
