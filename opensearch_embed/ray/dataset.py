"""What the driver does: checks everything before a worker starts, divides the quota, and tells Ray the work."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from opensearch_embed._texts.check import check_input_type
from opensearch_embed.client import EmbeddingClient
from opensearch_embed.errors import ConfigurationError, InputError
from opensearch_embed.models import InputType
from opensearch_embed.ray.extra import load_ray
from opensearch_embed.ray.totals import start_totals
from opensearch_embed.ray.worker import Embedder, reason_column, require_column

if TYPE_CHECKING:
    from ray.data import Dataset

TEXTS_A_TASK = 2048
"""Rows that a worker is given at once, and that are done again if it dies: 64 full requests. Ray's own blocks, of up
to 128 MB, would leave all workers but one idle for most data, and cost a quarter of a million texts.
"""

CALLS_AT_ONCE = 2
"""So that a worker's next rows are on their way while the last answers of the ones before are awaited."""

CPU_SECONDS_A_REQUEST = 0.006
"""See "What one process does" in docs/scaling.md."""

LEAST_CPUS, MOST_CPUS = 0.1, 1.0


def embed_dataset(
    dataset: "Dataset",
    *,
    column: str = "text",
    output_column: str = "embedding",
    input_type: InputType = "document",
    workers: int = 2,
    **settings: Any,
) -> "Dataset":
    """Embed one column of a Ray Dataset on many machines, under one quota.

    It is lazy, as Ray's own methods are: texts are sent when the result is written, iterated or shown. What a killed
    worker had in hand is done again by another.

    Args:
        dataset: Any dataset with a column of str.
        column: The column that holds the texts.
        output_column: The column to add.
        input_type: `"document"` or `"query"`.
        workers: Processes (Ray actors), each with one client. They start when the work does, and end with it.
        settings: Those of `EmbeddingClient`. What is not given comes from the driver's environment, the key too. `qps`
            is the whole job's, and is divided by `workers`, unless `limiter` is the URL of a Redis that they share.

    Returns:
        The dataset with a column of float32 tensors of shape (`dimension`,). With `on_error="skip"`, a row that cannot
        be embedded (null, empty, too long with `overflow="error"`, refused by the service) has null there, and the
        reason in the column `output_column + "_error"`, which is null for all others.

    Raises:
        ConfigurationError: A setting is missing or makes no sense, there is no such column, or Ray is not installed.
        InputError: `dataset` is none, or `input_type` is wrong.

    While it runs, an error that trying again does not mend (a wrong key, say) fails the job: Ray raises its own
    exception with the error's text, and does not try again.
    """
    ray = load_ray()
    if not isinstance(dataset, ray.data.Dataset):
        raise InputError(f"dataset must be a ray.data.Dataset, not {type(dataset).__name__}.")
    check_input_type(input_type)
    client = EmbeddingClient(**settings_of_one(settings, workers))
    skips = settings.get("on_error") == "skip"
    _check_columns(dataset.columns(fetch_if_missing=False), column, output_column, skips)
    totals = start_totals(client.model.service_id)
    result = dataset.repartition(target_num_rows_per_block=TEXTS_A_TASK).map_batches(
        Embedder,
        fn_constructor_kwargs={
            "client": client,
            "column": column,
            "output_column": output_column,
            "input_type": input_type,
            "skips": skips,
            "totals": totals,
        },
        batch_size=TEXTS_A_TASK,
        batch_format="pyarrow",
        # Ray starts a killed actor anew and gives it its tasks again, without limit, if nothing else is said; an
        # exception in a task ends the job at once.
        compute=ray.data.ActorPoolStrategy(
            size=workers, max_concurrent_calls_per_actor=CALLS_AT_ONCE, enable_true_multi_threading=True
        ),
        num_cpus=cpus_of_one(settings, workers, ray.cluster_resources().get("CPU", 1.0)),
        udf_modifying_row_count=False,
    )
    totals.belong_to(result)
    return result


def settings_of_one(settings: dict[str, Any], workers: int) -> dict[str, Any]:
    """Return the settings of one worker: its part of the quota, unless the workers share a limiter."""
    if not (type(workers) is int and workers >= 1):
        raise ConfigurationError(f"workers must be a whole number from 1, not {workers!r}.")
    qps = settings.get("qps", 50.0)
    if isinstance(settings.get("limiter"), str) or not isinstance(qps, (int, float)):
        return settings
    return settings | {"qps": qps / workers}


def cpus_of_one(settings: dict[str, Any], workers: int, there: float) -> float:
    """Return the CPUs that Ray sets aside for one worker, which mostly waits, unless nothing limits it.

    All together get half of those that are there at most: else Ray, which starts the workers first, would have none
    left to read with, and wait for ever.
    """
    qps = settings.get("qps", 50.0)
    busy = MOST_CPUS if qps is None else qps / workers * CPU_SECONDS_A_REQUEST
    return round(min(MOST_CPUS, max(LEAST_CPUS, busy), there / 2 / workers), 4)


def _check_columns(known: Collection[str] | None, column: str, output_column: str, skips: bool) -> None:
    """Check what is known of the columns without reading the data; the workers check the rest."""
    if known is None:
        return
    require_column(known, column)
    for added in (output_column, *([reason_column(output_column)] if skips else [])):
        if added in known:
            raise ConfigurationError(f"The dataset has a column {added!r} already: say another output_column.")
