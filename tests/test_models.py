"""The catalogue, and how a model is found in it."""

import dataclasses

import pytest

from opensearch_embed.errors import ConfigurationError
from opensearch_embed.models import (
    DEFAULT_MODEL,
    INPUT_TYPES,
    MAX_BODY_BYTES,
    MAX_TEXTS_PER_REQUEST,
    MODELS,
    ModelSpec,
    find_model,
)

# The vendor's table: service id, languages, max input tokens, dimension.
VENDOR = [
    ("ops-text-embedding-001", "multilingual (40+)", 300, 1536),
    ("ops-text-embedding-zh-001", "Chinese", 1024, 768),
    ("ops-text-embedding-en-001", "English", 512, 768),
    ("ops-text-embedding-002", "multilingual (100+)", 8192, 1024),
    ("ops-gte-sentence-embedding-multilingual-base", "multilingual (70+)", 8192, 768),
    ("ops-qwen3-embedding-0.6b", "multilingual (100+)", 32768, 1024),
]


def test_the_catalogue_is_the_vendors_table() -> None:
    """The six models have the vendor's dimensions, limits and languages, and are listed under their ids."""
    assert [(m.service_id, m.languages, m.max_input_tokens, m.dimension) for m in MODELS.values()] == VENDOR
    assert list(MODELS) == [row[0] for row in VENDOR]


def test_the_limits_are_the_documented_ones() -> None:
    """A request takes 32 texts and 8 MB, read strictly; a text is a document or a query."""
    assert (MAX_TEXTS_PER_REQUEST, MAX_BODY_BYTES) == (32, 8_000_000)
    assert INPUT_TYPES == ("document", "query")
    assert DEFAULT_MODEL == "ops-text-embedding-002"


@pytest.mark.parametrize("service_id", MODELS)
def test_a_known_model_needs_no_dimension(service_id: str) -> None:
    """A known model is found by its id; its own dimension may be said, too."""
    spec = MODELS[service_id]
    assert find_model(service_id) is spec
    assert find_model(service_id, spec.dimension) is spec


def test_a_known_model_refuses_another_dimension() -> None:
    """The error names the model, both dimensions and the way out."""
    with pytest.raises(ConfigurationError) as caught:
        find_model("ops-text-embedding-001", 1024)
    for words in ("'ops-text-embedding-001'", "1536", "1024", "Leave dimension out"):
        assert words in str(caught.value)


def test_an_unknown_model_takes_a_dimension() -> None:
    """A model outside the catalogue has the dimension that is said, and nothing else is claimed of it."""
    assert find_model("ops-new", 2) == ModelSpec("ops-new", 2, None, "unknown")
    assert find_model("ops-new", 1).dimension == 1


def test_an_unknown_model_without_a_dimension_lists_the_known_ones() -> None:
    """The error names the unknown model, every known one, and the argument that helps."""
    with pytest.raises(ConfigurationError) as caught:
        find_model("ops-text-embedding-02")
    for words in ("'ops-text-embedding-02'", "Did you mean 'ops-text-embedding-002'?", *MODELS, "dimension="):
        assert words in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        find_model("another")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("dimension", [0, -1, 1.5, 1024.0, True, "1024", [1024]])
@pytest.mark.parametrize("service_id", ["ops-new", DEFAULT_MODEL])
def test_a_dimension_is_a_whole_number_from_one(service_id: str, dimension: object) -> None:
    """Anything else is refused with the value, for known models and others."""
    with pytest.raises(ConfigurationError) as caught:
        find_model(service_id, dimension)  # type: ignore[arg-type]
    assert f"dimension must be a whole number from 1, not {dimension!r}" in str(caught.value)


def test_a_model_cannot_be_changed() -> None:
    """What is known of a model is frozen, comparable and hashable."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODELS[DEFAULT_MODEL].dimension = 3  # type: ignore[misc]
    assert len(set(MODELS.values())) == 6
