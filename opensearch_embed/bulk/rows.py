"""Which rows have a text that can be sent; the others are rejected here, each with what is wrong with it."""

from collections.abc import Iterator
from typing import Any

from opensearch_embed._texts.check import encoded_size, is_blank
from opensearch_embed._texts.overflow import LengthRule
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import InputError
from opensearch_embed.models import InputType
from opensearch_embed.options import Options


class RowCheck:
    """What a client says of one text, before anything is sent."""

    def __init__(self, client: EmbeddingClient, options: Options, input_type: InputType) -> None:
        rule = LengthRule.of(client.model, options)
        # A counter of the user's own may find a single character too long, also where texts are cut.
        self._rule = rule if options.overflow == "error" or options.length_function else None
        self._empty_is_fine = options.empty == "zero" and input_type == "document"

    def problem(self, value: Any, row: int) -> str | None:
        """Return what is wrong with a row's text; `None` where it can be sent."""
        if value is None:
            return "The text is null."
        if isinstance(value, str) and is_blank(value):
            what = "empty (white space alone)" if value else "empty"
            return None if self._empty_is_fine else f"The text is {what}, and the service takes no empty text."
        try:
            size = encoded_size(value, row)
            if self._rule is not None and size > self._rule.sure_size:
                self._rule.shorten(value, row)
        except InputError as error:
            return str(error).replace(f"texts[{row}]", "The text", 1).replace("The text: ", "")
        return None


def numbered(blocks: Iterator[list[Any]]) -> Iterator[tuple[int, list[Any]]]:
    """Yield each block of values with the number of its first row."""
    row = 0
    for block in blocks:
        yield row, block
        row += len(block)
