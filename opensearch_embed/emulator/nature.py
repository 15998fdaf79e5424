"""What the emulator does where the service's vendor documents nothing: too long a text, the length of vectors.

The documented limits are in `service`; these are choices, so that a client can be tested with each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from opensearch_embed.emulator.service import Job, Refused, count_tokens, error_reply
from opensearch_embed.emulator.vectors import Floats
from opensearch_embed.models import MAX_TEXTS_PER_REQUEST, MODELS

LongTexts = Literal["read", "truncate", "refuse"]

NOT_UNIT = 3.0
"""Length of the longest vectors, where they do not have unit length."""


@dataclass(frozen=True, slots=True)
class Nature:
    """The emulator's choices.

    Attributes:
        long_texts: A text longer than its model reads is read as a whole, cut, or refused.
        unit_length: Whether vectors have unit length.
        max_texts: Texts in one request, at most.
    """

    long_texts: LongTexts = "read"
    unit_length: bool = True
    max_texts: int = MAX_TEXTS_PER_REQUEST

    def __post_init__(self) -> None:
        if self.long_texts not in get_args(LongTexts):
            raise ValueError(f"long_texts must be one of {', '.join(get_args(LongTexts))}, not {self.long_texts!r}.")
        if not 1 <= self.max_texts <= MAX_TEXTS_PER_REQUEST:
            raise ValueError(f"max_texts must be 1 to {MAX_TEXTS_PER_REQUEST}, not {self.max_texts}.")

    def take(self, job: Job) -> Job:
        """Return what is embedded for a request, or refuse it."""
        if len(job.texts) > self.max_texts:
            raise _refused(f"input has {len(job.texts)} strings, more than {self.max_texts}.")
        limit = _limits.get(job.model)
        if self.long_texts == "read" or limit is None:
            return job
        for index, text in enumerate(job.texts):
            if self.long_texts == "refuse" and count_tokens(text) > limit:
                raise _refused(f"input[{index}] has {count_tokens(text)} tokens, more than {limit}.")
        # Tokens are counted as four bytes each.
        return replace(job, texts=[text.encode()[: 4 * limit].decode(errors="ignore") for text in job.texts])

    def scale(self, vectors: Floats) -> Floats:
        """Give vectors their length: where that is not 1, it differs from one to the next."""
        if self.unit_length:
            return vectors
        lengths = 1 + (NOT_UNIT - 1) * np.abs(vectors[:, :1]) / np.abs(vectors).max(axis=1, keepdims=True)
        return np.asarray(vectors * lengths, np.float32)


_limits: Mapping[str, int | None] = {name: spec.max_input_tokens for name, spec in MODELS.items()}


def _refused(message: str) -> Refused:
    return Refused(error_reply(400, "InvalidParameter", message))
