"""The knobs of a client: defaults, and odd values answered."""

import dataclasses
import math
from typing import Any

import pytest
from pyrate_limiter import InMemoryBucket, Limiter, Rate

from opensearch_embed.errors import ConfigurationError
from opensearch_embed.options import Options

NO_NUMBER_ABOVE_ZERO: list[Any] = [0, -1, -0.5, math.nan, math.inf, -math.inf, True, "50", [50], object]
NO_WHOLE_NUMBER: list[Any] = [0, -1, 1.0, 2.5, math.nan, math.inf, True, "8", [8]]

# Argument, values that make no sense, what the message says besides the argument's name.
REFUSED = [
    ("qps", NO_NUMBER_ABOVE_ZERO, "qps=None means no limit"),
    ("timeout", [*NO_NUMBER_ABOVE_ZERO, None], "seconds for one request"),
    ("retry_timeout", [*NO_NUMBER_ABOVE_ZERO[1:], None], "retry_timeout=0 means no retries"),
    ("max_concurrency", NO_WHOLE_NUMBER, "use max_concurrency=1 to send one request at a time"),
    ("batch_size", [*NO_WHOLE_NUMBER, None], "texts in one request"),
    ("batch_size", [33, 1000], "the service takes no more"),
    ("compression", ["", None, 1, "gzip"], "must be True or False"),
    ("max_attempts", [*NO_WHOLE_NUMBER, None], "use max_attempts=1 to send once"),
    ("empty", ["", "zeros", "raise", None, 0, True, []], "'error' or 'zero'"),
    ("on_error", ["", "error", None, True, []], "'raise'"),
    ("overflow", ["", "raise", None, True, []], "'truncate'"),
]

TAKEN = [
    ("qps", [None, 0.1, 1, 50, 50.0, 10_000]),
    ("timeout", [0.001, 1, 3600]),
    ("retry_timeout", [0, 0.0, 0.5, 86_400]),
    ("max_concurrency", [None, 1, 32, 1000]),
    ("batch_size", [1, 10, 32]),
    ("compression", [False, True]),
    ("max_attempts", [1, 10, 1000]),
    ("empty", ["error", "zero"]),
    ("on_error", ["raise", "isolate", "skip"]),
    ("overflow", ["send", "error", "truncate", "average"]),
    ("length_function", [None, len]),
    ("cache", [None, "vectors.db"]),
]


def test_the_defaults_are_the_contracts() -> None:
    """Fifty requests a second, as many at once as that needs, 30 seconds for one, 60 for a batch, ten attempts."""
    assert dataclasses.asdict(Options()) == {
        "qps": 50.0,
        "limiter": None,
        "max_concurrency": None,
        "batch_size": 32,
        "timeout": 30.0,
        "retry_timeout": 60.0,
        "max_attempts": 10,
        "empty": "error",
        "on_error": "raise",
        "overflow": "send",
        "length_function": None,
        "cache": None,
        "compression": False,
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [(name, value, words) for name, values, words in REFUSED for value in values],
)
def test_a_value_without_sense_is_refused(name: str, value: object, words: str) -> None:
    """The error names the argument, shows the value, and says what it means or how to mend it."""
    with pytest.raises(ConfigurationError) as caught:
        Options(**{name: value})  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{name} must be ")
    assert f"not {value!r}" in message
    assert words in message


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TAKEN for value in values])
def test_a_value_with_sense_is_kept(name: str, value: object) -> None:
    """What is given is what counts: nothing is rounded or capped in silence."""
    assert getattr(Options(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limiter", [50, "redis://", object(), {"try_acquire": None}, type("L", (), {"try_acquire": 1})()]
)
def test_a_limiter_that_is_none_is_refused(limiter: object) -> None:
    """The error names the type that was given, the type that is meant, and the simpler argument."""
    with pytest.raises(ConfigurationError) as caught:
        Options(limiter=limiter)
    for words in ("pyrate_limiter.Limiter", type(limiter).__name__, "qps"):
        assert words in str(caught.value)


# Argument, a value that makes no sense, what the message says.
STRANGE = [
    ("length_function", 5, "takes a text and returns its tokens"),
    ("length_function", "len", "takes a text and returns its tokens"),
    ("cache", 5, "path of a file, or an object with get_many and put_many, not int"),
    ("cache", "", "path of a file"),
    ("cache", {}, "not dict"),
]


@pytest.mark.parametrize(("name", "value", "words"), STRANGE)
def test_an_object_of_the_wrong_kind_is_refused(name: str, value: object, words: str) -> None:
    """The error names the argument and what it has to be."""
    with pytest.raises(ConfigurationError) as caught:
        Options(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{name} must be ")
    assert words in str(caught.value)


def test_a_limiter_is_kept_and_not_shown() -> None:
    """A limiter may hold a connection with a password: it is in no repr."""
    limiter = Limiter(InMemoryBucket([Rate(5, 1000)]))
    options = Options(limiter=limiter)
    assert options.limiter is limiter
    assert "imiter" not in repr(options)


def test_options_cannot_be_changed() -> None:
    """Options were checked once, so they are frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().qps = 3  # type: ignore[misc]


def test_as_many_are_under_way_as_the_rate_needs() -> None:
    """At most 256 with a rate, 32 without one, and else what is said."""
    assert Options().most_under_way == Options(qps=0.1).most_under_way == 256
    assert Options(qps=None).most_under_way == 32
    assert Options(qps=None, max_concurrency=7).most_under_way == Options(max_concurrency=7).most_under_way == 7
