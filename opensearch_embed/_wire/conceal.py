"""What may be told: the key never, a whole text never, and of foreign errors no frame that could show either."""

import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import orjson

Conceal = Callable[[str], str]
"""Takes words that came from outside; returns them on one line, without secrets."""

EXCERPT_CHARS = 300
"""As much of a foreign message or body as goes into an error."""

SHORTEST_SECRET_TEXT = 8
"""Shorter texts are let through: blanking "a" would garble every word."""


def on_one_line(words: str) -> str:
    """Fold white space."""
    return " ".join(words.split())


def concealing(key: str, texts: Sequence[str] = (), others: Sequence[str] = ()) -> Conceal:
    """Return a function that blanks the key and other secrets, in any case, and each text that is there as a whole."""
    secrets = (key, *others)
    forms = {on_one_line(form) for secret in secrets for form in (secret, _in_json(secret), repr(secret)[1:-1])}
    pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)

    def conceal(words: str) -> str:
        words = pattern.sub("***", on_one_line(words))
        for text in texts:
            if len(text) >= SHORTEST_SECRET_TEXT:
                for form in map(on_one_line, (text, _in_json(text), json.dumps(text)[1:-1], html.escape(text))):
                    words = words.replace(form, "[text]") if form else words
        return words

    return conceal


def _in_json(words: str) -> str:
    return orjson.dumps(words).decode()[1:-1]


def excerpt(words: str, conceal: Conceal) -> str:
    """Return the beginning of foreign words. Concealed before they are cut, since half a key is a leak too."""
    return conceal(words)[:EXCERPT_CHARS]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and every error behind it: causes, contexts, and those that libraries keep as arguments."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        link = queue.pop()
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            kept = [getattr(link, name, None) for name in ("reason", "certificate_error", "os_error")]
            queue += [link.__cause__, link.__context__, *kept, *link.args]


def strip(error: BaseException | None, conceal: Conceal) -> None:
    """Take from a foreign error, and all behind it, what could show a secret to a log or a debugger."""
    for link in chain(error):
        # Frames of the HTTP libraries hold the headers in local variables.
        link.__traceback__ = None
        link.args = tuple(_bare(part, conceal) for part in link.args)
        for name, value in list(getattr(link, "__dict__", {}).items()):
            setattr(link, name, _bare(value, conceal))
        if isinstance(link, orjson.JSONDecodeError):
            link.doc = ""


def _bare(value: Any, conceal: Conceal) -> Any:
    """Return what may stay of a foreign error's argument: not a request, whose headers hold the key."""
    if value is None or isinstance(value, (int, float, BaseException)):
        return value
    if isinstance(value, str):
        return conceal(value)
    if hasattr(value, "real_url"):  # aiohttp's RequestInfo, which its errors print
        return SimpleNamespace(real_url="[URL]")
    if hasattr(value, "proxy_auth"):  # aiohttp's ConnectionKey, of which its errors print the host
        return value._replace(proxy=None, proxy_auth=None, proxy_headers_hash=None)
    return None
