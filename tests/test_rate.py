"""The rate that adapts: it falls to what gets through, stays where it was by chance, and finds its way back."""

import itertools

import pytest

from opensearch_embed._rate import FIRST_STEP, LAST_STEP, LOWEST_SHARE, AdaptiveRate


def second(rate: AdaptiveRate, start: float, granted: int, refused: int) -> bool:
    """Let the rate see a second's answers, evenly spread; tell whether it changed."""
    answers = [False] * granted + [True] * refused
    changes = [rate.saw(throttled, start + i / (len(answers) - 1)) for i, throttled in enumerate(answers)]
    return any(changes)


def test_it_falls_to_the_share_that_got_through() -> None:
    """Half refused halves the rate."""
    rate = AdaptiveRate(50)
    assert second(rate, 100.0, 25, 25)
    assert rate.rate == 25


def test_turns_booked_before_the_fall_do_not_lower_it_twice() -> None:
    """What got through counts, not the share of it, while requests still leave at the old rate."""
    rate = AdaptiveRate(50)
    second(rate, 0.0, 25, 25)
    assert not second(rate, 2.0, 25, 10)
    assert rate.rate == 25


def test_where_little_is_asked_for_the_share_counts() -> None:
    """Four of five requests in ten seconds got through: that is no reason to go down to less than one a second."""
    rate = AdaptiveRate(50)
    assert [rate.saw(number % 5 == 0, number * 1.0) for number in range(10)] == [False] * 9 + [True]
    assert rate.rate == 40


def test_it_tells_when_others_use_the_quota() -> None:
    """A second refusal within the second says so, and a lowered rate until it is back."""
    rate = AdaptiveRate(50)
    for throttled, contended in [(True, False), (False, False), (True, True)]:
        rate.saw(throttled, 0.0)
        assert rate.contended is contended
    second(rate, 0.5, 25, 25)
    assert rate.rate < 50
    assert rate.contended


def test_chance_changes_nothing() -> None:
    """One refusal in fifty leaves the rate where it is."""
    rate = AdaptiveRate(50)
    assert not second(rate, 0.0, 49, 1)
    assert rate.rate == 50


def test_it_climbs_back_by_steps_that_double() -> None:
    """Each clean second raises it by a larger step, up to the configured rate and no further."""
    rate = AdaptiveRate(50)
    second(rate, 0.0, 25, 25)
    seen = [rate.rate]
    for number in range(1, 20):
        second(rate, number * 2.0, 50, 0)
        seen.append(rate.rate)
    growth = [(later - earlier) / 50 for earlier, later in itertools.pairwise(seen)]
    assert growth[:4] == pytest.approx([FIRST_STEP, 0.04, LAST_STEP, LAST_STEP])
    assert max(growth) == pytest.approx(LAST_STEP)
    assert seen[-1] == 50


def test_a_refusal_makes_the_steps_small_again() -> None:
    """After a second with refusals, the next clean one raises the rate by the first step."""
    rate = AdaptiveRate(50)
    for number, (granted, refused) in enumerate([(25, 25), (50, 0), (50, 0), (25, 25)]):
        second(rate, number * 2.0, granted, refused)
    before = rate.rate
    second(rate, 20.0, 50, 0)
    assert rate.rate == pytest.approx(before + 50 * FIRST_STEP)


def test_it_never_stops_asking() -> None:
    """With everything refused it keeps a fiftieth of the rate, to learn when the service lets through again."""
    rate = AdaptiveRate(50)
    second(rate, 0.0, 0, 50)
    assert rate.rate == 50 * LOWEST_SHARE


@pytest.mark.parametrize("span", [0.5, 10.0])
def test_few_answers_say_nothing(span: float) -> None:
    """Less than a second, or fewer than ten answers, is no reason to change."""
    rate = AdaptiveRate(50)
    count = 9 if span > 1 else 50
    assert not any(rate.saw(True, i * span / count) for i in range(count))
    assert rate.rate == 50
