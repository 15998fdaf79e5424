"""Embeds a Ray Dataset over the machines of a cluster, under one quota. The extra `ray` brings what it needs.

Ray schedules, moves the data and starts anew what died; a worker of it holds one client. Nothing here retries, waits
or counts requests.
"""

from opensearch_embed.ray.dataset import embed_dataset
from opensearch_embed.ray.totals import Totals, totals

__all__ = ["Totals", "embed_dataset", "totals"]
