"""The rate that adapts: it falls to what gets through, stays where it was by chance, and finds its way back."""

import pytest

from opensearch_embed._rate import AdaptiveRate


def told(rate: AdaptiveRate, answers: int, refused: int, *, start: float, end: float) -> list[bool]:
    """Tell of so many answers, the last of them at `end`, the refused ones first; return what it said to each."""
    times = [start] * (answers - 1) + [end]
    return [rate.saw(throttled=number < refused, now=now) for number, now in enumerate(times)]


def test_a_rate_starts_where_it_was_set() -> None:
    """Nothing is known yet, so all that was asked for is let through."""
    rate = AdaptiveRate(100.0)
    assert (rate.rate, rate.most) == (100.0, 100.0)
    assert not told(rate, 10, 0, start=0.0, end=1.0)[-1]
    assert rate.rate == 100.0


def test_a_second_with_refusals_lowers_the_rate_to_what_got_through() -> None:
    """One refused of ten: nine tenths are left; nothing changes before the second is over."""
    rate = AdaptiveRate(100.0)
    assert told(rate, 10, 1, start=5.0, end=6.0) == [False] * 9 + [True]
    assert rate.rate == 90.0


def test_a_window_is_a_second_from_its_first_answer() -> None:
    """Wherever the clock started, and in the next window again."""
    rate = AdaptiveRate(100.0)
    assert not any(told(rate, 50, 25, start=5.0, end=5.99))
    assert rate.saw(throttled=False, now=6.0)
    assert rate.rate == 100.0 * 26 / 51
    assert not any(told(rate, 50, 25, start=6.5, end=7.49))
    assert rate.saw(throttled=False, now=7.5)


def test_a_window_starts_with_its_first_answer_alone() -> None:
    """Not with the second, which may come much later."""
    rate = AdaptiveRate(100.0)
    assert not rate.saw(throttled=True, now=5.0)
    assert told(rate, 9, 0, start=5.5, end=6.0)[-1]


def test_few_answers_are_waited_for() -> None:
    """Nine answers say too little, however long they took; the tenth decides."""
    rate = AdaptiveRate(100.0)
    assert not any(told(rate, 9, 9, start=0.0, end=100.0))
    assert rate.saw(throttled=False, now=100.0)
    assert rate.rate == 100.0 * 1 / 10


def test_a_few_refusals_change_nothing() -> None:
    """Three of a hundred come by chance, four do not; and what comes by chance ends no climb."""
    rate = AdaptiveRate(100.0)
    assert not any(told(rate, 100, 3, start=0.0, end=1.0))
    assert rate.rate == 100.0
    assert told(rate, 100, 4, start=2.0, end=3.0)[-1]
    assert rate.rate == 96.0
    told(rate, 100, 50, start=4.0, end=5.0)
    assert rate.rate == 50.0
    assert told(rate, 10, 0, start=6.0, end=7.0)[-1]
    assert not any(told(rate, 100, 3, start=8.0, end=9.0))
    assert told(rate, 10, 0, start=10.0, end=11.0)[-1]
    assert rate.rate == 50.0 + 2 + 4


def test_the_rate_climbs_by_steps_that_double() -> None:
    """2%, 4%, 8%, 8% of what was set; then no further."""
    rate = AdaptiveRate(100.0)
    told(rate, 100, 50, start=0.0, end=1.0)
    expected = 50.0
    for second, step in enumerate([0.02, 0.04, 0.08, 0.08], start=1):
        assert told(rate, 10, 0, start=2.0 * second, end=2.0 * second + 1)[-1]
        expected += 100.0 * step
        assert rate.rate == pytest.approx(expected)
    while told(rate, 10, 0, start=20.0, end=21.0)[-1]:
        pass
    assert rate.rate == 100.0


def test_a_refusal_makes_the_steps_small_again() -> None:
    """After a climb that went too far, the next one starts slowly."""
    rate = AdaptiveRate(100.0)
    told(rate, 100, 50, start=0.0, end=1.0)
    told(rate, 10, 0, start=2.0, end=3.0)
    told(rate, 10, 5, start=4.0, end=5.0)
    before = rate.rate
    told(rate, 10, 0, start=6.0, end=7.0)
    assert rate.rate == pytest.approx(before + 2)


def test_the_rate_is_never_nothing() -> None:
    """A fiftieth is left, or there would be no answer to learn from."""
    rate = AdaptiveRate(100.0)
    assert told(rate, 10, 10, start=0.0, end=1.0)[-1]
    assert rate.rate == 2.0
    assert not told(rate, 10, 10, start=2.0, end=3.0)[-1]


def test_turns_booked_before_the_fall_do_not_lower_it_twice() -> None:
    """What got through counts, not the share of it, while requests still leave at the old rate."""
    rate = AdaptiveRate(100.0)
    told(rate, 100, 50, start=0.0, end=1.0)
    assert not told(rate, 75, 25, start=2.0, end=3.0)[-1]
    assert rate.rate == 50.0
    assert told(rate, 75, 25, start=4.0, end=6.0)[-1]
    assert rate.rate == pytest.approx(50.0 * 2 / 3)


def test_where_little_is_asked_for_the_share_counts() -> None:
    """Four of five requests in ten seconds got through: that is no reason to go down to less than one a second."""
    rate = AdaptiveRate(50)
    assert [rate.saw(number % 5 == 0, number * 1.0) for number in range(10)] == [False] * 9 + [True]
    assert rate.rate == 40


def test_it_tells_when_others_use_the_quota() -> None:
    """A second refusal within the second says so, and a lowered rate until it is back."""
    rate = AdaptiveRate(100.0)
    for throttled, contended in [(True, False), (False, False), (True, True)]:
        rate.saw(throttled, 0.0)
        assert rate.contended is contended
    told(rate, 7, 0, start=0.5, end=1.0)
    assert rate.contended
    while rate.rate < 100.0:
        told(rate, 10, 0, start=2.0, end=3.0)
    assert not rate.contended
