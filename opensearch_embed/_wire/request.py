"""A batch becomes a request: its path and its body."""

from collections.abc import Sequence
from urllib.parse import quote

import orjson

from opensearch_embed.models import InputType


def request_path(workspace: str, service_id: str) -> str:
    """Return the path of the text-embedding API."""
    return f"/v3/openapi/workspaces/{quote(workspace, safe='')}/text-embedding/{quote(service_id, safe='')}"


def encode_request(texts: Sequence[str], input_type: InputType) -> bytes:
    """Return the request body."""
    return orjson.dumps({"input": texts, "input_type": input_type})
