"""The dispatcher in virtual time: rate, fairness, queries, outages, storms, foreign use of the quota."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulator import Caller, Service, Simulation
from opensearch_embed._dispatch.dispatcher import Outcome
from opensearch_embed._dispatch.lanes import Lane
from opensearch_embed._dispatch.rate import Rate
from opensearch_embed.emulator.quota import make_quota


def counting(qps: float, window: str, *closed: tuple[float, float], as_: Outcome = "unavailable") -> Service:
    """A service with a quota, that is closed at times."""
    quota = make_quota(qps, window)  # type: ignore[arg-type]

    def serve(at: float) -> Outcome:
        if any(begin <= at < end for begin, end in closed):
            return as_
        return "success" if quota.admit(at) else "throttled"

    return serve


WINDOWS = ["fixed", "sliding", "bucket"]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("latency", [0.005, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("qps", [5, 50, 500])
def test_the_rate_is_used_in_full_and_not_exceeded(window: str, latency: float, qps: int) -> None:
    """97% of the rate, and under 0.5% refused, at any latency, with requests that are late on their way."""
    count = 10 * qps
    job = Caller(count)
    simulation = Simulation(qps, counting(qps, window), latency=latency, jitter=0.004)
    simulation.run(job)
    refused = sum(one.outcome == "throttled" for one in simulation.departures)
    assert job.done == count
    assert refused <= 0.005 * count
    assert (count / qps + latency) / job.done_at >= 0.97


@pytest.mark.parametrize("qps", [1500, 4000])
def test_thousands_a_second_are_used_though_timers_are_late(qps: int) -> None:
    """A turn takes less time than a timer is late by: those that are due leave together."""
    job = Caller(3 * qps)
    simulation = Simulation(qps, counting(qps, "sliding"), jitter=0.004, late=0.001)
    simulation.run(job)
    assert all(one.outcome == "success" for one in simulation.departures)
    assert (3 + 0.1) / job.done_at >= 0.97


@pytest.mark.parametrize("window", WINDOWS)
def test_a_pause_does_not_make_a_burst(window: str) -> None:
    """Jobs that begin after pauses are not refused."""
    jobs = [Caller(40, begins=begins) for begins in (0.0, 1.3, 2.9, 7.0, 8.05)]
    simulation = Simulation(50, counting(50, window), jitter=0.004)
    simulation.run(*jobs)
    assert [one for one in simulation.departures if one.outcome != "success"] == []


def test_queries_go_first() -> None:
    """Beside a job that fills the quota, queries at a tenth of the rate wait an interval at most at the median."""
    job = Caller(1500)
    queries = [Caller(1, Lane.QUERY, begins=0.5 + 0.2037 * number) for number in range(100)]
    simulation = Simulation(50, counting(50, "sliding"), jitter=0.002)
    simulation.run(job, *queries)
    waits = sorted(query.waits[0] for query in queries)
    assert statistics.median(waits) <= 1 / 50
    assert waits[98] <= 3 / 50


def test_documents_keep_a_quarter_of_the_turns() -> None:
    """Under a flood of queries, too."""
    job = Caller(10_000)
    flood = [Caller(10_000, Lane.QUERY) for _ in range(5)]
    simulation = Simulation(50, counting(50, "sliding"))
    simulation.run(job, *flood, until=20)
    mine = sum(one.caller is job for one in simulation.departures)
    assert 0.24 <= mine / len(simulation.departures) <= 0.27


def test_jobs_share_the_turns() -> None:
    """A short job beside a long one takes twice as long as alone."""
    long, short = Caller(1000), Caller(20, begins=1.0)
    Simulation(50, counting(50, "sliding")).run(long, short)
    assert 0.7 <= short.done_at - 1.0 <= 1.0


def test_a_blocked_caller_stops_nobody() -> None:
    """One that is first in line and does not speak is passed over."""
    stuck, other = Caller(500, blocked=(1.0, 6.0)), Caller(500)
    simulation = Simulation(50, counting(50, "sliding"))
    simulation.run(stuck, other)
    meanwhile = sum(1.5 <= one.at < 5.5 for one in simulation.departures)
    assert meanwhile >= 0.97 * 4 * 50
    assert (stuck.done, other.done) == (500, 500)


@pytest.mark.parametrize("seconds", [6, 25])
def test_an_outage_costs_two_requests_a_second(seconds: float) -> None:
    """Some ten to notice it and what was under way; then two a second; and full speed soon after its end."""
    jobs = [Caller(1500), Caller(1500)]
    end = 3.0 + seconds
    simulation = Simulation(50, counting(50, "sliding", (3.0, end)))
    simulation.run(*jobs, until=end + 20)
    times = [one.at for one in simulation.departures]
    assert sum(3.0 <= at < 4.0 for at in times) <= 20
    assert all(sum(at <= later < at + 1 for later in times) <= 2 for at in times if 4.0 <= at < end - 1)
    assert sum(end + 1.5 <= at < end + 3.5 for at in times) >= 96


@pytest.mark.parametrize("window", WINDOWS)
def test_a_storm_of_refusals_ends_as_soon(window: str) -> None:
    """Nine seconds in which everything is refused for its rate: full speed three seconds after."""
    simulation = Simulation(50, counting(50, window, (3.0, 12.0), as_="throttled"))
    simulation.run(Caller(5000), until=30)
    times = [one.at for one in simulation.departures]
    assert sum(15.0 <= at < 17.0 for at in times) >= 95
    assert sum(6.0 <= at < 11.0 for at in times) <= 15


@pytest.mark.parametrize("latency", [0.1, 1.0, 3.0])
def test_late_answers_from_before_a_storm_do_not_lower_what_comes_after_it(latency: float) -> None:
    """Refusals come at once, and between them the answers to what was sent before: the old rate is restored whole."""
    rate, begun = Rate(50.0), 10.0
    sent = [number / 49.25 for number in range(600)]
    answers = sorted((at + (0.001 if at >= begun else latency), at) for at in sent)
    for at, sent_at in answers:
        if sent_at >= begun:
            rate.refused(at)
        else:
            rate.granted(sent_at, at)
    assert rate.current < 50.0
    rate.restore()
    assert rate.current == 50.0


def test_failures_by_chance_are_no_outage() -> None:
    """Half of all requests fail, at 500 a second: the job goes on at full speed."""
    simulation = Simulation(500, lambda _: "success")
    chance = simulation.chance
    simulation._service = lambda _: "unavailable" if chance.random() < 0.5 else "success"
    simulation.run(Caller(5000), until=8)
    assert sum(1 <= one.at < 7 for one in simulation.departures) >= 0.9 * 500 * 6


@pytest.mark.parametrize("window", WINDOWS)
def test_strangers_share_a_quota(window: str) -> None:
    """Two processes that do not know of each other use most of the quota, are seldom refused, and share it."""
    quota = counting(50, window)
    one, other = Simulation(50, quota, jitter=0.004), Simulation(50, quota, jitter=0.004)
    other.chance.seed(11)
    one.run(Caller(10_000), until=-1)
    other.run(Caller(10_000), until=-1)
    while True:  # in step, event by event
        first = min((one, other), key=lambda simulation: simulation._events[0][0])
        if first._events[0][0] > 60:
            break
        first.run(until=first._events[0][0])
    late = [[d for d in s.departures if d.at > 20] for s in (one, other)]
    through = [sum(d.outcome == "success" for d in ds) for ds in late]
    refused = sum(map(len, late)) - sum(through)
    assert sum(through) >= 0.93 * 50 * 40
    assert refused <= 0.06 * sum(map(len, late))
    assert max(through) <= 1.8 * min(through)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("real", [5, 20])
def test_a_quota_that_is_lower_than_believed(window: str, real: float) -> None:
    """Most of what there is is used, and few are refused."""
    simulation = Simulation(50, counting(real, window), jitter=0.002)
    simulation.run(Caller(10_000), until=60)
    late = [one for one in simulation.departures if one.at > 15]
    through = sum(one.outcome == "success" for one in late)
    assert through >= 0.85 * real * 45
    assert len(late) - through <= 0.12 * len(late)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.sampled_from([Lane.QUERY, Lane.DOCUMENT]), st.floats(0, 5)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([5.0, 20.0, 50.0]),
    st.floats(0, 0.05),
)
def test_every_batch_is_sent_and_the_rate_is_kept(jobs: list[tuple[int, Lane, float]], qps: float, late: float) -> None:
    """Whatever the jobs, each of their batches ends once, and no second has more departures than the rate."""
    callers = [Caller(count, lane, begins) for count, lane, begins in jobs]
    simulation = Simulation(qps, lambda _: "success", late=late)
    simulation.run(*callers)
    assert [caller.done for caller in callers] == [count for count, _, _ in jobs]
    times = sorted(one.at for one in simulation.departures)
    most = int(qps)
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[most:], strict=False))
