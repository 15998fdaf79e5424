"""The error tree: its shape, what each error carries, and that all of it survives a worker pool."""

import copy
import inspect
import pickle

import pytest

from opensearch_embed import errors
from opensearch_embed.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    ConnectFailed,
    InputError,
    InvalidRequest,
    OpenSearchEmbedError,
    QuotaExhausted,
    RateLimited,
    ResponseError,
    ServiceUnavailable,
    TimedOut,
    TransportError,
)

# The contract's drawing, word for word.
TREE = """\
OpenSearchEmbedError                 .completed, .pending
  ConfigurationError (ValueError)    key, endpoint, model, option
  InputError (ValueError)            a text cannot be sent; .index
  TransportError                     no answer came back
    ConnectFailed, TimedOut
  ApiError                           the service said no; .status .code .message .request_id
    AuthenticationError              401, 403
    InvalidRequest                   400, 404, 413 and every other 4xx; but 408, 421, 425 and 499 are ServiceUnavailable
    RateLimited                      429; .retry_after
    QuotaExhausted                   429 that will not clear: the free quota
    ServiceUnavailable               5xx
  ResponseError                      the service said yes, but the answer cannot be used; .request_id
"""

# Class: its bases, and what an error made from its message alone carries.
FACTS = {
    "status": 0,
    "code": None,
    "message": "",
    "request_id": None,
    "retry_after": None,
    "indices": [],
    "is_page": False,
}
CLASSES: dict[type[OpenSearchEmbedError], tuple[tuple[type, ...], dict[str, object]]] = {
    OpenSearchEmbedError: ((Exception,), {}),
    ConfigurationError: ((OpenSearchEmbedError, ValueError), {}),
    InputError: ((OpenSearchEmbedError, ValueError), {"index": None}),
    TransportError: ((OpenSearchEmbedError,), {"permanent": False}),
    ConnectFailed: ((TransportError,), {"permanent": False}),
    TimedOut: ((TransportError,), {"permanent": False}),
    ApiError: ((OpenSearchEmbedError,), FACTS),
    AuthenticationError: ((ApiError,), FACTS),
    InvalidRequest: ((ApiError,), FACTS),
    RateLimited: ((ApiError,), FACTS),
    QuotaExhausted: ((ApiError,), FACTS),
    ServiceUnavailable: ((ApiError,), FACTS),
    ResponseError: ((OpenSearchEmbedError,), {"request_id": None}),
}

SAID = {"status": 429, "code": "Throttling", "message": "slow down", "request_id": "r-1", "retry_after": 1.5}

FULL: list[OpenSearchEmbedError] = [
    InputError("words", index=7),
    ResponseError("words", request_id="r-1"),
    *(kind("words", **SAID) for kind in CLASSES if issubclass(kind, ApiError)),
    *(kind("words") for kind in CLASSES if not issubclass(kind, (ApiError, InputError, ResponseError))),
]


def drawn(tree: str) -> dict[str, list[str]]:
    """Read a drawing: name of each class -> names of its bases."""
    bases: dict[str, list[str]] = {}
    above: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        for name in line.strip().split("   ")[0].split(", "):
            plain, _, extra = name.partition(" (")
            bases[plain] = [above[depth - 1] if depth else "Exception", *filter(None, [extra.rstrip(")")])]
            above[depth:] = [plain]
    return bases


def test_the_module_opens_with_the_contracts_drawing() -> None:
    """The docstring of errors.py holds the contract's tree, word for word."""
    assert TREE in (errors.__doc__ or "")


def test_the_classes_are_those_that_are_drawn() -> None:
    """Every class of errors.py is in the drawing with its bases, and the other way round."""
    classes = {
        name: [base.__name__ for base in kind.__bases__]
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    }
    assert classes == drawn(TREE)
    assert {kind.__name__ for kind in CLASSES} == set(classes)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_made_from_its_message_alone(kind: type[OpenSearchEmbedError]) -> None:
    """A message is enough to make any error; the attributes that its class promises are there."""
    bases, attributes = CLASSES[kind]
    error = kind("words")
    assert kind.__bases__ == bases
    assert str(error) == "words"
    assert vars(error) | {"permanent": False} == {"completed": {}, "pending": [], "permanent": False} | attributes
    assert str(kind()) == ""


@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_an_error_travels_whole(error: OpenSearchEmbedError, travel: object) -> None:
    """Pickle and copy keep the class, the message, every attribute and the notes."""
    error = copy.copy(error)
    error.completed, error.pending = {0: [0.5]}, [1, 2]
    if isinstance(error, ApiError):
        error.indices = [1]
    error.add_note("1 of 3")
    twin = travel(error)  # type: ignore[operator]
    assert type(twin) is type(error)
    assert twin.args == error.args == ("words",)
    assert vars(twin) == vars(error)
    assert twin.__notes__ == ["1 of 3"]


def test_a_permanent_transport_error_stays_permanent() -> None:
    """That trying again is pointless is said of one error, and travels with it."""
    error = ConnectFailed("words")
    error.permanent = True
    assert pickle.loads(pickle.dumps(error)).permanent
    assert not ConnectFailed("words").permanent


def test_errors_do_not_share_what_they_carry() -> None:
    """Each error has a `completed` and a `pending` of its own."""
    one, other = RateLimited(), RateLimited()
    one.completed[0] = [0.5]
    one.pending.append(1)
    assert (other.completed, other.pending) == ({}, [])
