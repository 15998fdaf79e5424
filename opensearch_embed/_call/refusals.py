"""Texts that the service refuses for what they are, and how they are found among the others of their request."""

from collections.abc import Mapping
from typing import Literal

from opensearch_embed._texts.batches import Batch
from opensearch_embed._wire.refusal import named
from opensearch_embed.errors import ApiError, InvalidRequest

OnError = Literal["raise", "isolate", "skip"]


def is_about_a_text(error: InvalidRequest) -> bool:
    """Whether one text of the request may be at fault, so that it is worth while to find out which."""
    about_texts = error.status in (400, 413, 422) or error.code == "InvalidParameter"
    return about_texts and error.code != "ServiceIdNotExist"


def halves(batch: Batch) -> list[Batch]:
    """Return the halves of a batch; none if it is one text, which is then known to be at fault."""
    middle = len(batch.indices) // 2
    parts = (slice(middle), slice(middle, None)) if middle else ()
    return [Batch(batch.indices[part], batch.texts[part]) for part in parts]


def refusal(refused: Mapping[int, ApiError], first: int, total: int) -> ApiError:
    """Return the error of a call of so many texts, the first of which has this index, some of which are refused."""
    cause = next(iter(refused.values()))
    indices = sorted(first + text for text in refused)
    error = InvalidRequest(
        f"The service refuses {len(indices)} of {total} texts: {named(indices)}. The first: {cause}",
        status=cause.status,
        code=cause.code,
        message=cause.message,
        request_id=cause.request_id,
    )
    error.indices = indices
    error.__cause__ = cause
    return error
