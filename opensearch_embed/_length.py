"""Placeholder, to be overwritten by the real module that is being written."""

from collections.abc import Callable, Sequence


def estimate_tokens(text: str) -> int:
    """Placeholder."""
    return len(text)


def truncate(text: str, limit: int, length_function: Callable[[str], int]) -> str:
    """Placeholder."""
    return text[:limit]


def split(text: str, limit: int, length_function: Callable[[str], int]) -> list[str]:
    """Placeholder."""
    return [text[i : i + limit] for i in range(0, len(text), limit)]


def average(vectors: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """Placeholder."""
    total = sum(weights)
    return [sum(w * x for w, x in zip(weights, column, strict=True)) / total for column in zip(*vectors, strict=True)]
