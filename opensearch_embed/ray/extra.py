"""Ray and pyarrow, which the extra `ray` brings."""

from types import ModuleType

from opensearch_embed._loading import load
from opensearch_embed.errors import ConfigurationError


def load_ray() -> ModuleType:
    """Return the module `ray`, with `ray.data`.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        load("ray.data")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'embed_dataset needs Ray Data ({error.name} is missing): pip install "opensearch-embed[ray]"'
        ) from error
    return load("ray")
