"""Which node a text is of. The framework hands over texts alone; an error about one should name its node.

`IngestionPipeline` calls the embedding with nodes. `VectorStoreIndex` has them some frames up, and no hook for them: so
they are looked for there, and an error does without where there are none.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from types import FrameType

from llama_index.core.schema import BaseNode, MetadataMode

from llama_index_opensearch_embed._whole import within_a_batch
from opensearch_embed import InputError

EMBED_NODES, FRAMES = "llama_index.core.indices.utils", 12
"""Where the framework has nodes at hand, and how far up: its own frames, and those of its instrumentation."""

Pairs = Callable[[], Iterable[tuple[str, str]]]
"""Yields the nodes' ids, each with its text, once they are asked for."""

_pairs: ContextVar[Pairs] = ContextVar("opensearch_embed_nodes", default=tuple)


@contextlib.contextmanager
def embedding(nodes: Sequence[BaseNode]) -> Iterator[None]:
    """Let errors, inside, name these nodes."""
    with _known(lambda: ((node.node_id, node.get_content(metadata_mode=MetadataMode.EMBED)) for node in nodes)):
        yield


@contextlib.contextmanager
def embedding_for_the_caller() -> Iterator[None]:
    """Let errors, inside, name the nodes that the framework's `embed_nodes`, or its async twin, has the texts of."""
    pairs = _pairs_of_caller()
    with _known(pairs) if pairs else contextlib.nullcontext():
        yield


def _pairs_of_caller() -> Pairs | None:
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES):
        if frame is None:
            break
        found = frame.f_locals if frame.f_globals.get("__name__") == EMBED_NODES else {}
        if "ids_to_embed" in found:
            return partial(zip, found["ids_to_embed"], found["texts_to_embed"])
        frame = frame.f_back
    return None


@contextlib.contextmanager
def _known(pairs: Pairs) -> Iterator[None]:
    token = _pairs.set(pairs)
    try:
        yield
    finally:
        _pairs.reset(token)


@contextlib.contextmanager
def counted_in_batches(texts: Iterable[str], size: int) -> Iterator[None]:
    """Let an error about the whole list count in the framework's batch, as all others do; it names the node too."""
    try:
        yield
    except InputError as error:
        if (index := error.index) is not None:
            whole, start = list(texts), index // size * size
            within_a_batch(error, start, min(size, len(whole) - start))
            if len(whole) > size:
                _say(error, f"It is text {index} of the whole list.")
            _name_node(error, whole[index])
        raise


@contextlib.contextmanager
def naming(texts: Sequence[str]) -> Iterator[None]:
    """Let an error about one of these texts, a batch of the framework's, name its node."""
    try:
        yield
    except InputError as error:
        if error.index is not None:
            _name_node(error, texts[error.index])
        raise


def _name_node(error: InputError, text: str) -> None:
    name = next((node_id for node_id, content in _pairs.get()() if content == text), None)
    if name is not None and name not in str(error):
        _say(error, f"The node is {name!r}.")


def _say(error: InputError, words: str) -> None:
    error.args = (f"{error} {words}",)
