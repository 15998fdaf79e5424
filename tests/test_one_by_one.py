"""Large answers are understood by one thread after another, and nobody waits for long for one that does not end."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from opensearch_embed._call import one_by_one as module
from opensearch_embed._call.one_by_one import LARGE_REPLY_BYTES, OneByOne


def test_large_answers_are_understood_one_by_one() -> None:
    """Eight threads, and never two within."""
    one_by_one, inside, most = OneByOne(), set[int](), []

    def understand(number: int) -> int:
        inside.add(number)
        most.append(len(inside))
        threading.Event().wait(0.001)  # for others to come, if they could
        inside.discard(number)
        return number

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: one_by_one.run(LARGE_REPLY_BYTES, understand, number), range(64)))

    assert results == list(range(64))
    assert max(most) == 1


def test_a_small_answer_waits_for_nobody() -> None:
    """Not even for its own thread."""
    one_by_one = OneByOne()
    assert one_by_one.run(LARGE_REPLY_BYTES, one_by_one.run, LARGE_REPLY_BYTES - 1, str, 1) == "1"


def test_an_error_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised, the next does not wait."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
    one_by_one = OneByOne()
    with pytest.raises(ValueError, match="broken"):
        one_by_one.run(LARGE_REPLY_BYTES, int, "broken")
    assert one_by_one.run(LARGE_REPLY_BYTES, int, "1") == 1


def test_who_waits_for_its_own_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a finaliser does that embeds, and that runs while an answer is understood."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    one_by_one = OneByOne()

    def embed_in_a_finaliser() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(one_by_one.run, LARGE_REPLY_BYTES, int, "1").result(60)

    assert one_by_one.run(LARGE_REPLY_BYTES, embed_in_a_finaliser) == 1


def test_one_that_is_gone_holds_up_one_answer_and_not_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a fork, or Ctrl-C between two lines."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    one_by_one = OneByOne()
    gone = threading.Event()
    holder = threading.Thread(target=one_by_one.run, args=(LARGE_REPLY_BYTES, gone.wait), daemon=True)
    holder.start()
    try:
        assert one_by_one.run(LARGE_REPLY_BYTES, int, "1") == 1
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
        assert one_by_one.run(LARGE_REPLY_BYTES, int, "2") == 2
    finally:
        gone.set()
        holder.join()
