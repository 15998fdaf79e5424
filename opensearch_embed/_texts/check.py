"""What is wrong with an input is found here, before anything is sent; and how large each text is once it is encoded."""

import math
from collections.abc import Iterable, Mapping, Sequence
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


def check_kind(texts: object) -> None:
    """Refuse what would fall apart into something else than its texts: a str into letters, a dict into its keys."""
    if isinstance(texts, (str, bytes, bytearray, memoryview)):
        raise InputError(f"texts is a bare {type(texts).__name__}: put it in a list, as in embed([text]).")
    kind = type(texts).__name__
    if isinstance(texts, Mapping):
        raise InputError(f"texts is a {kind}, not a list of str: say which of it is meant, as in list(texts.values()).")
    if isinstance(texts, (set, frozenset)):
        raise InputError(
            f"texts is a {kind}, which has no order that vectors could follow: pass list(texts), and keep it."
        )
    if hasattr(texts, "columns"):
        raise InputError(
            f"texts is a {kind}, which has more than one column: pass the one with the texts, as in df['text']."
        )
    if advice := _if_a_document(texts):
        raise InputError(f"texts is a {kind}, not a list of str{advice}.")


def check_texts(texts: Iterable[str]) -> list[str]:
    """Return the input as a list."""
    check_kind(texts)
    try:
        source = iter(texts)
    except TypeError as error:
        raise InputError(f"texts must be a sequence or an iterable of str, not {type(texts).__name__}.") from error
    return list(source)


def is_blank(text: str) -> bool:
    """Tell whether a text is empty, or holds white space alone: there is nothing in it to embed."""
    return not text or text.isspace()


def encoded_size(text: object, index: int) -> int:
    """Return how many bytes a text takes in a body, quotes included; 0 for an empty text, or white space alone.

    Raises:
        InputError: Not a str, or not encodable.
    """
    if not isinstance(text, str):
        raise InputError(f"texts[{index}] is not a str but {type(text).__name__}{_advice(text)}.", index=index)
    if is_blank(text):
        return 0
    try:
        return len(orjson.dumps(text))
    except orjson.JSONEncodeError as error:
        error.__cause__ = error.__context__ = None  # in older versions of orjson they hold the text
        raise InputError(
            f"texts[{index}] cannot be encoded as UTF-8: it holds a lone surrogate, or an emoji as two. Mend it with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').",
            index=index,
        ) from error


def check_fits(size: int, index: int) -> None:
    """Refuse what is larger, as it will be sent, than a body may be."""
    if size + ENVELOPE_BYTES > MAX_BODY_BYTES:
        raise InputError(
            f"texts[{index}] takes {size:,} bytes encoded; a request holds {MAX_BODY_BYTES:,}. Split the text.",
            index=index,
        )


def measure(
    texts: Sequence[str], *, empty: OnEmpty = "error", input_type: InputType = "document", first: int = 0
) -> list[int]:
    """Check every text before anything is sent, and return the encoded size of each.

    An empty text has size 0: a document with `empty="zero"` is not sent, any other is refused. The first text has index
    `first` for the caller, which is what errors say. Whether a text fits is not asked here: it may be cut first.
    """
    sizes = [encoded_size(text, index) for index, text in enumerate(texts, first)]
    if 0 in sizes and (empty == "error" or input_type == "query"):
        place = sizes.index(0)
        raise InputError(_emptiness(texts[place], first + place, input_type), index=first + place)
    return sizes


def _emptiness(text: str, index: int, input_type: InputType) -> str:
    what = f"texts[{index}] is empty{' (white space alone)' if text else ''}"
    if input_type == "query":
        return f"{what}: a query of nothing finds nothing, or anything. Leave it out; empty='zero' is for documents."
    return (
        f"{what}, and the service takes no empty text. Leave it out. (empty='zero' makes it a zero vector, which many "
        "vector stores find before better hits, or compare as NaN.)"
    )


def _advice(text: object) -> str:
    """Return what to do about something that is often there in place of a text."""
    if text is None or type(text).__name__ in ("NAType", "NaTType"):
        return " (a missing value: leave it out)"
    if isinstance(text, float) and math.isnan(text):
        return " (NaN, a missing value: leave it out)"
    if hasattr(text, "as_py"):
        return ": pass column.to_pylist()"
    return _if_a_document(text)


def _if_a_document(text: object) -> str:
    if hasattr(text, "page_content"):
        return ": pass its page_content"
    return ": pass what its get_content() returns" if hasattr(text, "get_content") else ""
