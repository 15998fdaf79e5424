"""What one call gets of a request that it shared with others: vectors, or an error, of its own."""

import copy
from typing import Any

from opensearch_embed._dispatch.sharing import Member


def picked(member: Member) -> Any:
    """Return one call's vectors of a shared request, in lists of its own."""
    request, vectors = member.request, member.request.vectors
    if request.joined == 1 and member.places == list(range(len(request.texts))):
        return vectors
    if isinstance(vectors, list):
        return [vectors[place][:] for place in member.places]
    return vectors[member.places]


def own_copy(error: BaseException) -> BaseException:
    """Return an error that a call can fill in without touching another's."""
    twin = copy.copy(error)
    vars(twin).update({name: list(value) for name, value in vars(error).items() if isinstance(value, list)})
    twin.__cause__ = error.__cause__
    return twin.with_traceback(error.__traceback__)
