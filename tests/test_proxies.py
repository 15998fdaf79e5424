"""Proxies as the environment names them, and as they refuse: sync and async alike, and no password anywhere."""

import base64
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from interfaces import settings_for
from servers import HOST, KEY, Connection, Proxy, RawRequest, RawServer, http, reply, vector

from opensearch_embed import ConfigurationError, ConnectFailed, EmbeddingClient
from opensearch_embed._proxy import goes_around
from opensearch_embed.settings import resolve_settings

SERVICE = "https://service.test"

# NO_PROXY, host, port, whether it goes around the proxy.
AROUND: list[tuple[str, str, int, bool]] = [
    ("*", "a.example", 443, True),
    ("*\n", "a.example", 443, True),
    (" * ", "a.example", 443, True),
    ("a.example\n", "a.example", 443, True),
    ("b.example , a.example ", "a.example", 443, True),
    ("b.example a.example", "a.example", 443, True),
    (",,", "a.example", 443, False),
    ("", "a.example", 443, False),
    ("example", "a.example", 443, True),
    (".example", "a.example", 443, True),
    ("*.example", "a.example", 443, True),
    ("A.Example.", "a.example", 443, True),
    ("a.example", "A.EXAMPLE.", 443, True),
    ("a.example", "ba.example", 443, False),
    ("a.example:443", "a.example", 443, True),
    ("a.example:8443", "a.example", 443, False),
    ("a.example:port", "a.example", 443, False),
    ("10.0.0.0/8", "10.1.2.3", 443, True),
    ("10.0.0.1/8", "10.1.2.3", 443, True),
    ("10.0.0.0/8", "11.1.2.3", 443, False),
    ("10.0.0.0/99", "10.1.2.3", 443, False),
    ("10.0.0.0/8", "a.example", 443, False),
    ("fd00::/8", "fd12::1", 443, True),
    ("fd00::/8", "10.1.2.3", 443, False),
    ("::1", "::1", 443, True),
    ("[::1]", "::1", 443, True),
    ("[::1]:443", "::1", 443, True),
    ("[::1]:8443", "::1", 443, False),
    ("0:0:0:0:0:0:0:1", "::1", 443, True),
    ("127.0.0.1:8080", "127.0.0.1", 8080, True),
    ("127.0.0.1:8080", "127.0.0.1", 8081, False),
    ("7.0.0.1", "127.0.0.1", 80, False),
    (".", "a.example", 443, False),
]


@pytest.mark.parametrize(("no_proxy", "host", "port", "around"), AROUND)
def test_what_goes_around_the_proxy(no_proxy: str, host: str, port: int, around: bool) -> None:
    """Names and all below them, addresses, networks, ports; in any case, with commas or white space between."""
    assert goes_around(no_proxy, host, port) is around


@pytest.mark.parametrize("hosts", ["127.0.0.0/8", "127.0.0.1:{port}", "*\n", "a.example 127.0.0.1\n", "0.0.0.0/0"])
def test_no_proxy_holds_for_both_libraries(hosts: str, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any of its forms."""
    with RawServer() as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1\n")
        monkeypatch.setenv("NO_PROXY", hosts.format(port=server.port))
        with EmbeddingClient(**settings_for(server.url, max_attempts=1)) as client:
            assert call(client.embed, ["tea"]) == [vector("tea")]


# User and password in the URL, what the proxy gets.
USERS = [
    ("token", "token:"),
    ("token:", "token:"),
    (":word", ":word"),
    ("user:100%25", "user:100%"),
    ("user:100%", "user:100%"),
    ("user:p%40ss%3Aword", "user:p@ss:word"),
    ("user:p:a:ss", "user:p:a:ss"),
    ("us@er:p@ss", "us@er:p@ss"),
    ("用户:密码-открыть", "用户:密码-открыть"),
    ("user:%E5%AF%86%E7%A0%81", "user:密码"),
    ("user:schlüssel", "user:schlüssel"),
]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("userinfo", "sent"), USERS)
def test_any_user_and_password_reach_the_proxy(
    userinfo: str, sent: str, scheme: str, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a password, with a percent sign, with letters of any language; from the environment too."""
    authority = Authority(tmp_path)
    tls = authority.tls("service.test") if scheme == "https" else None
    with RawServer(tls=tls) as service, Proxy(service.port) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("//", f"//{userinfo}@"))
        settings = settings_for(f"{scheme}://service.test", ca_bundle=authority.bundle, allow_http=True, max_attempts=1)
        with EmbeddingClient(**settings) as client:
            assert call(client.embed, ["tea"]) == [vector("tea")]
        expected = "Basic " + base64.b64encode(sent.encode()).decode()
        assert [request.headers.get_all("Proxy-Authorization") for request in proxy.requests] == [[expected]]  # type: ignore[attr-defined]
        if tls:
            assert "Proxy-Authorization" not in service.requests[0].headers


def everything(error: BaseException | None) -> str:
    """All that a traceback, a log or a debugger shows of an error and those behind it."""
    words, seen = [], []
    while error is not None and error not in seen:
        seen.append(error)
        words += [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(words)


def echo(status: int) -> Any:
    """Refuse, and repeat all that was sent: in the reason, in a header, in the body."""

    def act(connection: Connection, request: RawRequest) -> None:
        sent = " ".join(request.headers.values())
        head = f"HTTP/1.1 {status} No: {sent}\r\nX-Echo: {sent}\r\nProxy-Authenticate: Basic realm=x\r\n"
        body = sent.encode()
        connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.close()

    return act


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", [401, 407])
def test_a_proxy_that_asks_who_we_are_is_not_asked_again(
    scheme: str, status: int, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A 407 or 401 is the proxy's: the error says so, nothing is sent again, and nothing is repeated anywhere."""
    caplog.set_level(logging.DEBUG)
    with RawServer(default=echo(status)) as proxy:
        url = proxy.url.replace("//", "//user:open-sesame@")
        settings = settings_for(f"{scheme}://service.test", proxy=url, allow_http=True)
        with EmbeddingClient(**settings) as client, pytest.raises(ConnectFailed, match="the proxy") as caught:
            call(client.embed, ["tea"])
        assert len(proxy.requests) == 1
    assert f"HTTP {status}" in str(caught.value)
    assert "the key is not at fault" in str(caught.value)
    assert caught.value.permanent
    shown = everything(caught.value) + caplog.text
    for secret in ("sesame", base64.b64encode(b"user:open-sesame").decode(), KEY):
        assert secret not in shown


@pytest.mark.parametrize("userinfo", ["user:pass%40word", "user:密码密码", "a-long-token"])
def test_what_a_proxy_echoes_is_blanked(userinfo: str, call: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Also with another status, in a reply that is told: neither the password in any form nor base64 of it."""
    caplog.set_level(logging.DEBUG)
    with RawServer(default=echo(400)) as proxy:
        settings = settings_for(
            "http://service.test", proxy=proxy.url.replace("//", f"//{userinfo}@"), allow_http=True, max_attempts=1
        )
        with EmbeddingClient(**settings) as client, pytest.raises(Exception, match="400") as caught:
            call(client.embed, ["tea"])
        sent = proxy.requests[0].headers["Proxy-Authorization"].removeprefix("Basic ")
    shown = everything(caught.value) + caplog.text
    for secret in (sent, userinfo, userinfo.partition(":")[2] or userinfo, "pass@word", KEY):
        assert secret not in shown


# --- what the environment names for all programs ---


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY"])
@pytest.mark.parametrize("url", ["socks5://user:word@127.0.0.1:1", "ftp://p", "http://", "http://p:port"])
def test_an_unusable_proxy_is_the_calls_error(
    variable: str, url: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the constructor's; the error names what to do, and no password."""
    monkeypatch.setenv(variable, url)
    with EmbeddingClient(**settings_for(SERVICE)) as client:
        assert call(client.embed, []) == []
        with pytest.raises(ConfigurationError, match="ALL_PROXY") as caught:
            call(client.embed, ["tea", "coffee"])
    assert "NO_PROXY" in str(caught.value)
    assert "word" not in str(caught.value)
    assert caught.value.pending == [0, 1]


def test_an_unusable_proxy_does_no_harm_to_this_machine(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint on this machine needs no proxy, and is reached without."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_missing_certificates_do_no_harm_to_plain_http(
    variable: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that names a missing file is told by its name, and only where something is encrypted."""
    monkeypatch.setenv(variable, "/nowhere/bundle.pem")
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]
    with pytest.raises(ConfigurationError, match=rf"^{variable} '/nowhere/bundle\.pem' does not exist"):
        resolve_settings(endpoint=SERVICE, api_key=KEY)
    with pytest.raises(ConfigurationError, match=rf"^{variable} "):
        resolve_settings(endpoint=f"http://{HOST}", api_key=KEY, proxy="https://p")


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_a_variables_bundle_without_certificates_is_named(
    content: str, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that holds nothing is the variable's fault too, and not that of an argument that nobody gave."""
    path = tmp_path / "bundle.pem"
    path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with (
        EmbeddingClient(**settings_for("https://127.0.0.1:1")) as client,
        pytest.raises(ConfigurationError, match=r"^SSL_CERT_FILE ") as caught,
    ):
        call(client.embed, ["tea"])
    assert caught.value.pending == [0]


# --- what an encrypted connection fails of ---


@pytest.mark.parametrize("answer", [http(400, b"plain HTTP sent to an HTTPS port?"), b"220 mail.test ESMTP\r\n"])
def test_a_plain_server_without_a_scheme_says_to_write_http(answer: bytes, call: Any) -> None:
    """`127.0.0.1:8080` means https; where plain http is spoken, the error says what to write, at once."""

    def speak(connection: Connection) -> None:
        connection.sock.recv(1)
        connection.send(answer)
        connection.close()

    with RawServer(on_connect=speak) as server:
        with (
            EmbeddingClient(**settings_for(f"{HOST}:{server.port}")) as client,
            pytest.raises(ConnectFailed, match=rf"write http://{HOST}:{server.port}\.") as caught,
        ):
            call(client.embed, ["tea"])
        assert server.connections == 1
    assert caught.value.permanent


def test_a_proxy_that_speaks_plain_http_says_so(call: Any) -> None:
    """The scheme of the proxy's URL is at fault then."""

    def speak(connection: Connection) -> None:
        connection.sock.recv(1)
        connection.send(http(400, b"plain"))
        connection.close()

    with RawServer(on_connect=speak) as proxy:
        settings = settings_for(SERVICE, proxy=f"https://{HOST}:{proxy.port}")
        with EmbeddingClient(**settings) as client, pytest.raises(ConnectFailed, match="proxy=http://"):
            call(client.embed, ["tea"])


def test_http_client_may_be_made_talkative(
    call: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`http.client.HTTPConnection.debuglevel`, set by somebody, prints no key, neither sent nor echoed."""
    import http.client

    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    with (
        RawServer(reply(503, b"", X_Echo=KEY, Retry_After="0")) as server,
        EmbeddingClient(**settings_for(server.url)) as client,
    ):
        assert call(client.embed, ["tea"]) == [vector("tea")]
    assert capsys.readouterr().out == ""
