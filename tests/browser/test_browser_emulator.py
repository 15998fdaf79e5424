"""The emulator's front page as people have it: at a desk and on a phone, by keyboard, by day and by night."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import requests
from playwright.sync_api import Browser, Page, Request, expect

from opensearch_embed.emulator import NOTICE, Emulator

FIRST_DOOR = "/v3/openapi/workspaces/default/text-embedding/ops-text-embedding-002"
HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>"

READABLE = """
() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  const shown = [...document.querySelectorAll("body *")].filter((element) =>
    element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return shown.map((element) => {
    const pair = [light(getComputedStyle(element).color), light(behind(element))].sort((one, other) => other - one);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), element.outerHTML.slice(0, 80)];
  });
}
"""
"""For each element with words of its own: the contrast of its words, and its beginning."""

by_theme = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator with default settings."""
    with Emulator(qps=1000) as running:
        yield running


def embed(emulator: Emulator, texts: list[str], input_type: str = "document") -> int:
    """Send a request to the service; return its status."""
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    body = {"input": texts, "input_type": input_type}
    return requests.post(emulator.url + FIRST_DOOR, json=body, headers=headers, timeout=5).status_code


def focused(page: Page) -> str:
    """What has the focus, and has it visibly."""
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    words: str = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
    return words


def similarities(page: Page) -> list[list[str]]:
    """The heat map's figures."""
    rows = page.locator("#map tbody tr").all()
    return [row.get_by_role("cell").all_text_contents() for row in rows]


@by_theme
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_with_all_that_it_says(
    emulator: Emulator, open_page: Callable[..., Page], width: int, dark: bool
) -> None:
    """The notice, the figures, a heat map of the texts that are there, and how to point a client here."""
    page = open_page(emulator.url, width=width, dark=dark)
    expect(page).to_have_title("OpenSearch embedding emulator")
    expect(page.get_by_text(NOTICE)).to_be_visible()
    expect(page.locator("#quota")).to_have_text("of 1,000 allowed")
    expect(page.locator("#verdict")).to_have_text("Most alike are 3 and 4, at 0.53.")
    expect(page.get_by_text(f"OPENSEARCH_ENDPOINT={emulator.url}")).to_be_visible()
    assert emulator.api_key not in page.content()
    assert emulator.usage.requests == 0


def test_texts_are_compared_by_keyboard_alone(emulator: Emulator, open_page: Callable[..., Page]) -> None:
    """From the top: Tab to the texts, type others, Tab to the button, press it, and read a real table."""
    page = open_page(emulator.url)
    expect(page.locator("#map tbody tr")).to_have_count(5)
    stops = []
    for _ in range(3):
        page.keyboard.press("Tab")
        stops.append(focused(page))
    assert stops == ["Skip to the texts", "pause", "lines"]
    page.keyboard.press("Control+A")
    texts = ["strong tea", "weak tea", HOSTILE]
    for text in texts:
        page.keyboard.type(text)
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page) == "Compare"
    page.keyboard.press("Enter")
    table = page.get_by_role("table", name="Cosine similarity of each two texts")
    expect(table.get_by_role("columnheader")).to_have_text(["1", "2", "3"])
    expect(table.get_by_role("rowheader")).to_have_text([f"{place}{text}" for place, text in enumerate(texts, 1)])
    vectors = np.array([emulator.vector(text) for text in texts])
    assert similarities(page) == [[f"{cosine:.2f}" for cosine in row] for row in vectors @ vectors.T]
    expect(page.locator("#verdict")).to_contain_text("Most alike are 1 and 2")
    page.keyboard.press("Tab")
    assert focused(page).startswith("Cosine similarity")  # a wide one is scrolled by keyboard, too


def test_ctrl_enter_compares_and_what_is_wrong_is_told(emulator: Emulator, open_page: Callable[..., Page]) -> None:
    """A problem stands by the texts, and goes when it is mended."""
    page = open_page(emulator.url)
    lines = page.get_by_label("Texts, a line each")
    lines.fill("one alone\n\n")
    lines.press("Control+Enter")
    expect(page.get_by_role("alert")).to_have_text("Two to twenty texts, please; here are 1.")
    lines.fill("one\nanother")
    lines.press("Control+Enter")
    expect(page.locator("#map tbody tr")).to_have_count(2)
    expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize("width", [390, 1280])
def test_figures_are_live(emulator: Emulator, open_page: Callable[..., Page], width: int) -> None:
    """Requests that come in while the page is open show up: in the figures, the chart, the list, and as words."""
    page = open_page(emulator.url, width=width)
    expect(page.locator("#answered")).to_have_text("0")
    expect(page.get_by_text("None yet.")).to_be_visible()
    emulator.fail_next(429)
    emulator.fail_next(500)
    assert [embed(emulator, [HOSTILE, "tea"], "query") for _ in range(5)] == [429, 500, 200, 200, 200]
    expect(page.locator("#answered")).to_have_text("3")
    expect(page.locator("#texts")).to_have_text("6 texts")
    expect(page.locator("#refused")).to_have_text("1")
    expect(page.locator("#failed")).to_have_text("1")
    expect(page.locator("#rate")).not_to_have_text("0")
    expect(page.locator("#chart-words")).to_contain_text("at most")
    rows = page.get_by_role("table", name="Last requests").locator("tbody").get_by_role("row")
    expect(rows).to_have_count(5)
    expect(rows.first).to_contain_text(f"POST {FIRST_DOOR}{HOSTILE}query")
    expect(rows.last.get_by_role("cell").nth(1)).to_have_text("429")
    assert page.locator("img, td b").count() == 0  # texts are texts
    expect(page.locator("#spoken")).to_contain_text("5 requests, 1 refused, 1 error", timeout=15_000)


def test_it_can_be_paused(emulator: Emulator, open_page: Callable[..., Page]) -> None:
    """Paused, it asks no more; then it goes on."""
    page = open_page(emulator.url)
    page.clock.install()
    page.reload()
    expect(page.locator("#state")).to_have_text("Live")
    pause = page.get_by_role("button", name="Pause")
    pause.press("Enter")
    expect(pause).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#state")).to_have_text("Paused")
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))
    page.clock.run_for(60_000)
    assert asked == []
    embed(emulator, ["tea"])
    pause.press("Space")
    expect(page.locator("#answered")).to_have_text("1")
    expect(page.locator("#state")).to_have_text("Live")
    assert asked != []


def test_it_says_when_the_emulator_is_gone(browser: Browser) -> None:
    """And goes on by itself when it is back."""
    with Emulator() as first:
        page = browser.new_page()
        page.goto(first.url)
        expect(page.locator("#state")).to_have_text("Live")
    expect(page.locator("#state")).to_have_text("The emulator does not answer")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_have_text("The emulator does not answer.")
    with Emulator(port=int(first.url.rpartition(":")[2])):
        expect(page.locator("#state")).to_have_text("Live", timeout=15_000)
        page.close()


@by_theme
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(
    emulator: Emulator, open_page: Callable[..., Page], too_wide: Callable[[Page], int], width: int, dark: bool
) -> None:
    """Twenty texts without a space, and requests with such texts: the page does not scroll sideways."""
    embed(emulator, ["w" * 500])
    emulator.break_next("short")
    embed(emulator, [f"{number}" for number in range(32)], "query")
    page = open_page(emulator.url, width=width, dark=dark)
    expect(page.locator("#requests tbody tr")).to_have_count(2)
    page.get_by_label("Texts, a line each").fill("\n".join(f"{number}{'w' * 200}" for number in range(20)))
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#map tbody tr")).to_have_count(20)
    assert too_wide(page) <= 0
    regions = page.get_by_role("region").all()  # the map's alone scrolls, where there is no room
    wide = [region.evaluate("it => it.scrollWidth > it.clientWidth") for region in regions]
    assert wide == [False, False, width < 1280, False, False]


@by_theme
def test_all_words_are_readable(emulator: Emulator, open_page: Callable[..., Page], dark: bool) -> None:
    """Each has a contrast of 4.5 to what is behind it, on every colour of the heat map, too (WCAG AA)."""
    emulator.fail_next(429)
    emulator.fail_next(500)
    for _ in range(3):
        embed(emulator, ["tea"])
    page = open_page(emulator.url, dark=dark)
    texts = ["a b c d e f g h i j", *(" ".join("abcdefghij"[:end]) + " " + "xyzuv"[end % 5] * 20 for end in range(10))]
    page.get_by_label("Texts, a line each").fill("\n".join(texts))
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#map tbody tr")).to_have_count(len(texts))
    expect(page.locator("#requests tbody tr")).to_have_count(3)
    page.evaluate(  # every step of the scale, with a figure on it
        "() => document.querySelectorAll('#map tbody tr:first-child td').forEach((cell, step) => {"
        "cell.className = `heat-${step}`; })"
    )
    contrasts = page.evaluate(READABLE)
    assert len(contrasts) > 100
    assert [(contrast, words) for contrast, words in contrasts if contrast < 4.5] == []


def test_the_theme_is_the_readers(emulator: Emulator, open_page: Callable[..., Page]) -> None:
    """Dark where the system is, and it changes with it."""
    page = open_page(emulator.url, dark=True)
    brightness = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert page.evaluate(brightness) < 40
    page.emulate_media(color_scheme="light")
    assert page.evaluate(brightness) > 220
