"""Proxies: which hosts go around one (`NO_PROXY`), and what a proxy's URL says. Arithmetic with words alone."""

import base64
import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote, urlsplit

USABLE = ("http", "https")

SHORTEST_SECRET = 4
"""A shorter password is blanked together with its user alone: blanking "a" would garble every word."""


def goes_around(no_proxy: str, host: str, port: int) -> bool:
    """Tell whether `NO_PROXY` names a host.

    Its entries stand between commas or white space: `*`, names (with all names below them), addresses, networks such
    as `10.0.0.0/8`; names and addresses may have a port.
    """
    host = host.lower().rstrip(".")
    return any(_is_named(entry.lower(), host, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _is_named(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        address = _address(host)
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    if (found := re.fullmatch(r"(\[[^]]*\]|[^:]*):(\d+)", entry)) is not None:
        if int(found[2]) != port:
            return False
        entry = found[1]
    if (address := _address(entry.strip("[]"))) is not None:
        return address == _address(host)
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_usable(url: str) -> bool:
    """Tell whether a proxy's URL is one that requests can go through."""
    try:
        parts = urlsplit(url)
        return parts.scheme in USABLE and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def without_user(url: str) -> str:
    """Return a proxy's URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def authorization(url: str) -> str | None:
    """Return the header value that a proxy's user and password make; a user may have no password."""
    userinfo = _userinfo(url)
    if userinfo is None:
        return None
    user, _, password = userinfo.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def secrets_of(url: str) -> Iterator[str]:
    """Yield all forms in which what a proxy's URL keeps secret could be repeated by somebody."""
    userinfo = _userinfo(url)
    if not userinfo:
        return
    _, separator, password = userinfo.partition(":")
    yield (authorization(url) or "").partition(" ")[2]
    if not separator:
        # A user without a password is a token, as often as not.
        password = userinfo
    plain = unquote(password)
    for form in {password, plain, quote(plain), quote(plain, safe="")}:
        if len(form) >= SHORTEST_SECRET:
            yield form
    if separator:
        yield userinfo
        yield unquote(userinfo)


def _userinfo(url: str) -> str | None:
    try:
        userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    except ValueError:
        return None
    return userinfo if at else None
