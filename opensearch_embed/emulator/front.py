"""The page for people, at `/`: what the emulator is and does, and how alike texts are here.

It needs no key, and shows none. What it asks for is no request to the service: it is not recorded, and counts nowhere.
"""

import asyncio
import base64
import functools
import hashlib
import importlib.resources
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from opensearch_embed.emulator.figures import kind_of
from opensearch_embed.emulator.journal import Journal
from opensearch_embed.emulator.vectors import VectorKind, Vectors
from opensearch_embed.models import DEFAULT_MODEL

MAX_TEXTS = 20
MAX_CHARACTERS = 1000
"""Of one text."""

MAX_BODY_BYTES = 200_000
BODY_SECONDS = 10.0

RATE_SECONDS = 5
"""The rate is the average of the last so many seconds."""

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
BARRED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy, as far as it is the same for all that is served here."""

Handle = Callable[[web.BaseRequest], Awaitable[web.Response]]


class Front:
    """Answers what the page asks for, and hands all else to `service`.

    Args:
        service: Answers the requests to the service.
        journal: What the page shows.
        vectors: What makes texts alike.
        kind: Of `vectors`.
        qps: The quota, as the page says it.
    """

    def __init__(
        self, service: Handle, journal: Journal, vectors: Vectors, kind: VectorKind, qps: float | None
    ) -> None:
        self._service = service
        self._journal = journal
        self._vectors = vectors
        self._about = {"vectors": kind, "qps": qps, "max_texts": MAX_TEXTS}
        self._routes: Mapping[tuple[str, str], Handle] = {
            ("GET", "/"): self._page,
            ("HEAD", "/"): self._page,
            ("GET", "/status"): self._status,
            ("POST", "/similarities"): self._similarities,
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request, of a person or of a client."""
        found = self._routes.get((request.method, request.raw_path.partition("?")[0]))
        if found is None:
            return await self._service(request)
        if not is_local(request.headers.get("Host", "")):
            # Otherwise a web site could give its own name to this machine's address, and read what stands here.
            return _json({"message": "This page is for http://127.0.0.1 and http://localhost alone."}, 421)
        return await found(request)

    async def _page(self, _: web.BaseRequest) -> web.Response:
        page, policy = load_page()
        headers = {**HEADERS, "Content-Security-Policy": policy}
        return web.Response(body=page, content_type="text/html", charset="utf-8", headers=headers)

    async def _status(self, _: web.BaseRequest) -> web.Response:
        usage, figures = self._journal.usage, self._journal.figures
        totals = {"requests": usage.requests, "texts": usage.texts, "tokens": usage.tokens, "refused": 0, "failed": 0}
        for outcome, count in list(usage.outcomes.items()):
            kind = kind_of(outcome)
            if kind != "answered":
                totals[kind] += count
        seconds = figures.seconds()
        rate = sum(map(sum, seconds[-RATE_SECONDS:])) / RATE_SECONDS
        return _json(
            {**self._about, "time": time.time(), "rate": rate, "totals": totals, "seconds": seconds}
            | {"latest": figures.latest()}
        )

    async def _similarities(self, request: web.BaseRequest) -> web.Response:
        # A form on another site cannot send this type without asking first.
        if request.content_type != "application/json":
            return _json({"message": "The header Content-Type must be application/json."}, 400)
        try:
            texts = check_texts(await _read(request))
        except ValueError as error:
            return _json({"message": str(error)}, 400)
        rows = await asyncio.to_thread(self._vectors.embed, texts, "document", DEFAULT_MODEL)
        return _json({"similarities": (rows @ rows.T).clip(-1, 1).round(4).tolist()})


def is_local(host: str) -> bool:
    """Say whether a header Host has an address, or the one name that nobody else can have."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def check_texts(body: Any) -> list[str]:
    """Return the texts to compare.

    Raises:
        ValueError: There are too few, too many, or one is too long.
    """
    texts = body.get("texts") if isinstance(body, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("texts must be an array of strings.")
    if not 2 <= len(texts) <= MAX_TEXTS:
        raise ValueError(f"Give 2 to {MAX_TEXTS} texts, not {len(texts)}.")
    for place, text in enumerate(texts, 1):
        if not 1 <= len(text) <= MAX_CHARACTERS:
            raise ValueError(f"Text {place} has {len(text):,} characters: give 1 to {MAX_CHARACTERS:,}.")
    return texts


async def _read(request: web.BaseRequest) -> Any:
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                raw += chunk
                if len(raw) > MAX_BODY_BYTES:
                    raise ValueError("That is too much text.")
        return orjson.loads(raw)
    except (TimeoutError, orjson.JSONDecodeError):
        raise ValueError("The body must be JSON.") from None


@functools.cache
def load_page() -> tuple[bytes, str]:
    """Return the page in one piece, and a policy that lets it run its own script and style, and nothing else."""
    files = importlib.resources.files("opensearch_embed.emulator") / "page"
    style, script, page = ((files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html"))
    page = page.replace("/* page.css */", style).replace("/* page.js */", script)
    allowed = f"script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; img-src data:"
    return page.encode(), f"{BARRED}; {allowed}"


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _json(answer: dict[str, Any], status: int = 200) -> web.Response:
    headers = {**HEADERS, "Content-Security-Policy": BARRED, "Content-Type": "application/json"}
    return web.Response(status=status, body=orjson.dumps(answer), headers=headers)
