"""A key in any wrapping is used without it; what is plainly no key is refused when the object is made, unprinted."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import AuthenticationError, ConfigurationError, EmbeddingClient
from opensearch_embed.emulator import Emulator

KEY = "OS-0123456789abcdef"
KINDS: list[Callable[..., Any]] = [EmbeddingClient, OpenSearchEmbeddings, OpenSearchEmbedding]

WRAPPED = [
    f'"{KEY}"',
    f"'{KEY}'",
    f" '{KEY}' \n",
    f"“{KEY}”",
    f"`{KEY}`",
    f"Bearer {KEY}",
    f"bearer  {KEY}",
    f'"Bearer {KEY}"',
    f'Bearer "{KEY}"',
    f"Authorization: Bearer {KEY}",
    f"export OPENSEARCH_API_KEY='{KEY}'",
]


def key_in_use(made: Any) -> str:
    """Return the key that a client or an adapter has."""
    secret = made.settings.api_key if isinstance(made, EmbeddingClient) else made.api_key
    key: str = secret.get_secret_value()
    return key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_wrapping_is_taken_off(kind: Callable[..., Any], wrapped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes and `Bearer` are no part of a key, wherever it comes from."""
    for key in (wrapped, SecretStr(wrapped)):
        assert key_in_use(kind(endpoint="host", api_key=key)) == KEY
    monkeypatch.setenv("OPENSEARCH_API_KEY", wrapped)
    assert key_in_use(kind(endpoint="host")) == KEY


@pytest.mark.parametrize("blank", ['""', "Bearer  ", "''", '"Bearer "'])
def test_a_wrapping_around_nothing_is_blank(blank: str) -> None:
    """What is left over may be nothing, and then it is told as that."""
    with pytest.raises(ConfigurationError, match=r"blank|no key"):
        EmbeddingClient(endpoint="host", api_key=blank)


# A key that is none, what it is.
PLACEHOLDERS = [
    ("**********", "masked dump"),
    ("SecretStr('**********')", "masked dump"),
    ("Secret('**********')", "masked dump"),
    ("OS-****", "masked dump"),
    ("${OPENSEARCH_API_KEY}", "variable"),
    ("$OPENSEARCH_API_KEY", "variable"),
    ("$(cat key)", "variable"),
    ("%OPENSEARCH_API_KEY%", "variable"),
    ("{{ secrets.KEY }}", "variable"),
    ("${{ secrets.KEY }}", "variable"),
    ("OPENSEARCH_API_KEY", "variable"),
    ("OS-...", "example"),
    ("OS-…", "example"),
    ("OS-xxxxxx", "example"),
    ("sk-...", "example"),
    ("<your-api-key>", "example"),
    ("YOUR_API_KEY", "example"),
    ("your-api-key-here", "example"),
    ("None", "a word for no key"),
    ("undefined", "a word for no key"),
    ("Bearer OS-...", "example"),
    ('"${OPENSEARCH_API_KEY}"', "variable"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("key", "reason"), PLACEHOLDERS)
def test_what_is_plainly_no_key_is_refused(kind: Callable[..., Any], key: str, reason: str) -> None:
    """The error comes when the object is made, and says what the value is."""
    with pytest.raises(ConfigurationError, match="api_key is no key but") as caught:
        kind(endpoint="host", api_key=key)
    assert reason in str(caught.value)


@pytest.mark.parametrize("key", ["OS-local", "k", "key", "os-abc", "OS-x", "my-key", "OS-a.b", "5" * 40])
def test_what_may_be_a_key_is_taken(key: str) -> None:
    """The form of keys is not documented, so nothing else is refused."""
    assert key_in_use(EmbeddingClient(endpoint="host", api_key=key)) == key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["OS-séçrèt", "OS-secret\x07bell", "OS-secret\nX-Other: 1", "OS-秘密", "OS-secret\x7f"])
def test_a_key_that_no_header_can_hold_is_not_printed(kind: Callable[..., Any], key: str) -> None:
    """The error says what is wrong, and neither it nor what is behind it shows the key."""
    with pytest.raises(ConfigurationError, match="no HTTP header can carry") as caught:
        kind(endpoint="host", api_key=key)
    assert caught.value.__cause__ is None
    assert not any(part in repr(caught.value) for part in (key, ascii(key)[1:-1], "secret", "秘密", "séç"))


# A key, what a 401 says about its form.
ODD = [
    ("LTAI5tABCDEFGHIJ", "AccessKey ID"),
    ("sk-0123456789", "another service"),
    ("OS-0123 456789", "white space inside"),
    ('OS-012"3456789', "quotation mark"),
    ("https://api.example", "a URL"),
    ("0123456789abcdef", "does not begin with OS-"),
]


@pytest.mark.parametrize(("key", "words"), ODD)
def test_a_401_says_what_is_odd_about_the_key(emulator: Emulator, call: Any, key: str, words: str) -> None:
    """The message tells the form alone, and not the key."""
    with (
        EmbeddingClient(endpoint=emulator.url, api_key=key) as client,
        pytest.raises(AuthenticationError, match="The key that was sent") as caught,
    ):
        call(client.embed, ["a"])
    assert words in str(caught.value)
    assert key not in str(caught.value)


def test_a_401_says_nothing_of_a_key_that_looks_right(emulator: Emulator, call: Any) -> None:
    """Where the form is as it should be, nothing is said about it."""
    with (
        EmbeddingClient(endpoint=emulator.url, api_key=KEY) as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        call(client.embed, ["a"])
    assert "The key that was sent" not in str(caught.value)


def test_a_masked_dump_makes_no_second_object() -> None:
    """`model_dump(mode="json")` masks the key, and the stars are not taken for one."""
    embeddings = OpenSearchEmbeddings(endpoint="host", api_key=KEY)
    with pytest.raises(ConfigurationError, match="masked dump"):
        OpenSearchEmbeddings(**embeddings.model_dump(mode="json"))
