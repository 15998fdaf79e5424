"""The README in Chinese says what the README says: the same sections, code, links and figures, in the same order."""

import re
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return FENCE.sub("", text)


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the code blocks, each with its language and without the comments, which are translated."""
    found = FENCE.findall(text)
    return [(kind, code if kind == "text" else re.sub(r" *# .*", "", code)) for kind, code in found]


def sections(text: str) -> list[tuple[str, str]]:
    """Return the level of each heading, and what stands below it."""
    parts = HEADING.split(prose(text))
    return list(zip(parts[1::3], parts[3::3], strict=True))


def links(text: str) -> list[str]:
    """Return where a section leads, within this page too; each page leads to the other."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return sorted("here" if link.startswith("#") else link for link in targets if not link.startswith("README"))


def test_the_headings_are_the_same() -> None:
    """As many sections as in English, on the same levels."""
    assert [level for level, _ in sections(CHINESE)] == [level for level, _ in sections(ENGLISH)]


def test_the_code_is_the_same() -> None:
    """Each block is the English one; its comments are in Chinese."""
    for ours, theirs in zip_longest(blocks(CHINESE), blocks(ENGLISH)):
        assert ours == theirs


def test_each_section_has_the_same_links_code_and_figures() -> None:
    """Whatever is not words is the same: links, names in code, numbers of tables, the number of lines and points."""
    for (_, ours), (_, theirs) in zip(sections(CHINESE), sections(ENGLISH), strict=True):
        assert links(ours) == links(theirs)
        assert sorted(re.findall(r"`[^`\n]+`", ours)) == sorted(re.findall(r"`[^`\n]+`", theirs))
        for kind in (r"^\|.*$", r"^- .*$", r"^!\[.*$"):
            rows, shown = (re.findall(kind, text, re.MULTILINE) for text in (ours, theirs))
            assert len(rows) == len(shown)
            for row, other in zip(rows, shown, strict=True):
                assert re.findall(r"\d(?:[\d.,]*\d)?", row) == re.findall(r"\d(?:[\d.,]*\d)?", other)
                assert row.count("|") == other.count("|")


def test_each_leads_to_the_other() -> None:
    """A reader of either finds the other at once."""
    assert "](README.zh-CN.md)" in ENGLISH.partition("\n## ")[0]
    assert "](README.md)" in CHINESE.partition("\n## ")[0]


def test_it_is_in_chinese() -> None:
    """No paragraph or point was left in English."""
    pieces = re.split(r"\n\n|\n- ", re.sub(r"<!--.*?-->", "", prose(CHINESE), flags=re.DOTALL))
    same = {"opensearch-embed", "LangChain", "LlamaIndex", ""}
    left = [piece for piece in pieces if piece.strip(" #\n") not in same]
    assert [piece for piece in left if not re.search(r"[\u4e00-\u9fff]", piece)] == []
