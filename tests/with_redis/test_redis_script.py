"""The script that keeps a quota in Redis, promise by promise, asked as processes ask it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis_servers import RedisServer

from opensearch_embed._dispatch.redis_quota import RedisQuota
from opensearch_embed._dispatch.reservations import Answer, Question
from opensearch_embed._redis_url import RedisUrl

QPS = 0.2
INTERVAL = 1 / (0.985 * QPS)
"""Five seconds: what a loaded machine adds is small beside it, and no test waits for them."""

NEAR = pytest.approx


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One Redis for all tests here."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def join(server: RedisServer, request: pytest.FixtureRequest) -> Any:
    """Let a process join; each test has a quota of its own."""

    def joined(qps: float = QPS, model: str = "model") -> RedisQuota:
        quota = RedisQuota(RedisUrl(server.url), f"https://{request.node.name}.test", model, qps)
        request.addfinalizer(quota.close)
        return quota

    return joined


def wait(answer: Answer) -> float:
    """Return the seconds until the turn."""
    return answer.turns[0] - time.monotonic()


ONE = Question(1)
QUERY = Question(1, express=True)


def test_turns_are_an_interval_apart_whoever_asks(join: Any) -> None:
    """The first at once, but for what a late question may make up for; each next one an interval later."""
    a, b = join(), join()
    waits = [wait(quota.ask(ONE)) for quota in (a, b, b, a)]
    assert -0.7 * INTERVAL < waits[0] <= 0
    assert [later - waits[0] for later in waits] == NEAR([0, INTERVAL, 2 * INTERVAL, 3 * INTERVAL], abs=INTERVAL / 5)


def test_other_quotas_are_apart(join: Any) -> None:
    """A quota belongs to an endpoint, a model and a rate."""
    a = join()
    assert wait(a.ask(Question(4))) <= 0
    for other in (join(model="another"), join(qps=3.0)):
        assert wait(other.ask(ONE)) <= 0
    assert wait(join().ask(ONE)) > 2 * INTERVAL


def test_several_turns_at_a_time(join: Any) -> None:
    """A process far from its Redis asks for some turns at once; they are an interval apart."""
    quota = join()
    turns = quota.ask(Question(3)).turns
    assert [turn - turns[0] for turn in turns] == NEAR([0, INTERVAL, 2 * INTERVAL])
    assert wait(quota.ask(ONE)) == NEAR(turns[0] + 3 * INTERVAL - time.monotonic(), abs=INTERVAL / 5)


def test_processes_are_counted_while_they_ask(join: Any, server: RedisServer) -> None:
    """Each counts once; one that is gone is forgotten, and so is one from a clock that was set back."""
    quotas = [join() for _ in range(3)]
    assert [quota.ask(ONE).processes for quota in (*quotas, *quotas)] == [1, 2, 3, 3, 3, 3]
    key = quotas[0]._keys[1]
    with server.client() as client:
        now = client.time()[0] * 10**6
        client.zadd(key, {"gone": now - 600 * 10**6, "from the future": now + 600 * 10**6})
        assert quotas[0].ask(ONE).processes == 3


def test_a_query_goes_ahead_of_other_processes(join: Any) -> None:
    """It waits an interval at most, however many turns are reserved; a second one waits for two more."""
    documents = [join() for _ in range(6)]
    last = [wait(quota.ask(ONE)) for quota in documents][-1]
    assert last > 4 * INTERVAL
    asking = join()
    assert wait(asking.ask(QUERY)) <= INTERVAL
    assert INTERVAL < wait(asking.ask(QUERY)) <= 2 * INTERVAL
    # What follows is put off: by the queries, and by a turn more, so that no second has one too many.
    assert wait(documents[0].ask(ONE)) == NEAR(last + 4 * INTERVAL, abs=INTERVAL / 5)


def test_a_query_alone_takes_the_next_turn(join: Any) -> None:
    """With nobody to go ahead of, a query costs what a document costs."""
    quota = join()
    first = wait(quota.ask(QUERY))
    assert wait(quota.ask(QUERY)) == NEAR(first + INTERVAL, abs=INTERVAL / 5)


def test_a_turn_that_is_no_sooner_is_not_reserved(join: Any) -> None:
    """A process that holds a turn asks for a query whether there is a sooner one; if not, nothing is lost."""
    quotas = [join() for _ in range(6)]
    for question in (ONE, ONE, ONE, ONE, QUERY, QUERY):
        quotas.pop().ask(question)
    quota = join()
    before = quota.ask(ONE).turns[0]
    assert quota.ask(Question(1, express=True, within=INTERVAL / 2)).turns == ()
    assert quota.ask(ONE).turns[0] == NEAR(before + INTERVAL, abs=INTERVAL / 5)


def test_nobody_waits_for_turns_that_cannot_be(join: Any, server: RedisServer) -> None:
    """Turns far ahead, from a clock that was set back, are no turns of anybody's."""
    quota = join()
    quota.ask(ONE)
    with server.client() as client:
        client.hset(quota._keys[0], "next", 4 * 10**15)
    assert wait(quota.ask(ONE)) <= 4 * INTERVAL


def test_a_pause_leaves_no_burst(join: Any, server: RedisServer) -> None:
    """After a pause there is one turn at once, and no more."""
    quota = join()
    quota.ask(ONE)
    with server.client() as client:
        client.hset(quota._keys[0], "next", 1)
    first = quota.ask(ONE).turns[0]
    assert quota.ask(ONE).turns[0] == NEAR(first + INTERVAL, abs=INTERVAL / 5)


def test_what_is_kept_ends(join: Any, server: RedisServer) -> None:
    """Keys of a quota that nobody uses any more go away by themselves, in minutes."""
    quota = join()
    quota.ask(Question(3, express=True))
    with server.client() as client:
        assert all(0 < client.pttl(key) <= 180_000 for key in quota._keys)


@pytest.mark.parametrize("qps", [1e-6, 0.5, 1e6])
def test_any_rate_is_kept(join: Any, qps: float) -> None:
    """Once in days, or a million times a second."""
    quota = join(qps)
    first = quota.ask(ONE)
    following = quota.ask(ONE)
    if qps < 1:
        assert following.turns[0] - first.turns[0] == NEAR(1 / (0.985 * qps), rel=0.2)
    else:
        assert wait(following) <= 0
