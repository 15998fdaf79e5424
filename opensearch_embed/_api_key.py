"""What a key looks like: wrappings that are taken off, placeholders that are refused, and what is odd about the rest.

Nothing here prints a key or a part of one. The vendor does not document the form of its keys, so an odd one is used all
the same; what is odd about it is said once the service has refused it.
"""

import re

from opensearch_embed._secret import Secret, SecretString
from opensearch_embed.errors import ConfigurationError

_WRAPPINGS = (
    re.compile(r"(?i)(?:authorization:\s*)?bearer(?:\s+(.*))?", re.DOTALL),
    re.compile(r"(?i)(?:export\s+)?(?:OPENSEARCH|AISEARCH)_API_KEY\s*=\s*(.*)", re.DOTALL),
    *(re.compile(rf"{left}(.*){right}", re.DOTALL) for left, right in ('""', "''", "``", "“”", "‘’", "「」")),
)

_PLACEHOLDERS: tuple[tuple[str, str], ...] = (
    (r"(?:\w+\(['\"]?)?(?:OS-)?[*•●]{3,}(?:['\"]?\))?", "what a masked dump shows in place of a key"),
    (
        r"\$\{.*\}|\$\(.*\)|\$\w+|%\w+%|\{\{.*\}\}|\{\w+\}|(?:OPENSEARCH|AISEARCH)_API_KEY",
        "the name of a variable that nothing has put a value for",
    ),
    (r"(?:OS|sk)-(?:\.{2,}|…|x{3,})?|\.{2,}|…", "the placeholder of an example"),
    (r"<.*>|\[.*\]|your[-_ ](?:.*[-_ ])?key(?:[-_ ]here)?", "the placeholder of an example"),
    (r"none|null|nil|undefined|todo|changeme|change[-_]me", "a word for no key"),
)
"""Keys that are plainly none, and what each is."""

_ODDITIES: tuple[tuple[str, str], ...] = (
    (r".*\s.*", "has white space inside"),
    (r"LTAI\w*", "begins as an AccessKey ID does, which is no API key"),
    (r"sk-.*", "begins as a key of another service does (sk-)"),
    (r".*[\"'`].*", "has a quotation mark inside"),
    (r"(?i)https?://.*", "is a URL"),
    (r"(?!(?i:OS-)).*", "does not begin with OS-, as keys of this service do"),
)
"""The first that matches is told."""

_ADVICE = "Copy the key from the console of the AI Search Open Platform, into api_key= or OPENSEARCH_API_KEY."


def checked(key: SecretString) -> Secret:
    """Return a key as it is sent, without quotes and `Bearer`.

    Raises:
        ConfigurationError: It is a placeholder, or no header can hold it.
    """
    key = _unwrapped(key)
    for pattern, meaning in _PLACEHOLDERS:
        if re.fullmatch(pattern, key.get_secret_value(), re.IGNORECASE | re.DOTALL):
            raise ConfigurationError(f"api_key is no key but {meaning}. {_ADVICE}")
    if not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
        raise ConfigurationError(
            "api_key (OPENSEARCH_API_KEY) holds a character that no HTTP header can carry. Copy the key again."
        )
    return key


def _unwrapped(key: SecretString) -> Secret:
    bare = Secret(key.get_secret_value().strip())
    for pattern in _WRAPPINGS:
        if found := pattern.fullmatch(bare.get_secret_value()):
            return _unwrapped(Secret(found[1] or ""))
    return bare


def remark(key: SecretString) -> str:
    """Return what is odd about the form of a key, as a sentence; nothing where nothing is."""
    for pattern, meaning in _ODDITIES:
        if re.fullmatch(pattern, key.get_secret_value(), re.DOTALL):
            return f"The key that was sent {meaning}."
    return ""
