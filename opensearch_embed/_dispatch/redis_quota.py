"""The keeper of a quota that processes and machines share: one script in Redis, by Redis's own clock.

No library of limiters hands out turns by Redis's clock: they say yes or no, so that who waits must ask again and again,
all at once. Here a process asks once, is told when its turn is, and sleeps until then.
"""

import math
from time import monotonic
from typing import Any
from uuid import uuid4

from opensearch_embed._dispatch.rate import SHARE_OF_RATE
from opensearch_embed._dispatch.reservations import Answer, Question
from opensearch_embed._loading import load
from opensearch_embed._redis_url import RedisUrl
from opensearch_embed.errors import ConfigurationError

CREDIT_SECONDS = 0.01
"""What a late question loses, up to so much, is made up for. Half a turn at least."""

ON_ITS_WAY_SECONDS = 0.005
"""How long an answer takes from Redis to here, at most as far as turns are concerned."""

RESERVE = """
local function exact(number)
    return string.format('%.17g', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local me, interval, credit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local turns, express, within = tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])

-- Which processes there are: those that asked within the last seconds, or turns.
redis.call('ZADD', KEYS[2], now, me)
local stays = math.max(5000000, 3 * interval * redis.call('ZCARD', KEYS[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - stays)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. exact(now), '+inf')
local processes = redis.call('ZCARD', KEYS[2])

-- A clock that was set back, or answers that nobody took, hold nobody up for longer than the turns that there can be.
local kept = redis.call('HMGET', KEYS[1], 'next', 'express')
local next = math.max(tonumber(kept[1] or 0), now - credit)
next = math.min(next, now + (2 * processes + 2) * turns * interval)

local at, express_at, cost = next, tonumber(kept[2] or 0), turns
if express and next > now + interval then
    local ahead = math.min(math.max(express_at, now), now + 2 * interval)
    if ahead < next then
        -- The second that it joins has one too many, so those that follow have one less.
        cost = 1 + math.min(1, math.max(0, now - express_at) / 1000000)
        at, express_at = ahead, ahead + 2 * interval
    end
end
if at - now >= within then
    return {'', processes}
end
redis.call('HSET', KEYS[1], 'next', exact(next + cost * interval), 'express', exact(express_at))
local lasts = math.ceil(math.max(0, next - now) / 1000 + stays / 1000 + cost * interval / 1000) + 60000
redis.call('PEXPIRE', KEYS[1], lasts)
redis.call('PEXPIRE', KEYS[2], lasts)
return {exact(at - now), processes}
"""
"""Reserves turns; returns how many microseconds from now the first is ('' if it is not soon enough), and how many
processes share the quota. KEYS: the turns, the processes. ARGV: who asks, microseconds between two turns, those that
may be made up for, how many turns, whether for a query, and in how many microseconds at most."""


class RedisQuota:
    """Asks one Redis for turns of one quota. Safe to use from any thread; belongs to one process.

    Args:
        url: Where it is.
        endpoint: Whose quota it is, together with the model and the rate.
        model: The model's service id.
        qps: Requests a second, of all processes together.
    """

    def __init__(self, url: RedisUrl, endpoint: str, model: str, qps: float) -> None:
        self.url = url
        name = f"opensearch-embed:{{{endpoint} {model} {qps:g}}}"
        self._keys = [f"{name}:turns", f"{name}:processes"]
        self._interval = 1 / (SHARE_OF_RATE * qps)
        self._credit = max(CREDIT_SECONDS, self._interval / 2)
        self._me = uuid4().hex
        # Made when it is first asked: a client that is unpickled must not fail.
        self._client: Any = None
        self._reserve: Any = None

    def ask(self, question: Question) -> Answer:
        """Ask for turns. Blocks until there is an answer, for some seconds at most.

        Raises:
            ConfigurationError: There is none; it says why.
        """
        begun = monotonic()
        try:
            reserve, client = self._connected()
            if not question.turns:
                client.time()
                return Answer(seconds=monotonic() - begun)
            first, processes = reserve(keys=self._keys, args=self._arguments(question))
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, jobs go on without
            raise self._explained(error) from error.with_traceback(None)
        ended = monotonic()
        if not first:
            return Answer((), processes, ended - begun)
        # Its clock was read some time between; to be late by a little is better than to be early.
        at = ended - min((ended - begun) / 2, ON_ITS_WAY_SECONDS) + float(first) / 1e6
        return Answer(tuple(at + i * self._interval for i in range(question.turns)), processes, ended - begun)

    def _connected(self) -> tuple[Any, Any]:
        if self._client is None:
            client = self.url.client()
            self._reserve, self._client = client.register_script(RESERVE), client
        return self._reserve, self._client

    def close(self) -> None:
        """Close what is idle. It is opened again when it is needed."""
        if self._client is not None:
            self._client.connection_pool.disconnect(inuse_connections=False)

    def _arguments(self, question: Question) -> list[Any]:
        within = 1e18 if math.isinf(question.within) else question.within * 1e6
        return [
            self._me,
            self._interval * 1e6,
            self._credit * 1e6,
            question.turns,
            int(question.express),
            within,
        ]

    def _explained(self, error: Exception) -> ConfigurationError:
        said = f"{type(error).__name__}: {error}"
        for secret in self.url.secrets:
            said = said.replace(secret, "***")
        known = load("redis.exceptions")
        place = self.url.place
        refused = isinstance(error, (known.AuthenticationError, known.NoPermissionError))
        if refused or "unauthenticated" in said:
            return ConfigurationError(
                f"limiter: Redis at {place} refuses the user or the password of the URL, or what it may do ({said})."
            )
        if isinstance(error, (known.ConnectionError, known.TimeoutError, OSError)):
            return ConfigurationError(f"limiter: Redis at {place} cannot be reached ({said}). Is it running there?")
        return ConfigurationError(f"limiter: Redis at {place} cannot keep the quota ({said}).")
