"""The docs site, as its readers have it: built strictly, served from this machine, opened in a real browser."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.sync_api import Page, expect

import langchain_opensearch_embed
import llama_index_opensearch_embed
import opensearch_embed

ROOT = Path(__file__).parent.parent.parent

OpenPage = Callable[..., Page]


class Html(HTMLParser):
    """What a built page has, and what it asks for."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.paragraphs: list[str] = []
        self._inside: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        has = {name: value or "" for name, value in attrs}
        self.ids.update(has[name] for name in ("id", "name") if name in has)
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        self.loaded += [has[name] for name in ("src", "srcset", "data", "poster") if name in has]
        if tag == "link" and has["rel"] not in ("prev", "next"):
            self.loaded.append(has["href"])
        if tag in ("p", "pre"):
            self._inside.append(tag)
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        """Note a tag's end."""
        if self._inside[-1:] == [tag]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._inside[-1:] == ["p"]:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a warning fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Html]:
    """All pages, by their path on the server."""
    return {
        file.relative_to(site).as_posix().removesuffix("index.html"): Html(file)
        for file in sorted(site.rglob("*.html"))
        if file.name != "404.html"
    }


class Server(ThreadingHTTPServer):
    """Takes all the connections that a browser opens at once."""

    request_queue_size = 128


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with Server(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_each_page_opens(
    open_page: OpenPage,
    too_wide: Callable[[Page], int],
    address: str,
    pages: dict[str, Html],
    width: int,
    dark: bool,
) -> None:
    """No error, no failed request, none to elsewhere, no picture missing; and no page is wider than its window."""
    wrong = []
    page = open_page(address, width=width, dark=dark)
    page.set_default_timeout(60_000)
    page.wait_for_load_state("networkidle")
    for path in pages:
        page.goto(address + path, wait_until="networkidle")
        wrong += [f"{path}: {more} pixels too wide" for more in [too_wide(page)] if more]
        blank = page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        wrong += [f"{path}: {source} does not show" for source in blank]
    assert len(pages) > 25
    assert wrong == []


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Html]) -> None:
    """Scripts, styles, fonts and pictures are all in the site, so that it can be read with no network."""
    loaded = {(path, urljoin("http://here/" + path, url)) for path, page in pages.items() for url in page.loaded}
    assert len(loaded) > len(pages)
    assert [found for found in loaded if not found[1].startswith(("http://here/", "data:"))] == []
    for file in site.rglob("*.css"):
        urls = re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", file.read_text(encoding="utf-8"))
        assert [url for url in urls if "//" in url and not url.startswith("data:")] == [], file


def test_each_link_leads_somewhere(pages: dict[str, Html], site: Path) -> None:
    """Each link within the site leads to a page or a file that is there, and to an anchor that it has."""
    broken = []
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(urljoin("http://here/" + path, link))
            if url.netloc == "here":
                target, anchor = unquote(url.path).lstrip("/"), unquote(url.fragment)
                there = anchor in pages[target].ids or not anchor if target in pages else (site / target).is_file()
                broken += [] if there else [f"{path}: {link}"]
    assert broken == []


def test_no_markdown_is_left(pages: dict[str, Html]) -> None:
    """No list or table is read as a paragraph: the site reads Markdown more strictly than the repository's web page."""
    marks = re.compile(r"^ *(?:[-*] |\d+\. |\| |```|:::|#+ )", re.MULTILINE)
    texts = [(path, text) for path, page in pages.items() for text in page.paragraphs]
    assert [found for found in texts if marks.search(found[1]) or "```" in found[1]] == []


def test_the_reference_has_every_public_name(pages: dict[str, Html]) -> None:
    """Each class and function that the packages offer has its entry; constants are named in the text."""
    there = {anchor for page in pages.values() for anchor in page.ids}
    for package in (opensearch_embed, langchain_opensearch_embed, llama_index_opensearch_embed):
        public = {name for name in package.__all__ if isinstance(getattr(package, name), type)}
        assert {f"{package.__name__}.{name}" for name in public} <= there


def test_the_search_finds(open_page: OpenPage, address: str) -> None:
    """Words typed into the search lead to a page, with no server but this one."""
    page = open_page(address)
    page.get_by_placeholder("Search").click()
    page.keyboard.type("one quota in redis")
    hit = page.locator(".md-search-result__link").first
    expect(hit).to_contain_text("Rate limits", timeout=20_000)
    hit.click()
    expect(page).to_have_url(re.compile("/rate-limits/"))


def test_the_colours_can_be_chosen(open_page: OpenPage, address: str) -> None:
    """The reader's choice goes before the system's, on the next page too."""
    page = open_page(address, dark=True)
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "slate")
    page.get_by_title("Change to light colours").click()
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "default")
    page.wait_for_load_state("networkidle")
    page.goto(address + "errors/")
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "default")


def test_commands_are_copied_without_their_prompt(open_page: OpenPage, address: str) -> None:
    """What the button of a shell's session copies can be pasted into a shell."""
    page = open_page(address, permissions=["clipboard-read", "clipboard-write"])
    session = page.locator(".highlight", has_text="It works.")
    session.hover()
    session.get_by_title("Copy to clipboard").click()
    expect(page.locator(".md-dialog")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").strip() == "opensearch-embed check"
