"""Under what key a vector is kept in a cache: a hash of all that decides it, in which none of it can be read."""

from collections.abc import Callable
from hashlib import sha256


def keys_for(endpoint: str, service_id: str, input_type: str) -> Callable[[str], str]:
    """Return the function that makes a text's key: a hash over all four, in which none of them can be read."""
    common = sha256(b"".join(map(_framed, (endpoint, service_id, input_type))))

    def key_of(text: str) -> str:
        hasher = common.copy()
        hasher.update(_framed(text))
        return hasher.hexdigest()

    return key_of


def cache_key(endpoint: str, service_id: str, input_type: str, text: str) -> str:
    """Return the key of one text; for many, use `keys_for`."""
    return keys_for(endpoint, service_id, input_type)(text)


def _framed(part: str) -> bytes:
    # The length goes before: ("a", "bc") is not ("ab", "c"). A lone surrogate is refused elsewhere, with its index.
    data = part.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "little") + data
