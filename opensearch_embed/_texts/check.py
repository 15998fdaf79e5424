"""What is wrong with an input is found here, before anything is sent; and how large each text is once it is encoded."""

from collections.abc import Iterable, Sequence
from typing import Literal

import orjson

from opensearch_embed.errors import InputError
from opensearch_embed.models import INPUT_TYPES, MAX_BODY_BYTES, InputType

ENVELOPE_BYTES = len(orjson.dumps({"input": [], "input_type": "document"}))
"""What a body weighs around its texts; for the longer of the two input types."""

OnEmpty = Literal["error", "zero"]


def check_input_type(input_type: str) -> InputType:
    """Return the input type, or say which ones there are."""
    if input_type not in INPUT_TYPES:
        raise InputError(f"input_type must be 'document' or 'query', not {input_type!r}.")
    return input_type


def check_not_bare(texts: object) -> None:
    """Refuse a bare string, which would be embedded letter by letter."""
    if isinstance(texts, (str, bytes)):
        raise InputError(f"texts is a bare {type(texts).__name__}: put it in a list, as in embed([text]).")


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return the input as a list."""
    check_not_bare(texts)
    try:
        source = iter(texts)
    except TypeError as error:
        raise InputError(f"texts must be a sequence or an iterable of str, not {type(texts).__name__}.") from error
    return list(source)


def encoded_size(text: object, index: int) -> int:
    """Return how many bytes a text takes in a body, quotes included; 0 for an empty text.

    Raises:
        InputError: Not a str, not encodable, or larger than a body may be.
    """
    if not isinstance(text, str):
        raise InputError(f"texts[{index}] is not a str but {type(text).__name__}.", index=index)
    if not text:
        return 0
    try:
        size = len(orjson.dumps(text))
    except orjson.JSONEncodeError as error:
        raise InputError(
            f"texts[{index}] cannot be encoded as UTF-8: it holds a lone surrogate. "
            "Mend it with text.encode('utf-8', 'replace').decode().",
            index=index,
        ) from error
    if size + ENVELOPE_BYTES > MAX_BODY_BYTES:
        raise InputError(
            f"texts[{index}] takes {size:,} bytes encoded; a request holds {MAX_BODY_BYTES:,}. Split the text.",
            index=index,
        )
    return size


def measure(texts: Sequence[str], *, empty: OnEmpty = "error", first: int = 0) -> list[int]:
    """Check every text before anything is sent, and return the encoded size of each.

    An empty text has size 0: with `empty="zero"` it is not sent, with `empty="error"` it is refused. The first text has
    index `first` for the caller, which is what errors say.
    """
    sizes = [encoded_size(text, index) for index, text in enumerate(texts, first)]
    if empty == "error" and 0 in sizes:
        index = first + sizes.index(0)
        raise InputError(
            f"texts[{index}] is empty, and the service takes no empty text. Leave it out, or say empty='zero' "
            "to get a zero vector for it.",
            index=index,
        )
    return sizes
