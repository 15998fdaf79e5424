"""A real browser for the tests here: headless Chromium, as Debian has it, driven through a pipe."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")  # no longer: while it is open, no other test could run an event loop
def browser() -> Iterator[Browser]:
    """Headless Chromium. A machine without it fails these tests: `CHROMIUM` names one that is elsewhere."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail(f"These tests need one of {', '.join(NAMES)}, or its path in the variable CHROMIUM.", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--no-proxy-server"],  # no sandbox, since containers run this as root
        )
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open a page: `open_page(url, width=390, dark=True)`. In the end, none may have had an error or looked elsewhere.

    That is: nothing in the console but plain words, no exception, no failed request, no request to another origin.
    """
    problems: list[str] = []

    def open_one(url: str, width: int = 1280, height: int = 900, dark: bool = False, **settings: Any) -> Page:
        scheme: Any = "dark" if dark else "light"
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, **settings)
        page.set_default_timeout(20_000)

        def look(request: Request) -> None:
            if urlsplit(request.url)[:2] != urlsplit(url)[:2] and not request.url.startswith(("data:", "blob:")):
                problems.append(f"asked for {request.url}")

        def fail(request: Request) -> None:
            if request.failure != "net::ERR_ABORTED":  # the page was left
                problems.append(f"{request.url}: {request.failure}")

        page.on("request", look)
        page.on("requestfailed", fail)
        page.on("response", lambda answer: answer.status >= 400 and problems.append(f"{answer.url}: {answer.status}"))
        page.on("console", lambda said: said.type in ("error", "warning") and problems.append(said.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        return page

    yield open_one
    found = list(problems)  # before closing, which breaks off what is under way
    for context in browser.contexts:
        context.close()
    assert found == []


@pytest.fixture
def too_wide() -> Callable[[Page], int]:
    """By how many pixels a page is wider than its window, which then scrolls sideways: `too_wide(page) == 0`."""
    return lambda page: page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
