"""What becomes of a text that is longer than its model reads: sent all the same, refused, cut, or split."""

import math
import sys
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

from opensearch_embed._texts.length import LengthFunction, average, estimate_tokens, split, sure_bytes, truncate
from opensearch_embed.errors import InputError
from opensearch_embed.models import ModelSpec
from opensearch_embed.options import Options

NOT_THE_USERS = (
    *("opensearch_embed", "langchain", "langgraph", "llama_index", "wrapt", "pydantic"),
    *("asyncio", "concurrent.", "threading", "contextlib", "functools", "nest_asyncio", "uvloop", "tqdm"),
)
"""How the modules begin whose lines a user did not write."""


class LengthRule:
    """The rule of one client, for a model whose limit is known.

    Attributes:
        sure_size: Encoded size up to which a text is surely short enough. A user's own counter is asked for each text.
    """

    def __init__(self, model: ModelSpec, limit: int, options: Options) -> None:
        self._model = model
        self._limit = limit
        self._action = options.overflow
        self._count = checked(options.length_function) if options.length_function else estimate_tokens
        self.sure_size = 0 if options.length_function else sure_bytes(limit) + 2  # the quotes
        self._long = 0
        self._warned = False

    @classmethod
    def of(cls, model: ModelSpec, options: Options) -> "LengthRule | None":
        """Return the rule; `None` where the limit is not known."""
        return None if model.max_input_tokens is None else cls(model, model.max_input_tokens, options)

    def shorten(self, text: str, index: int) -> list[str]:
        """Return what is sent for a text.

        Raises:
            InputError: It is too long, and `overflow="error"`; or `length_function` fails.
        """
        try:
            return self._shortened(text, index)
        except InputError as error:
            if error.index is not None:
                raise
            raise InputError(f"texts[{index}]: {error}", index=index) from error.__cause__ or error

    def _shortened(self, text: str, index: int) -> list[str]:
        tokens = self._count(text)
        if tokens <= self._limit:
            return [text]
        if self._action == "truncate":
            return [truncate(text, self._limit, self._count)]
        if self._action == "average":
            pieces = split(text, self._limit, self._count)
            # Each is counted again for its weight, when its vector has been paid for: so not for the first time.
            for piece in pieces:
                self._count(piece)
            return pieces
        if self._action == "error":
            raise InputError(
                f"texts[{index}] has about {tokens:,} tokens; {self._model.service_id} reads "
                f"{self._limit:,}. Split it, or say overflow='truncate' or 'average'.",
                index=index,
            )
        self._long += 1
        return [text]

    def combine(self, vectors: Sequence[Any], pieces: Sequence[str]) -> Any:
        """Return the vector of a text from those of its pieces, each as heavy as it is long."""
        return average(vectors, [self._count(piece) for piece in pieces])

    def forget(self) -> None:
        """Put aside what was to be warned of: it is not sent."""
        self._long = 0

    def warn_once(self) -> None:
        """Say, once for each client, that texts look too long and are sent all the same."""
        if self._long and not self._warned:
            self._warned = True
            look = "1 text looks" if self._long == 1 else f"{self._long} texts look"
            warnings.warn(
                f"{look} longer than the {self._limit:,} tokens that {self._model.service_id} reads; "
                "what the service does with the rest is not documented. Choose with overflow='error', 'truncate' or "
                "'average', and count exactly with length_function=.",
                stacklevel=users_stacklevel(),
            )


def users_stacklevel() -> int:
    """Return the `stacklevel` of a warning by whoever calls this, which makes it point at the user's own line.

    That is the first one outside of this package, the frameworks, and what runs their coroutines.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        if not str(frame.f_globals.get("__name__", "")).startswith(NOT_THE_USERS):
            return level
        frame, level = frame.f_back, level + 1
    return level


def checked(length_function: LengthFunction) -> LengthFunction:
    """Return a user's counter, whose failures are told as ours."""

    def count(text: str) -> int:
        try:
            tokens: object = length_function(text)
        except Exception as error:
            # Without its words, which may repeat the text.
            raise InputError(f"length_function failed with {type(error).__name__}.") from error
        number = math.nan if isinstance(tokens, bool) or not isinstance(tokens, Real) else float(tokens)
        if not 0 <= number < math.inf:
            shown = type(tokens).__name__ if math.isnan(number) else repr(tokens)
            raise InputError(f"length_function must return a number of tokens from 0, not {shown}.")
        return math.ceil(number)

    return count
