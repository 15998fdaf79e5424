"""Makes a site of pages that are written for the repository's own web page, where links lead to files.

The README becomes the home page; notebooks, the changelog and the pages of `reference/` become pages as well. A link
to a file that is a page here leads to that page, and a link to any other file leads to the repository.
"""

import base64
import json
import posixpath
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
HERE = "website"
SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]

FROM_OUTSIDE = {
    "README.md": "index.md",
    "README.zh-CN.md": "zh-cn.md",
    "docs/README.md": "contents.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Files of the repository, and the pages that they become."""

LINK = re.compile(r"(?P<before>\]\()(?!\w+:|#|//)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
HERE_ANCHOR = re.compile(r"\]\(#[^)\s]+\)")
BROKEN = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n(?: +(?![-*|]))?(?=[^\s\-*|#<!])")
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """Return the files that become pages or lie beside them, by their path in the repository."""
    found = dict(FROM_OUTSIDE)
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found[f"notebooks/{file.name}"] = f"notebooks/{file.stem}.md"
    for file in sorted((ROOT / HERE / "reference").glob("*.md")):
        found[f"{HERE}/reference/{file.name}"] = f"reference/{file.name}"
    return found


PAGES = pages()
ORIGINS = {page: origin for origin, page in PAGES.items()}


def outside_code(change: Callable[[str], str], text: str) -> str:
    """Return a page with its text changed, and its code blocks as they are."""
    return "".join(part if i % 2 else change(part) for i, part in enumerate(FENCED.split(text)))


def relinked(text: str, origin: str, page: str) -> str:
    """Return a text with links that lead on from where the page is on the site."""

    def onward(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link["path"]))
        if not (ROOT / target).exists():
            return link[0]  # the strict build says so
        inside = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if inside is None:
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            return f"{link['before']}{SOURCE}/{kind}/main/{target}"
        return link["before"] + posixpath.relpath(inside, posixpath.dirname(page) or ".") + (link["anchor"] or "")

    return LINK.sub(onward, text)


def cells(notebook: dict[str, Any]) -> Iterator[tuple[str, bytes | None]]:
    """Yield what a notebook shows, in its order: Markdown, and the bytes of a picture where there is one."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            yield source, None
            continue
        yield f"```python\n{source}\n```", None
        for output in cell["outputs"]:
            data = output.get("data", {})
            text = "".join(output.get("text") or data.get("text/plain") or output.get("traceback") or [])
            if "image/png" in data:
                yield "", base64.b64decode("".join(data["image/png"]))
            elif text:
                yield f"```text\n{text.rstrip()}\n```", None


def notebook_files(path: Path, page: str, config: MkDocsConfig) -> Iterator[File]:
    """Yield a notebook's page, and its pictures."""
    parts: list[str] = []
    for text, picture in cells(json.loads(path.read_text(encoding="utf-8"))):
        if picture is not None:
            name = f"{path.stem}-{len(parts)}.png"
            yield File.generated(config, f"notebooks/{name}", content=picture)
            text = f"![A plot that the code above draws]({name})"
        parts.append(text)
    yield File.generated(config, page, content="\n\n".join(parts))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/; its README is the list of all pages, and not the home page."""
    files.remove(files.src_uris["README.md"])
    for origin, page in PAGES.items():
        path = ROOT / origin
        if path.suffix == ".ipynb":
            for file in notebook_files(path, page, config):
                files.append(file)
        else:
            files.append(File.generated(config, page, content=path.read_text(encoding="utf-8")))
    style = (ROOT / HERE / "style.css").read_text(encoding="utf-8")
    files.append(File.generated(config, "assets/style.css", content=style))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Make the page's links lead on; the home page needs no list of its one section."""
    uri = page.file.src_uri
    if uri == "index.md":
        page.meta["hide"] = ["navigation"]
    if uri == "zh-cn.md":  # a browser shows the end of a line as a space, which Chinese has none of
        markdown = outside_code(lambda text: BROKEN.sub("", text), markdown)
    origin = ORIGINS.get(uri, f"docs/{uri}")
    if origin.endswith(".ipynb"):  # Jupyter's anchors are written as their headings are
        markdown = outside_code(lambda text: HERE_ANCHOR.sub(lambda anchor: anchor[0].lower(), text), markdown)
    return outside_code(lambda text: relinked(text, origin, uri), markdown)
