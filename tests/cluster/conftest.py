"""A real Ray on this machine, with two CPUs, for all tests of this folder: `make cluster`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to anybody
os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"

import ray
import ray.data


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A Ray of two CPUs, without its dashboard; started before the tests set any variable."""
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", configure_logging=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def session_logs(cluster: Any) -> Path:
    """The folder of all that this Ray logs."""
    return Path(cluster._private.worker._global_node.get_session_dir_path()) / "logs"
