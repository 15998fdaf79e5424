"""The catalogue of the service's text-embedding models, known without a network call.

Every number here is the vendor's: the model table of the text-embedding API page of the AI Search Open Platform.
This file does not know settings, HTTP or tokenizers.
"""

from dataclasses import dataclass
from typing import Literal

from opensearch_embed.errors import ConfigurationError

InputType = Literal["document", "query"]
"""The role a text plays in retrieval: it is stored (`document`) or it asks (`query`)."""

INPUT_TYPES: tuple[InputType, ...] = ("document", "query")
DEFAULT_MODEL = "ops-text-embedding-002"

MAX_TEXTS_PER_REQUEST = 32
"""Texts in one request, at most (documented)."""

MAX_BODY_BYTES = 8_000_000
"""Bytes of one encoded request body, at most. The service says "8 MB"; this is the stricter reading of it."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is known of one model.

    Attributes:
        service_id: The model's name in the request path.
        dimension: Numbers in each vector.
        max_input_tokens: Tokens of one text that the model reads; `None` where that is not known. The tokenizers are
            not public, so a client can only estimate how many tokens a text has.
        languages: The languages the model was trained on, in the vendor's words.
    """

    service_id: str
    dimension: int
    max_input_tokens: int | None = None
    languages: str = "unknown"


MODELS: dict[str, ModelSpec] = {
    spec.service_id: spec
    for spec in (
        ModelSpec("ops-text-embedding-001", 1536, 300, "multilingual (40+)"),
        ModelSpec("ops-text-embedding-zh-001", 768, 1024, "Chinese"),
        ModelSpec("ops-text-embedding-en-001", 768, 512, "English"),
        ModelSpec("ops-text-embedding-002", 1024, 8192, "multilingual (100+)"),
        ModelSpec("ops-gte-sentence-embedding-multilingual-base", 768, 8192, "multilingual (70+)"),
        ModelSpec("ops-qwen3-embedding-0.6b", 1024, 32_768, "multilingual (100+)"),
    )
}


def find_model(service_id: str, dimension: int | None = None) -> ModelSpec:
    """Look a model up; a model outside the catalogue needs its dimension said.

    Raises:
        ConfigurationError: The model is unknown and `dimension` is not given, or it is known and `dimension` disagrees.
    """
    if dimension is not None and (type(dimension) is not int or dimension < 1):
        raise ConfigurationError(f"dimension must be a whole number from 1, not {dimension!r}.")
    spec = MODELS.get(service_id)
    if spec is None:
        if dimension is None:
            import difflib

            alike = difflib.get_close_matches(service_id.lower(), MODELS, 1, 0.8)
            raise ConfigurationError(
                f"Unknown model {service_id!r}. {f'Did you mean {alike[0]!r}? ' if alike else ''}"
                f"Known models: {', '.join(MODELS)}. "
                "For another one, say how long its vectors are: dimension=..."
            )
        return ModelSpec(service_id, dimension)
    if dimension not in (None, spec.dimension):
        raise ConfigurationError(
            f"Model {service_id!r} has dimension {spec.dimension}, not {dimension}. "
            "Leave dimension out for a known model."
        )
    return spec
