"""What has left: no stretch of a second has more requests than the rate, however late the turns are taken."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opensearch_embed._departures import MARGIN, STALL, Departures


def leave(departures: Departures, turn: int, now: int) -> int:
    """Leave as soon as it is allowed, and return when that is."""
    while wait := departures.leave(turn, now):
        now = turn = now + wait
    return now


@given(
    qps=st.floats(0.2, 200),
    gaps=st.lists(st.integers(0, 40), min_size=1, max_size=300),
)
def test_a_window_never_has_more_than_the_rate(qps: float, gaps: list[int]) -> None:
    """Whenever requests want to leave, those that leave within a window are no more than a second's worth."""
    departures = Departures(qps)
    left = list(
        itertools.accumulate(gaps, lambda before, gap: leave(departures, before + gap, before + gap), initial=0)
    )
    requests = max(1, int(qps))
    window = requests * 1000 / qps + MARGIN
    for first, beyond in zip(left[1:], left[1 + requests :], strict=False):
        assert beyond - first >= window


@pytest.mark.parametrize("qps", [0.5, 2.5, 50.0, 1000.0])
def test_even_turns_leave_at_once(qps: float) -> None:
    """Turns at the rate that is sent are not held up."""
    departures = Departures(qps)
    turns = [math.ceil(number * 1000 / qps * 1.03) for number in range(2 * math.ceil(qps) + 5)]
    assert [departures.leave(turn, turn) for turn in turns] == [0] * len(turns)


@pytest.mark.parametrize("late", [STALL, STALL + 1], ids=["on time", "late"])
def test_what_left_just_before_a_stall_counts_as_leaving_after_it(late: int) -> None:
    """A request may be logged, and then kept from the wire by the same stall that makes the next one late."""
    departures = Departures(2.0)
    assert departures.leave(0, 0) == departures.leave(500, 500 + late) == 0
    assert departures.leave(1000 + MARGIN + 1, 1000 + MARGIN + 1) == (0 if late <= STALL else late + 500)


def test_only_what_left_just_before_a_stall_is_counted_anew() -> None:
    """One and a half intervals back; what left before that had reached the wire."""
    departures = Departures(2.0)
    assert [departures.leave(turn, turn) for turn in (0, 1100)] == [0, 0]
    assert departures.leave(2100, 2100 + STALL + 1) == 0
    assert departures.leave(1100 + 1000 + 2 * MARGIN, 1100 + 1000 + 2 * MARGIN) == 0
