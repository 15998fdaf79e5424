"""A real Redis for each test."""

from collections.abc import Iterator

import pytest
from redis_servers import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of its own for each test."""
    with RedisServer() as running:
        yield running
