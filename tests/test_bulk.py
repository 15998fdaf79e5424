"""From files to files: every form of input and output, what is kept, what is rejected, what is refused."""

import datetime
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from interfaces import settings_for
from servers import DIMENSION, RawServer, honest, refuse, vector

from opensearch_embed import ConfigurationError, EmbeddingClient, InputError, InvalidRequest
from opensearch_embed.bulk import Progress, Report, embed_file, estimate_file

TEXTS = ["tea", "咖啡", 'say "hi",\nthere', "tea", " spaces  stay "]
LINES = [text for text in TEXTS if "\n" not in text]

Run = Callable[..., Report]


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that answers with four numbers."""
    with RawServer() as running:
        yield running


@pytest.fixture
def run(server: RawServer) -> Run:
    """Embed a file with a client of the server; settings are the client's."""

    def embed(source: Any, output: Path, *, client: dict[str, Any] | None = None, **options: Any) -> Report:
        with EmbeddingClient(**settings_for(server.url, **client or {})) as made:
            return embed_file(source, output, client=made, **options)

    return embed


def write(path: Path, texts: list[Any] = TEXTS, column: str = "text") -> Path:
    """Write texts in the form that the name says, each with a number beside it."""
    form = path.name.removesuffix(".gz").rpartition(".")[2]
    table = pa.table({"id": range(len(texts)), column: pa.array(texts, pa.string())})
    sink = io.BytesIO()
    if form == "parquet":
        pq.write_table(table, sink)
    elif form in ("csv", "tsv"):
        pc.write_csv(table, sink, pc.WriteOptions(delimiter="\t" if form == "tsv" else ","))
    elif form == "txt":
        sink.write("\n".join(texts).encode())
    else:
        sink.write("".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode())
    data = sink.getvalue()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(output: Path, column: str = "embedding") -> list[Any]:
    """Return the vectors of an output."""
    if output.suffix == ".npy":
        rows = np.load(output)
        assert rows.dtype == np.float32
        return [None if np.isnan(row).all() else row.tolist() for row in rows]
    if output.suffix == ".parquet":
        found: list[Any] = pq.read_table(output)[column].to_pylist()
        return found
    rows = [json.loads(line)[column] for line in output.read_text().splitlines()]
    # In JSON a number is as long as float32 needs.
    return [row and np.asarray(row, np.float32).tolist() for row in rows]


FORMS = ("parquet", "jsonl", "ndjson", "csv", "tsv", "txt")
PACKED = ("jsonl.gz", "csv.gz", "tsv.gz", "txt.gz")


@pytest.mark.parametrize("output", ["out.parquet", "out.jsonl", "out.npy"])
@pytest.mark.parametrize("form", [*FORMS, *PACKED])
def test_every_form(form: str, output: str, tmp_path: Path, run: Run) -> None:
    """From every form to every form: the vectors in the order of the rows, and nothing left behind."""
    texts = LINES if "txt" in form else TEXTS
    source = write(tmp_path / f"in.{form}", texts)
    report = run(source, tmp_path / output)
    assert read(tmp_path / output) == [vector(text) for text in texts]
    assert (report.rows, report.embedded, report.rejected) == (len(texts), len(texts), 0)
    assert (report.requests, report.tokens) == (1, len(set(texts)))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [source.name, output, *([] if output.endswith(".parquet") else [f"{output}.made.json"])]
    )
    if output != "out.npy" and "txt" not in form:
        rows = (
            pq.read_table(tmp_path / output).to_pylist()
            if output == "out.parquet"
            else [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
        )
        assert [(row["id"], row["text"]) for row in rows] == list(enumerate(texts))
        assert list(rows[0]) == ["id", "text", "embedding"]


def test_types_stay(tmp_path: Path, run: Run) -> None:
    """From Parquet to Parquet all other columns keep their types, values, nulls and metadata."""
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    when = datetime.datetime(2020, 1, 2, 3, 4, 5, 678)
    table = pa.table(
        {
            "when": pa.array([when, None, when], pa.timestamp("us")),
            "zoned": pa.array([when, when, None], pa.timestamp("ns", "Asia/Shanghai")),
            "kind": pa.array(["a", "b", None]).dictionary_encode(),
            "nested": [{"tags": ["x", None], "at": {"n": 1}}, None, {"tags": [], "at": None}],
            "price": pa.array([Decimal("1.10"), None, Decimal("2.00")], pa.decimal128(9, 2)),
            "raw": pa.array([b"\xff", None, b""]),
            "small": pa.array([1, None, 3], pa.int8()),
            "day": pa.array([when.date(), None, None]),
            "text": pa.array(["one", "two", "three"], pa.large_string()),
        }
    ).replace_schema_metadata({"mine": "kept"})
    pq.write_table(table, source)
    run(source, output)
    found = pq.read_table(output)
    assert found.drop_columns("embedding").equals(table)
    assert found.schema.field("embedding").type == pa.list_(pa.float32(), DIMENSION)
    metadata = found.schema.metadata
    assert metadata[b"mine"] == b"kept"
    assert metadata[b"opensearch_embed.model"] == b"four-numbers"
    assert metadata[b"opensearch_embed.dimension"] == b"4"
    assert metadata[b"opensearch_embed.input_type"] == b"document"
    run(source, tmp_path / "out.jsonl")
    first, second, _ = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (first["when"], first["price"], second["nested"]) == ("2020-01-02T03:04:05.000678", "1.10", None)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
def test_every_kind_of_text_column(kind: pa.DataType, tmp_path: Path, run: Run) -> None:
    """However Parquet holds texts, they are texts."""
    pq.write_table(pa.table({"text": pa.array(["tea", None, "tea"]).cast(kind)}), tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.npy")
    assert read(tmp_path / "out.npy") == [vector("tea"), None, vector("tea")]


def test_json_lines_stay_as_they_are(tmp_path: Path, run: Run) -> None:
    """From JSON lines to JSON lines: keys that differ, strings that look like times, several kinds in one column."""
    lines = [
        {"text": "a", "when": "2020-01-01T00:00:00Z", "n": 1},
        {"n": "one", "text": "b", "more": {"x": [1, None]}},
        {"text": "c", "n": 1.5, "when": None},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))
    run(source, tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row | {"embedding": None} for row in found] == [line | {"embedding": None} for line in lines]
    run(source, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["n"].to_pylist() == ["1", "one", "1.5"]
    assert table["when"].to_pylist() == ["2020-01-01T00:00:00Z", None, None]
    assert table["more"].to_pylist() == [None, {"x": [1, None]}, None]


def test_csv_columns_that_change_their_kind(tmp_path: Path, run: Run) -> None:
    """A column whose first cells look like numbers, and later ones do not, is text; nothing fails half-way."""
    source = tmp_path / "in.csv"
    filler = "".join(f"{i},{i},text {i}{' and so on' * 200}\n" for i in range(1000))
    source.write_text(f"a,b,text\n{filler}x,1.5,last\n")
    report = run(source, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert report.rows == 1001
    assert table["a"].to_pylist()[-2:] == ["999", "x"]
    assert table["b"].to_pylist()[-2:] == [999.0, 1.5]


def test_rejected_rows(tmp_path: Path, run: Run, server: RawServer) -> None:
    """Null, empty, not a string, refused by the service: no vector, told in order, and the rest goes on."""
    server._default = lambda c, r: (
        refuse(400, "InvalidParameter", "not this") if "bad" in r.json["input"] else honest
    )(c, r)
    values = ["a", None, "", 5, "bad", ["x"], "b", "d", {"y": 1}, "c"]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": value}) + "\n" for value in values) + "{}\n")
    report = run(source, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [
        vector(v) if isinstance(v, str) and v not in ("", "bad") else None for v in [*values, None]
    ]
    told = [json.loads(line) for line in (tmp_path / "out.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [(t["row"], t["error"]) for t in told] == [
        *((1, "InputError"), (2, "InputError"), (3, "InputError"), (4, "InvalidRequest"), (5, "InputError")),
        *((8, "InputError"), (10, "InputError")),
    ]
    messages = [t["message"] for t in told]
    assert messages[:3] == [
        "The text is null.",
        "The text is empty, and the service takes no empty text.",
        "The text is not a str but int.",
    ]
    assert messages[3] == "The service says InvalidParameter: not this"
    assert (report.rows, report.embedded, report.rejected) == (11, 4, 7)
    assert report.rejected_rows == tmp_path / "out.jsonl.rejected.jsonl"


def test_over_long_rows(tmp_path: Path, emulator: Any) -> None:
    """With `overflow="error"`, the row that is too long is rejected; with `"truncate"`, it is cut."""
    source = write(tmp_path / "in.jsonl", ["short", "word " * 1000, "short too"])
    model = "ops-text-embedding-001"
    for overflow, rejected in (("error", 1), ("truncate", 0), ("average", 0)):
        with EmbeddingClient(
            model, endpoint=emulator.url, api_key=emulator.api_key, qps=None, overflow=overflow
        ) as client:
            report = embed_file(source, tmp_path / f"{overflow}.npy", client=client)
            assert report.rejected == rejected
    [told] = map(json.loads, (tmp_path / "error.npy.rejected.jsonl").read_text().splitlines())
    assert told["row"] == 1
    assert "reads 300" in told["message"]


def test_empty_rows_may_be_zeros(tmp_path: Path, run: Run) -> None:
    """With `empty="zero"`, an empty text has a vector of zeros, as in the client."""
    run(write(tmp_path / "in.jsonl", ["a", "", "b"]), tmp_path / "out.npy", client={"empty": "zero"})
    assert read(tmp_path / "out.npy")[1] == [0.0] * DIMENSION


def test_several_files_are_one_input(tmp_path: Path, run: Run) -> None:
    """A list or a glob of files is one input, in its order."""
    for number in range(3):
        write(tmp_path / f"part-{number}.csv", [f"{number} a", f"{number} b"])
    wanted = [vector(f"{number} {letter}") for number in range(3) for letter in "ab"]
    run(str(tmp_path / "part-*.csv"), tmp_path / "glob.npy")
    run([tmp_path / "part-0.csv", tmp_path / "part-1.csv", tmp_path / "part-2.csv"], tmp_path / "list.npy")
    assert read(tmp_path / "glob.npy") == read(tmp_path / "list.npy") == wanted


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "txt"])
def test_stdin(form: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in on stdin is an input like any other."""
    with write(tmp_path / f"in.{form}", LINES).open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        run("-", tmp_path / "out.parquet", format=form)
    assert read(tmp_path / "out.parquet") == [vector(text) for text in LINES]


@pytest.mark.parametrize("form", FORMS)
def test_no_rows(form: str, tmp_path: Path, run: Run) -> None:
    """A file without rows gives a file without rows, and sends nothing."""
    report = run(write(tmp_path / f"in.{form}", []), tmp_path / "out.parquet")
    assert (report.rows, report.requests) == (0, 0)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("source", "options", "error", "said"),
    [
        ("in.parquet", {"column": "nope"}, InputError, r"no column 'nope'.*--column.*id \(int64\), text \(string\)"),
        ("in.csv", {"column": "nope"}, InputError, r"no column 'nope'.*id \(int64\), text \(string\)"),
        ("in.jsonl", {"column": "nope"}, InputError, r"no column 'nope'.*id, text"),
        ("in.parquet", {"column": "id"}, InputError, r"holds no text, but int64.*text \(string\)"),
        ("in.jsonl", {"column": "id"}, InputError, r"holds no text, but int.*id, text"),
        ("in.parquet", {"output_column": "id"}, InputError, "already.*--output-column"),
        ("in.jsonl", {"output_column": "text"}, InputError, "already.*--output-column"),
        ("nope.csv", {}, InputError, "is not there"),
        ("*.nope", {}, InputError, "matches no file"),
        (".", {}, InputError, "is a folder"),
        ("in.xlsx", {}, InputError, "cannot be told"),
        ("in.parquet", {"format": "xlsx"}, ConfigurationError, "format must be one of"),
        ("bad.jsonl", {}, InputError, "bad.jsonl, line 2, is not JSON"),
        ("list.jsonl", {}, InputError, "list.jsonl, line 1, is not a JSON object but list"),
        ("bad.csv", {}, InputError, "bad.csv cannot be read as CSV"),
        ("bad.parquet", {}, InputError, "bad.parquet cannot be read as Parquet"),
        ("bad.txt.gz", {}, InputError, "bad.txt.gz cannot be read"),
        (["in.csv", "in.jsonl"], {}, InputError, "must have one format"),
        (["in.csv", "other.csv"], {}, InputError, "must have the same columns"),
        (["in.parquet", "other.parquet"], {}, InputError, "must have the same columns"),
        ([], {}, InputError, "no input"),
        ("-", {}, ConfigurationError, "--format"),
        (["-", "in.csv"], {}, ConfigurationError, "stands alone"),
    ],
)
def test_what_cannot_be_read(
    source: Any, options: Any, error: Any, said: str, tmp_path: Path, run: Run, server: RawServer, monkeypatch: Any
) -> None:
    """What is wrong with an input is said before anything is sent, and nothing is left behind."""
    for name in ("in.parquet", "in.csv", "in.jsonl"):
        write(tmp_path / name)
    for name in ("other.csv", "other.parquet"):
        write(tmp_path / name, column="another")
    (tmp_path / "in.xlsx").touch()
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "bad.csv").write_text("a,text\n1,2\n1,2,3\n")
    (tmp_path / "bad.parquet").write_text("PAR1")
    (tmp_path / "bad.txt.gz").write_bytes(gzip.compress(b"text")[:-6])
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=said):
        run(source, Path("out.parquet"), **options)
    assert sorted(tmp_path.iterdir()) == before
    assert server.requests == []


@pytest.mark.parametrize(
    ("output", "said"),
    [("out.csv", "must end in"), ("no/out.npy", "is not there"), ("in.jsonl", "is the input"), ("d.npy", "a folder")],
)
def test_what_cannot_be_written(output: str, said: str, tmp_path: Path, run: Run, server: RawServer) -> None:
    """What is wrong with an output is said before anything is sent."""
    (tmp_path / "d.npy").mkdir()
    with pytest.raises(ConfigurationError, match=said):
        run(write(tmp_path / "in.jsonl"), tmp_path / output)
    assert server.requests == []


def test_progress_is_told(tmp_path: Path, run: Run) -> None:
    """The last thing told is that all is done."""
    told: list[Progress] = []
    run(write(tmp_path / "in.jsonl"), tmp_path / "out.npy", progress=told.append)
    assert (told[-1].rows, told[-1].done, told[-1].found, told[-1].retries) == (5, 5, 0, 0)


def test_the_estimate_is_what_it_takes(tmp_path: Path, run: Run, server: RawServer) -> None:
    """The estimate has the rows and requests of the run, and sends nothing."""
    source = write(tmp_path / "in.jsonl", [*(f"text {i}" for i in range(100)), ""])
    with EmbeddingClient(**settings_for(server.url, qps=2.0)) as client:
        estimate = estimate_file(source, client=client)
    assert server.requests == []
    assert (estimate.rows, estimate.rejected, estimate.requests, estimate.seconds) == (101, 1, 4, 2.0)
    report = run(source, tmp_path / "out.npy")
    assert report.requests == estimate.requests
    assert estimate.tokens >= report.tokens


def test_a_client_of_any_kind_goes_on(tmp_path: Path, server: RawServer) -> None:
    """Whatever a client does on errors, a refused text is a rejected row; the client itself stays as it was."""
    server._default = lambda c, r: (refuse(400, "InvalidParameter") if "bad" in r.json["input"] else honest)(c, r)
    source = write(tmp_path / "in.jsonl", ["a", "bad"])
    for on_error in ("raise", "isolate", "skip"):
        with EmbeddingClient(**settings_for(server.url, on_error=on_error)) as client:
            report = embed_file(source, tmp_path / f"{on_error}.npy", client=client)
            assert report.rejected == 1
            assert client.usage.requests == report.requests
            if on_error == "raise":
                with pytest.raises(InvalidRequest):
                    client.embed(["bad"])


def test_long_texts_make_small_row_groups(tmp_path: Path, run: Run) -> None:
    """Where rows are large, a row group has few of them, so that memory stays bounded."""
    texts = [f"{i} {'long ' * 20_000}" for i in range(1000)]
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"text": texts}), source)
    run(source, output)
    metadata = pq.read_metadata(output)
    assert metadata.num_row_groups == 2
    assert pq.read_table(output, columns=["text"])["text"].to_pylist() == texts


def test_without_reads_and_writes_at_a_place(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no pread and pwrite, files are sought in instead, to the same end."""
    source = write(tmp_path / "in.jsonl", [f"text {i}" for i in range(200)])
    run(source, tmp_path / "one.npy")
    monkeypatch.delattr("os.pwrite")
    monkeypatch.delattr("os.preadv")
    run(source, tmp_path / "other.npy")
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "other.npy").read_bytes()
