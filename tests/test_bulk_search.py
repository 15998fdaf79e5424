"""Searching a file: the nearest rows by cosine, in the right order, of files of our own and of others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interfaces import settings_for
from servers import DIMENSION, RawServer, vector

from opensearch_embed import EmbeddingClient, InputError
from opensearch_embed.bulk import Hit, embed_file, search_file
from opensearch_embed.bulk.search import _Best

QUESTION = "which one?"


@pytest.fixture
def client() -> Iterator[EmbeddingClient]:
    """A client of a server that answers with four numbers."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as made:
        made.server = server  # type: ignore[attr-defined]
        yield made


def write(path: Path, vectors: Any, *, kind: Any = None, group: int = 7, **metadata: str) -> Path:
    """Write vectors, numbered, in small row groups."""
    column = pa.array(vectors, kind or pa.list_(pa.float32(), DIMENSION))
    table = pa.table({"text": [f"row {i}" for i in range(len(vectors))], "embedding": column})
    table = table.replace_schema_metadata({f"opensearch_embed.{name}": value for name, value in metadata.items()})
    pq.write_table(table, path, row_group_size=group)
    return path


def cosines(vectors: Any, question: str = QUESTION) -> list[float]:
    """Return the cosines with a question, by hand."""
    wanted = np.asarray(vector(question, "query"))
    rows = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted)
    return list(rows @ wanted / np.where(lengths > 0, lengths, 1))


@pytest.mark.parametrize("k", [1, 5, 100])
def test_the_nearest_come_first(k: int, client: EmbeddingClient, tmp_path: Path) -> None:
    """Rows come by cosine, whatever their length, with the text that stands there; equal ones in the file's order."""
    vectors = [[(i % 9 + 1) * number for number in vector(f"text {i % 20}")] for i in range(60)]
    hits = search_file(write(tmp_path / "in.parquet", vectors), QUESTION, client=client, k=k)
    scores = cosines(vectors)
    assert len(hits) == min(k, 60)
    order = sorted(range(60), key=lambda row: (-round(scores[row], 6), row))
    found = sorted(hits, key=lambda hit: (-round(hit.score, 6), hit.row))
    assert [hit.row for hit in found] == order[:k]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx([scores[hit.row] for hit in hits], abs=1e-6)
    assert [hit.value for hit in hits] == [f"row {hit.row}" for hit in hits]


def test_ties_come_in_the_order_of_the_rows(client: EmbeddingClient, tmp_path: Path) -> None:
    """The same vector has the same score wherever it stands, and the first of them comes first."""
    hits = search_file(write(tmp_path / "in.parquet", [vector("one")] * 50, group=8), QUESTION, client=client, k=10)
    assert [hit.row for hit in hits] == list(range(10))
    assert len({hit.score for hit in hits}) == 1


def test_rows_without_a_vector(client: EmbeddingClient, tmp_path: Path) -> None:
    """Rows without a vector are passed over, and a vector of zeros scores 0."""
    vectors = [None, [0.0] * DIMENSION, vector("one"), None]
    hits = search_file(write(tmp_path / "in.parquet", vectors), QUESTION, client=client)
    assert sorted(hit.row for hit in hits) == [1, 2]
    assert [hit.score for hit in hits if hit.row == 1] == [0.0]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32())], ids=str)
def test_vectors_of_other_programs(kind: pa.DataType, client: EmbeddingClient, tmp_path: Path) -> None:
    """Lists of any length and precision are searched too, where they have the right one."""
    vectors = [vector("one"), None, vector("two")]
    hits = search_file(write(tmp_path / "in.parquet", vectors, kind=kind), QUESTION, client=client)
    assert sorted(hit.row for hit in hits) == [0, 2]
    bad = write(tmp_path / "bad.parquet", [[1.0, 2.0]], kind=kind)
    with pytest.raises(InputError, match="do not all have 4 numbers"):
        search_file(bad, QUESTION, client=client)


def test_what_embed_writes_is_searched(client: EmbeddingClient, tmp_path: Path) -> None:
    """The column of vectors, and that which is shown, are what the file says."""
    (tmp_path / "in.jsonl").write_text('{"body": "one", "id": 8}\n{"body": "two", "id": 9}\n')
    output = tmp_path / "out.parquet"
    embed_file(tmp_path / "in.jsonl", output, client=client, column="body", output_column="vector")
    hits = search_file(output, QUESTION, client=client)
    assert {hit.value for hit in hits} == {"one", "two"}
    assert {hit.value for hit in search_file(output, QUESTION, client=client, show="id")} == {8, 9}


@pytest.mark.parametrize(
    ("options", "metadata", "kind", "said"),
    [
        ({}, {"model": "another"}, None, "of the model another.*four-numbers.*--model another"),
        ({"column": "nope"}, {}, None, "no column 'nope'.*--column.*text, embedding"),
        ({"show": "nope"}, {}, None, "no column 'nope'.*--show.*text, embedding"),
        ({"column": "text"}, {}, None, "holds no vectors, but string"),
        ({}, {}, pa.list_(pa.float32(), 3), "have dimension 3; those of four-numbers have 4"),
    ],
)
def test_what_cannot_be_searched(
    options: Any, metadata: Any, kind: Any, said: str, client: Any, tmp_path: Path
) -> None:
    """A file of another model, dimension or form is told, and nothing is sent."""
    width = DIMENSION if kind is None else kind.list_size
    file = write(tmp_path / "in.parquet", [[1.0] * width], kind=kind, **metadata)
    with pytest.raises(InputError, match=said):
        search_file(file, QUESTION, client=client, **options)
    assert client.server.requests == []


@pytest.mark.parametrize(("content", "said"), [(None, "is not there"), (b"PAR1", "cannot be read as Parquet")])
def test_no_parquet(content: bytes | None, said: str, client: Any, tmp_path: Path) -> None:
    """A file that is not there, or no Parquet, is told."""
    if content is not None:
        (tmp_path / "in.parquet").write_bytes(content)
    with pytest.raises(InputError, match=said):
        search_file(tmp_path / "in.parquet", QUESTION, client=client)


@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), max_size=40),
    k=st.integers(1, 10),
    size=st.integers(1, 9),
)
def test_any_blocks_give_the_same(rows: list[list[int]], k: int, size: int) -> None:
    """However the rows are cut into blocks, the best are those of all rows sorted by score and row."""
    wanted = np.asarray([1.0, 2.0, -1.0], np.float32)
    vectors = np.asarray(rows, np.float32).reshape(-1, 3)
    best, whole = _Best(k, wanted), _Best(1000, wanted)
    for start in range(0, len(vectors), size):
        best.add(start, best.candidates(vectors[start : start + size]))
    whole.add(0, whole.candidates(vectors))
    assert best.result() == whole.result()[:k]


def test_a_hit_is_plain_data() -> None:
    """A hit can be compared and taken apart."""
    assert Hit(1, 0.5, "x") == Hit(1, 0.5, "x")
