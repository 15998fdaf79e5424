"""What `embed_dataset` decides without Ray: each worker's part of the quota; and what it says where Ray is missing."""

import subprocess
import sys
from typing import Any

import pytest

from opensearch_embed import ConfigurationError
from opensearch_embed.ray.dataset import cpus_of_one, settings_of_one


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({}, 12.5),
        ({"qps": 200}, 50),
        ({"qps": None}, None),
        ({"qps": 200, "limiter": "redis://redis.internal:6379/0"}, 200),
        ({"limiter": object()}, 12.5),
        ({"qps": "many"}, "many"),
    ],
)
def test_the_quota_is_divided_unless_the_workers_share_a_redis(settings: dict[str, Any], part: object) -> None:
    """By four workers; what is no number is left for the client to refuse."""
    assert settings_of_one(settings, 4).get("qps", 50.0) == part
    assert settings_of_one(settings, 4).keys() <= settings.keys() | {"qps"}


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2", None])
def test_workers_are_counted(workers: Any) -> None:
    """Their number is a whole one."""
    with pytest.raises(ConfigurationError, match="workers must be a whole number"):
        settings_of_one({}, workers)


@pytest.mark.parametrize("qps", [None, 1, 50, 10_000])
@pytest.mark.parametrize("workers", [1, 2, 3, 64])
@pytest.mark.parametrize("there", [1.0, 2.0, 96.0])
def test_half_of_the_cpus_are_left_to_ray(qps: float | None, workers: int, there: float) -> None:
    """Else it could not read what the workers wait for."""
    assert 0 < workers * cpus_of_one({"qps": qps}, workers, there) <= there / 2 + 0.01


def test_a_missing_ray_is_told() -> None:
    """Importing works; the call names the extra."""
    script = """
import sys
sys.modules["ray"] = None
from opensearch_embed.ray import embed_dataset
try:
    embed_dataset(None)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigurationError embed_dataset needs Ray Data")
    assert 'pip install "opensearch-embed[ray]"' in done.stdout
