"""One call: its vectors so far, what is done, what is pending, and when it is over. No request is sent here."""

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from opensearch_embed._call.job import Job
from opensearch_embed._call.results import Array, Lists, ListsOrErrors
from opensearch_embed._texts.batches import Batch, plan
from opensearch_embed._texts.repeats import Composition, compose
from opensearch_embed.errors import ApiError, InvalidRequest, RateLimited

DIMENSION = 2


class WorkedOff(Job):
    """A job each of whose batches is ended by whoever puts or fails it."""

    def put(self, batch: Batch, vectors: Any, problem: BaseException | None = None) -> None:
        """Keep vectors, and end."""
        super().put(batch, vectors, problem)
        self.end(batch)

    def fail(self, error: BaseException, batch: Batch | None = None) -> None:
        """Note a failure, and end."""
        super().fail(error, batch)
        if batch is not None:
            self.end(batch)


def vectors_of(batch: Batch) -> list[list[float]]:
    """The right vectors for a batch: each text's index, twice."""
    return [[float(index)] * DIMENSION for index in batch.indices]


def make_job(texts: Sequence[str], kind: Any = Lists, on_progress: Any = None) -> Job:
    """A job for texts; the empty ones are blank."""
    sizes = [len(text) for text in texts]
    return WorkedOff(
        len(texts),
        plan(texts, sizes),
        [index for index, size in enumerate(sizes) if not size],
        input_type="document",
        store=kind(len(texts), DIMENSION),
        on_progress=on_progress,
    )


def finish(job: Job) -> None:
    """Do everything that is left of a job, the last batch first."""
    taken: list[Batch] = []
    while (batch := job.take()) is not None:
        taken.append(batch)
    for batch in reversed(taken):
        job.put(batch, job.store.read(vectors_of(batch)))


TEXTS = ["", *["text"] * 40, "", "text"]
EXPECTED = [[float(index) if text else 0.0] * DIMENSION for index, text in enumerate(TEXTS)]


def test_lists_come_in_order() -> None:
    """Batches that end out of order, and blank texts, give lists of float in the order of the texts."""
    job = make_job(TEXTS)
    finish(job)
    result = job.outcome()
    assert result == EXPECTED
    assert result[0] is not result[41]


def test_rows_come_in_order() -> None:
    """The same as one array of float32."""
    job = make_job(TEXTS, Array)
    finish(job)
    result = job.outcome()
    assert (result.dtype, result.shape) == (np.float32, (len(TEXTS), DIMENSION))
    assert result.tolist() == EXPECTED


@pytest.mark.parametrize(("kind", "shape"), [(Lists, (0,)), (Array, (0, DIMENSION))])
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_a_job_of_nothing_is_over_at_once(texts: list[str], kind: Any, shape: tuple[int, ...]) -> None:
    """Where nothing is to be sent, the result is there, and nothing can be taken."""
    job = make_job(texts, kind)
    assert job.settled
    assert job.take() is None
    assert np.shape(job.outcome()) == ((2, DIMENSION) if texts else shape)
    assert not np.any(job.outcome())


def test_a_job_is_over_when_its_last_batch_is_done() -> None:
    """Not when the last is taken, and not while another is under way."""
    job = make_job(["text"] * 64)
    assert len(job) == 2
    one, other = job.take(), job.take()
    assert one is not None
    assert other is not None
    assert (len(job), job.take()) == (0, None)
    job.put(other, vectors_of(other))
    assert not job.settled
    job.put(one, vectors_of(one))
    assert job.settled


def test_an_error_stops_the_job() -> None:
    """After the first error nothing more is taken; what is under way is awaited, and its vectors are kept."""
    job = make_job(["text"] * 100)
    one, other = job.take(), job.take()
    assert one is not None
    assert other is not None
    job.fail(RateLimited("no"), one)
    assert job.halted
    assert job.take() is None
    assert not job.settled
    job.put(other, vectors_of(other))
    assert job.settled
    with pytest.raises(RateLimited) as caught:
        job.outcome()
    assert caught.value.completed == {index: [float(index)] * DIMENSION for index in range(32, 64)}
    assert caught.value.pending == [*range(32), *range(64, 100)]
    assert caught.value.__notes__ == [
        "32 of 100 texts have their vector: see .completed and .pending of this error.",
    ]


def test_the_first_error_counts() -> None:
    """Errors after the first, and batches that were stopped by it, do not take its place."""
    job = make_job(["text"] * 128)
    batches = [job.take() for _ in range(4)]
    first = RateLimited("first")
    for error, batch in zip((first, InvalidRequest("second"), ValueError(), RateLimited()), batches, strict=True):
        job.fail(error, batch)
    assert job.settled
    with pytest.raises(RateLimited) as caught:
        job.outcome()
    assert caught.value is first
    assert caught.value.pending == list(range(128))


def test_blank_texts_are_complete() -> None:
    """A text that gets a zero vector is done from the start."""
    job = make_job(["text", ""])
    job.take()
    job.fail(InvalidRequest("no"))
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    assert caught.value.completed == {1: [0.0, 0.0]}
    assert caught.value.pending == [0]
    assert caught.value.__notes__[0].startswith("1 of 2 texts")


def test_one_text_needs_no_note() -> None:
    """For a single text, how far the call came is no news."""
    job = make_job(["text"])
    job.take()
    job.fail(InvalidRequest("no"))
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    assert not hasattr(caught.value, "__notes__")
    assert (caught.value.completed, caught.value.pending) == ({}, [0])


def test_rows_of_an_error_can_be_pickled() -> None:
    """What was completed travels with the error, as rows, too."""
    job = make_job(["text"] * 33, Array)
    batch = job.take()
    assert batch is not None
    job.put(batch, job.store.read(vectors_of(batch)))
    job.take()
    job.fail(InvalidRequest("no"))
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    twin = pickle.loads(pickle.dumps(caught.value))
    assert {index: row.tolist() for index, row in twin.completed.items()} == {i: [float(i)] * 2 for i in range(32)}
    assert twin.pending == [32]


def test_a_foreign_error_is_explained_too() -> None:
    """An interrupt carries what was done, like any error."""
    job = make_job(["text", "text"])
    interrupt = KeyboardInterrupt()
    assert job.explain(interrupt) is interrupt
    assert interrupt.pending == [0, 1]  # type: ignore[attr-defined]


def test_progress_counts_texts() -> None:
    """Progress is told for each batch and for the blank texts, and adds up to all of them."""
    steps: list[int] = []
    job = make_job(TEXTS, on_progress=steps.append)
    assert steps == [2]
    finish(job)
    assert steps == [2, 9, 32]


def test_no_progress_is_told_for_nothing() -> None:
    """Where no text is blank, no progress is told before the first batch."""
    steps: list[int] = []
    make_job(["text"], on_progress=steps.append)
    assert steps == []


def test_threads_share_a_job() -> None:
    """Many threads that take and put lose no batch and no vector."""
    texts = ["text"] * 3200
    job = make_job(texts)

    def work() -> None:
        while (batch := job.take()) is not None:
            job.put(batch, vectors_of(batch))

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result()
    assert job.settled
    assert job.outcome() == [[float(index)] * DIMENSION for index in range(3200)]


@pytest.mark.parametrize("kind", [Lists, Array])
def test_a_store_never_mixes_up_a_short_batch(kind: Any) -> None:
    """Vectors that are fewer than their texts are refused, and not spread over them."""
    with pytest.raises(ValueError, match=r"shorter|broadcast|shape"):
        kind(4, DIMENSION).put([0, 1, 2], kind.read([[1.0, 2.0], [3.0, 4.0]]))


# --- texts that the service refuses ---


def composed(composition: Composition, kind: Any = Lists, **settings: Any) -> Job:
    """A job for what was composed."""
    return WorkedOff(
        composition.count,
        plan(composition.items, composition.sizes),
        [],
        input_type="document",
        store=kind(composition.count, DIMENSION),
        composition=composition,
        **settings,
    )


def isolating(texts: Sequence[str], kind: Any = Lists, on_error: Any = "isolate", **settings: Any) -> Job:
    """A job that looks for the texts that are refused."""
    return composed(compose(texts, [len(text) for text in texts]), kind, on_error=on_error, **settings)


def serve(job: Job, bad: str = "bad", status: int = 400) -> list[list[str]]:
    """Answer a job's batches as a service that refuses one text; return the batches."""
    batches: list[list[str]] = []
    while (batch := job.take()) is not None:
        batches.append(list(batch.texts))
        if bad in batch.texts:
            job.fail(InvalidRequest("no", status=status, code="InvalidParameter", message="no", request_id="r"), batch)
        else:
            job.put(batch, job.store.read(vectors_of(batch)))
    assert job.settled
    return batches


MIXED = ["a", "b", "bad", "c", "d"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_text_is_found_by_halves(status: int) -> None:
    """A refused batch is sent in halves until the text is alone; the others get their vectors, and it is named."""
    steps: list[int] = []
    job = isolating(MIXED, on_progress=steps.append)
    assert serve(job, status=status) == [MIXED, ["a", "b"], ["bad", "c", "d"], ["bad"], ["c", "d"]]
    assert sum(steps) == 5
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    error = caught.value
    assert error.indices == error.pending == [2]
    assert sorted(error.completed) == [0, 1, 3, 4]
    assert (error.status, error.code, error.message, error.request_id) == (status, "InvalidParameter", "no", "r")
    assert "refuses 1 of 5 texts: texts[2]" in str(error)
    assert error.__cause__ is job.refused[2]


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no", status=404),
        InvalidRequest("no", status=400, code="ServiceIdNotExist"),
        RateLimited("no", status=429),
        ValueError("no"),
    ],
    ids=repr,
)
def test_an_error_that_is_not_about_a_text_is_not_isolated(error: Exception) -> None:
    """Sending halves would not help, so the job stops."""
    job = isolating(MIXED)
    job.fail(error, job.take())
    assert job.settled
    with pytest.raises(type(error)) as caught:
        job.outcome()
    assert caught.value is error
    assert caught.value.pending == [0, 1, 2, 3, 4]  # type: ignore[attr-defined]


def test_without_isolation_the_batch_is_named() -> None:
    """A refused request says which texts it held, and the job stops."""
    job = isolating(MIXED, on_error="raise")
    assert len(serve(job)) == 1
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    assert caught.value.indices == [0, 1, 2, 3, 4]
    assert str(caught.value) == "no The request held texts[0] to texts[4]."


def test_skipping_marks_rows_and_items() -> None:
    """With on_error="skip" a refused text is a row of NaN in an array, and its error where texts are iterated."""
    rows, items, lists = (isolating(MIXED, kind, "skip") for kind in (Array, ListsOrErrors, Lists))
    for job in (rows, items, lists):
        serve(job)
    assert np.isnan(rows.outcome()).all(axis=1).tolist() == [False, False, True, False, False]
    assert [isinstance(item, ApiError) for item in items.outcome()] == [False, False, True, False, False]
    with pytest.raises(InvalidRequest):
        lists.outcome()


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        ([3], "texts[3]"),
        ([1, 2], "texts[1], texts[2]"),
        ([1, 2, 3], "texts[1] to texts[3]"),
        ([0, 2, 4], "texts[0], texts[2], texts[4]"),
        (list(range(0, 24, 2)), "texts[18] and 2 more"),
    ],
)
def test_refused_texts_are_named_in_few_words(bad: list[int], shown: str) -> None:
    """One by one, as a range, or the first ten."""
    job = isolating([f"{index} {'bad' if index in bad else 'good'}" for index in range(30)])
    while (batch := job.take()) is not None:
        if any(text.endswith("bad") for text in batch.texts):
            job.fail(InvalidRequest("no", status=400), batch)
        else:
            job.put(batch, vectors_of(batch))
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    assert caught.value.indices == bad
    assert f"{shown}. The first" in str(caught.value)


# --- repeated texts, and texts in pieces ---


@pytest.mark.parametrize("kind", [Lists, Array])
def test_repeated_texts_are_sent_once(kind: Any) -> None:
    """Each text gets the vector of its words, and a list of its own."""
    texts = ["a", "b", "a", "c", "b", "a"]
    job = isolating(texts, kind)
    assert serve(job) == [["a", "b", "c"]]
    result = job.outcome()
    assert [list(vector) for vector in result] == [[float(texts.index(text))] * 2 for text in texts]
    assert kind is Array or result[0] is not result[2]


def test_a_repeated_text_that_is_refused_is_named_wherever_it_is() -> None:
    """All places of a refused text are refused."""
    job = isolating(["bad", "a", "bad"])
    serve(job)
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    assert caught.value.indices == caught.value.pending == [0, 2]


def test_pieces_are_joined_when_the_last_has_come() -> None:
    """A text sent in pieces gets one vector, made of theirs in their order, whatever order they come in."""
    seen: list[Any] = []

    def combine(vectors: Sequence[Any], pieces: Sequence[str]) -> list[float]:
        seen.append((list(vectors), list(pieces)))
        return [9.0, 9.0]

    whole = compose(["x", "yyzz", "yyzz"], [1, 4, 4], lambda text, _: [text[:2], text[2:]] if len(text) > 1 else [text])
    job = composed(whole, combine=combine)
    batch = job.take()
    assert batch is not None
    assert list(batch.texts) == ["x", "yy", "zz"]
    halves = [Batch(batch.indices[i:], batch.texts[i:]) for i in (2, 1, 0)]
    job.recall({halves[0].indices[0]: [3.0, 3.0]})
    assert seen == []
    job.recall({halves[1].indices[0]: [2.0, 2.0]})
    assert seen == [([[2.0, 2.0], [3.0, 3.0]], ["yy", "zz"])]
    job.put(Batch(batch.indices[:1], ["x"]), [[1.0, 1.0]])
    job.end(batch)
    assert job.settled
    assert job.outcome() == [[1.0, 1.0], [9.0, 9.0], [9.0, 9.0]]


def test_indices_count_in_the_callers_input() -> None:
    """In a later chunk of a stream, errors count from where the chunk begins."""
    job = composed(compose(["a", "bad"], [1, 3], first=100), on_error="isolate")
    assert job.first == 100
    serve(job)
    with pytest.raises(InvalidRequest) as caught:
        job.outcome()
    assert caught.value.indices == caught.value.pending == [101]
    assert list(caught.value.completed) == [100]


def test_a_problem_stops_the_job_and_keeps_the_vectors() -> None:
    """Where vectors came, but something beside them failed, they are kept and the job stops."""
    job = make_job(["text"] * 64)
    batch = job.take()
    assert batch is not None
    problem = OSError("the disk is full")
    job.put(batch, vectors_of(batch), problem)
    assert job.take() is None
    with pytest.raises(OSError, match="disk is full") as caught:
        job.outcome()
    assert len(caught.value.completed) == len(caught.value.pending) == 32  # type: ignore[attr-defined]
