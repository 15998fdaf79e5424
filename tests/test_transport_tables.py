"""Every error of an HTTP library is told as one of ours: the tables are complete, and their order is right."""

import inspect
import ssl
from types import ModuleType
from typing import Any

import aiohttp
import pytest
import requests.exceptions
import urllib3.exceptions
from aiohttp import client_exceptions
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from opensearch_embed._http import aio, sync
from opensearch_embed._http.target import HeaderSecret, Target
from opensearch_embed.errors import ConfigurationError, ConnectFailed, TimedOut, TransportError
from opensearch_embed.settings import resolve_settings

KEY = "OS-secret-1"


def make_target(**settings: Any) -> Target:
    """Where requests would go."""
    return Target(resolve_settings(**({"endpoint": "https://api.example", "api_key": KEY} | settings)), 7.5, 3)


def own_errors(module: ModuleType, base: type[Exception]) -> list[type[Exception]]:
    """The errors that a library defines there, and can raise from a request."""
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, base) and kind.__module__ == module.__name__ and not issubclass(kind, Warning)
    ]


def bare(kind: type[BaseException]) -> BaseException:
    """An error of a class, whatever its constructor wants."""
    return kind.__new__(kind)


FOREIGN = [
    *((kind, sync) for kind in own_errors(requests.exceptions, requests.exceptions.RequestException)),
    *((kind, sync) for kind in own_errors(urllib3.exceptions, urllib3.exceptions.HTTPError)),
    *((kind, aio) for kind in own_errors(client_exceptions, aiohttp.ClientError)),
    (TimeoutError, aio),
    (ConnectionResetError, aio),
    (OSError, aio),
]


@pytest.mark.parametrize(("kind", "transport"), FOREIGN, ids=lambda value: value.__name__.rpartition(".")[2])
def test_every_foreign_error_has_a_row(kind: type[Exception], transport: Any) -> None:
    """No error that a library can raise is left to the rule for what nobody has thought of."""
    rows = [ours for foreign, ours, _ in transport.ERRORS if issubclass(kind, foreign)]
    assert rows
    ours = make_target().translate(bare(kind), transport.ERRORS, 7.5)
    assert isinstance(ours, TransportError)
    assert kind.__name__ in str(ours)
    assert "https://api.example" in str(ours)


def test_the_walk_finds_what_there_is() -> None:
    """The libraries have as many errors as they had when this was written, at least."""
    assert len(FOREIGN) > 75


R, U, A = requests.exceptions, urllib3.exceptions, client_exceptions

# Foreign error, our class, our words: where the order of the rows matters, and where users meet them.
ROWS: list[tuple[type[BaseException], Any, type[TransportError], str]] = [
    (R.ConnectTimeout, sync, TimedOut, "no connection in time"),
    (R.ReadTimeout, sync, TimedOut, "the answer did not come in time"),
    (R.Timeout, sync, TimedOut, "the answer did not come in time"),
    (R.ProxyError, sync, ConnectFailed, "the proxy gave no connection"),
    (R.SSLError, sync, ConnectFailed, "the encrypted connection failed"),
    (R.ConnectionError, sync, TransportError, "the connection broke"),
    (R.ChunkedEncodingError, sync, TransportError, "the connection broke"),
    (R.RequestException, sync, TransportError, "the request failed"),
    (U.ReadTimeoutError, sync, TimedOut, "the answer did not come in time"),
    (U.ConnectTimeoutError, sync, TimedOut, "in time"),
    (U.NewConnectionError, sync, ConnectFailed, "no connection"),
    (U.NameResolutionError, sync, ConnectFailed, "no connection"),
    (U.SSLError, sync, ConnectFailed, "the encrypted connection failed"),
    (U.ProtocolError, sync, TransportError, "the request failed"),
    (A.ConnectionTimeoutError, aio, TimedOut, "in time"),
    (A.SocketTimeoutError, aio, TimedOut, "the answer did not come in time"),
    (A.ServerTimeoutError, aio, TimedOut, "the answer did not come in time"),
    (TimeoutError, aio, TimedOut, "the answer did not come in time"),
    (A.ClientProxyConnectionError, aio, ConnectFailed, "the proxy gave no connection"),
    (A.ClientHttpProxyError, aio, ConnectFailed, "the proxy gave no connection"),
    (A.ClientConnectorSSLError, aio, ConnectFailed, "the encrypted connection failed"),
    (A.ClientConnectorDNSError, aio, ConnectFailed, "no connection"),
    (A.ClientConnectorError, aio, ConnectFailed, "no connection"),
    (A.ServerDisconnectedError, aio, TransportError, "the connection broke"),
    (A.ClientOSError, aio, TransportError, "the connection broke"),
    (A.ClientPayloadError, aio, TransportError, "the request failed"),
    (ConnectionResetError, aio, TransportError, "the request failed"),
]


@pytest.mark.parametrize(("foreign", "transport", "kind", "words"), ROWS)
def test_the_order_of_the_rows(
    foreign: type[BaseException], transport: Any, kind: type[TransportError], words: str
) -> None:
    """An error that is two things at once is told as the one that helps."""
    ours = make_target().translate(bare(foreign), transport.ERRORS, 7.5)
    assert type(ours) is kind
    assert words in str(ours)
    assert not ours.permanent


def behind(error: BaseException, cause: BaseException) -> BaseException:
    """An error with another one behind it."""
    error.__cause__ = cause
    return error


# What it shows, an error as the libraries nest them, our class.
NESTED: list[tuple[str, BaseException, Any, type[TransportError]]] = [
    (
        "requests keeps urllib3's as an argument, and that one its reason",
        R.ConnectionError(U.MaxRetryError(None, "/", bare(U.NameResolutionError))),  # type: ignore[arg-type]
        sync,
        ConnectFailed,
    ),
    ("a refused connection", R.ConnectionError(bare(U.NewConnectionError)), sync, ConnectFailed),
    ("a read that is too slow", R.ConnectionError(bare(U.ReadTimeoutError)), sync, TimedOut),
    ("a connection that broke", R.ConnectionError(U.ProtocolError("x", OSError())), sync, TransportError),
    ("a cause", behind(R.RequestException(), R.ReadTimeout()), sync, TimedOut),
    ("a cause of a cause", behind(aiohttp.ClientError(), behind(OSError(), TimeoutError())), aio, TimedOut),
]


@pytest.mark.parametrize(("error", "transport", "kind"), [pytest.param(*case, id=name) for name, *case in NESTED])
def test_what_is_behind_counts(error: BaseException, transport: Any, kind: type[TransportError]) -> None:
    """The first row that matches an error, or one behind it, decides."""
    assert type(make_target().translate(error, transport.ERRORS, 7.5)) is kind


def test_an_error_that_nobody_thought_of() -> None:
    """What is in no row is a TransportError all the same."""
    ours = make_target().translate(ZeroDivisionError(), sync.ERRORS, 7.5)
    assert type(ours) is TransportError
    assert "the request failed (ZeroDivisionError)" in str(ours)


def test_errors_that_are_behind_each_other_end() -> None:
    """A circle of causes is walked once."""
    one, other = OSError(), TimeoutError()
    one.__cause__, other.__context__ = other, one
    assert type(make_target().translate(one, aio.ERRORS, 7.5)) is TimedOut


REFUSED = ssl.SSLCertVerificationError(1, "certificate verify failed")
REFUSED.verify_message = "self-signed certificate"

CERTIFICATES = [
    ("requests", R.SSLError(U.MaxRetryError(None, "/", U.SSLError(REFUSED))), sync, "self-signed"),  # type: ignore[arg-type]
    ("aiohttp", behind(bare(A.ClientConnectorCertificateError), REFUSED), aio, "self-signed"),
    ("behind a time-out", behind(R.ConnectTimeout(), REFUSED), sync, "self-signed"),
    ("without a reason", ssl.SSLCertVerificationError(), aio, "not trusted"),
]


@pytest.mark.parametrize(
    ("error", "transport", "words"), [pytest.param(*case, id=name) for name, *case in CERTIFICATES]
)
def test_a_refused_certificate_is_permanent(error: BaseException, transport: Any, words: str) -> None:
    """A certificate that is not trusted will not be trusted a second later; the error says why, and what may help."""
    ours = make_target().translate(error, transport.ERRORS, 7.5)
    assert type(ours) is ConnectFailed
    assert ours.permanent
    for said in ("its certificate is refused", words, "ca_bundle="):
        assert said in str(ours)


# Foreign error, what ours advises.
ADVICE: list[tuple[BaseException, str]] = [
    (R.ReadTimeout(), "timeout=7.5 seconds"),
    (R.ProxyError(), "OPENSEARCH_ENDPOINT"),
    (R.ConnectionError(), "can be run again"),
]


@pytest.mark.parametrize(("error", "words"), ADVICE)
def test_an_error_says_what_to_do(error: BaseException, words: str) -> None:
    """Each of our errors has its advice."""
    assert words in str(make_target().translate(error, sync.ERRORS, 7.5))


def test_a_foreign_error_is_stripped() -> None:
    """What the libraries keep on their errors and in their frames, the key above all, is gone."""
    request = requests.Request("POST", "https://api.example", headers={"Authorization": f"Bearer {KEY}"}).prepare()
    inner = U.ProtocolError(f"echo of {KEY}", OSError(5, f"with {KEY}"))
    error = R.ConnectionError(inner, request=request)
    error.note = f"more of {KEY}"  # type: ignore[attr-defined]
    try:
        raise error
    except R.ConnectionError as caught:
        make_target().translate(caught, sync.ERRORS, 7.5)
    assert not hasattr(error.request, "headers")
    assert error.__traceback__ is None
    assert error.note == "more of ***"  # type: ignore[attr-defined]
    assert inner.args[0] == "echo of ***"
    assert KEY not in repr((error, inner, vars(error), vars(inner)))


def test_a_proxys_password_is_stripped() -> None:
    """What aiohttp says of a proxy that refuses does not show the proxy's password."""
    headers = CIMultiDictProxy(CIMultiDict({"Proxy-Authorization": "Basic dXNlcjp3b3Jk"}))
    url = URL("http://user:word@proxy.example:3128")
    info = aiohttp.RequestInfo(url, "CONNECT", headers, url)
    error = aiohttp.ClientHttpProxyError(info, (), status=407, message="Proxy Authentication Required")
    make_target().translate(error, aio.ERRORS, 7.5)
    for shown in (str(error), repr(error), repr(vars(error))):
        assert "word" not in shown
        assert "dXNlcjp3b3Jk" not in shown


# --- where requests go, and what they carry ---


def test_the_url_is_the_documented_one() -> None:
    """Endpoint, workspace and model make the URL."""
    assert make_target(workspace="mine", model="ops-text-embedding-001").url == (
        "https://api.example/v3/openapi/workspaces/mine/text-embedding/ops-text-embedding-001"
    )


def test_headers_carry_the_key_and_do_not_print_it() -> None:
    """The key is in the one header where it belongs, and in no repr of the headers."""
    headers = make_target().headers
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("opensearch-embed/")
    assert set(headers) == {"Authorization", "Content-Type", "Accept", "Accept-Encoding", "User-Agent"}
    assert KEY not in repr(headers)
    assert KEY not in repr(dict(headers))
    assert KEY not in repr(HeaderSecret(KEY))
    assert KEY not in repr(make_target())


@pytest.mark.parametrize(
    ("settings", "encrypted"),
    [
        ({}, True),
        ({"endpoint": "http://127.0.0.1"}, False),
        ({"endpoint": "http://127.0.0.1", "proxy": "http://p"}, False),
        ({"endpoint": "http://127.0.0.1", "proxy": "https://p"}, True),
    ],
)
def test_certificates_are_loaded_where_they_are_needed(settings: dict[str, str], encrypted: bool) -> None:
    """Without TLS no certificates are read; with it, servers must show theirs, and they are read once."""
    target = make_target(**settings)
    context = target.ssl_context
    assert (context is not None) is encrypted
    assert target.ssl_context is context
    assert context is None or (context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname)


def test_certificates_of_ones_own(tmp_path: Any) -> None:
    """A file or a folder may be named; a file with no certificates in it is a configuration error that names it."""
    assert make_target(ca_bundle=tmp_path).ssl_context is not None
    path = tmp_path / "ca.pem"
    path.write_text("no certificates")
    with pytest.raises(ConfigurationError) as caught:
        _ = make_target(ca_bundle=path).ssl_context
    assert str(path) in str(caught.value)
    assert "PEM" in str(caught.value)
