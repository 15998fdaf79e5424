"""Who gets the request, and with it the key: certificates, proxies, `.netrc`, redirects; sync and async alike."""

import base64
import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from interfaces import settings_for
from servers import HOST, KEY, MODEL, Proxy, RawServer, raw, reply, vector

from opensearch_embed import ApiError, ConfigurationError, ConnectFailed, EmbeddingClient

SERVICE = "https://service.test"
PATH = f"/v3/openapi/workspaces/default/text-embedding/{MODEL}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that is not in any store."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def service(authority: Authority) -> Iterator[RawServer]:
    """The service at `SERVICE`, which only a proxy finds."""
    with RawServer(tls=authority.tls("service.test")) as running:
        yield running


def embed_tea(call: Any, url: str, **settings: Any) -> None:
    """Embed a text; the vector is right."""
    with EmbeddingClient(**settings_for(url, **settings)) as client:
        assert call(client.embed, ["tea"]) == [vector("tea")]


# --- certificates ---


def refused(call: Any, server: RawServer, **settings: Any) -> ConnectFailed:
    """Embed a text; the certificate is refused, before the key is sent, and once."""
    with EmbeddingClient(**settings_for(server.url, **settings)) as client:
        with pytest.raises(ConnectFailed, match="certificate") as caught:
            call(client.embed, ["tea"])
        assert client.usage.requests == 1
    assert server.connections == 1
    assert server.requests == []
    assert caught.value.pending == [0]
    return caught.value


def test_a_certificate_of_an_unknown_authority_is_refused(authority: Authority, call: Any) -> None:
    """A self-made certificate is refused at once, and the error names `ca_bundle`."""
    with RawServer(tls=authority.tls(HOST)) as server:
        assert "ca_bundle" in str(refused(call, server))


def test_a_certificate_for_another_name_is_refused(authority: Authority, call: Any) -> None:
    """A trusted authority's certificate for another host is refused, and the error says whose name is missing."""
    with RawServer(tls=authority.tls("other.test")) as server:
        told = str(refused(call, server, ca_bundle=authority.bundle))
        assert re.search(HOST, told)
        assert "OPENSEARCH_ENDPOINT" in told
        assert "ca_bundle" not in told


@pytest.mark.parametrize(
    ("from_now", "words"), [((-20, -10), "has expired"), ((10, 20), "not valid yet")], ids=["expired", "not yet"]
)
def test_a_certificate_out_of_its_time_has_its_own_advice(
    from_now: tuple[int, int], words: str, authority: Authority, call: Any
) -> None:
    """It is refused at once, and `ca_bundle` would not help."""
    begins, ends = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days) for days in from_now)
    with RawServer(tls=authority.tls(HOST, not_before=begins, not_after=ends)) as server:
        told = str(refused(call, server, ca_bundle=authority.bundle))
        assert words in told
        assert "clock" in told
        assert "ca_bundle" not in told


def test_a_named_authority_is_trusted(authority: Authority, call: Any) -> None:
    """With `ca_bundle` the authority's certificates are good."""
    with RawServer(tls=authority.tls(HOST)) as server:
        embed_tea(call, server.url, ca_bundle=authority.bundle)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_in_the_environment_is_trusted(
    variable: str, authority: Authority, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables that requests and OpenSSL read name an authority for both HTTP libraries."""
    monkeypatch.setenv(variable, authority.bundle)
    with RawServer(tls=authority.tls(HOST)) as server:
        embed_tea(call, server.url)


def test_a_named_authority_replaces_the_usual_ones(authority: Authority, tmp_path: Path, call: Any) -> None:
    """`ca_bundle` comes before the environment, and stands alone."""
    with RawServer(tls=authority.tls(HOST)) as server:
        refused(call, server, ca_bundle=Authority(tmp_path).bundle)


@pytest.mark.parametrize("content", [None, "", "no certificate"], ids=["missing", "empty", "junk"])
def test_a_bundle_without_certificates_is_a_configuration_error(content: str | None, tmp_path: Path, call: Any) -> None:
    """A `ca_bundle` that is not there, or holds nothing, is reported by name, and nothing is sent."""
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)

    def embed() -> None:
        with EmbeddingClient(**settings_for("https://127.0.0.1:1", ca_bundle=path)) as client:
            call(client.embed, ["tea"])

    with pytest.raises(ConfigurationError, match=r"bundle\.pem"):
        embed()


def test_a_plain_server_on_an_https_endpoint_fails_to_connect(call: Any) -> None:
    """A server without TLS does not get the request in clear."""
    with RawServer() as server:
        url = server.url.replace("http:", "https:")
        with EmbeddingClient(**settings_for(url, max_attempts=1)) as client, pytest.raises(ConnectFailed):
            call(client.embed, ["tea"])
        assert server.requests == []


# --- proxies ---


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
def test_a_proxy_carries_an_encrypted_connection(
    proxy_scheme: str, service: RawServer, authority: Authority, call: Any
) -> None:
    """`proxy=` is asked for a tunnel by name, and sees neither key nor path."""
    tls = authority.tls(HOST) if proxy_scheme == "https" else None
    with Proxy(service.port, tls=tls) as proxy:
        embed_tea(call, SERVICE, proxy=proxy.url, ca_bundle=authority.bundle)
        assert [(request.method, request.target) for request in proxy.requests] == [("CONNECT", "service.test:443")]
        assert "Authorization" not in proxy.requests[0].headers
    assert service.requests[0].target == PATH


def test_a_proxy_is_handed_a_plain_request(call: Any) -> None:
    """For an http endpoint the proxy gets the request itself, with the whole URL."""
    with RawServer() as service, Proxy(service.port) as proxy:
        embed_tea(call, "http://service.test", proxy=proxy.url, allow_http=True)
        assert [request.target for request in proxy.requests] == [f"http://service.test{PATH}"]
        assert service.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_password_for_the_proxy_is_sent_to_the_proxy_alone(
    scheme: str, service: RawServer, authority: Authority, call: Any
) -> None:
    """A user and password in the proxy's URL become `Proxy-Authorization`, which the service does not see."""
    with RawServer() as plain, Proxy((service if scheme == "https" else plain).port) as proxy:
        url = proxy.url.replace("//", "//user:p%40ss@")
        embed_tea(call, f"{scheme}://service.test", proxy=url, ca_bundle=authority.bundle, allow_http=True)
        expected = "Basic " + base64.b64encode(b"user:p@ss").decode()
        assert proxy.requests[0].headers["Proxy-Authorization"] == expected
        if scheme == "https":
            assert "Proxy-Authorization" not in service.requests[0].headers


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_used(
    variable: str, service: RawServer, authority: Authority, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual variables name the proxy, for both HTTP libraries."""
    with Proxy(service.port) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        embed_tea(call, SERVICE, ca_bundle=authority.bundle)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("hosts", [HOST, "*", "example.com, 127.0.0.1"])
def test_no_proxy_goes_around_the_proxy(hosts: str, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that `NO_PROXY` names is reached without the proxy."""
    with RawServer() as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", hosts)
        embed_tea(call, server.url)


def test_an_explicit_proxy_is_used_whatever_no_proxy_says(
    service: RawServer, authority: Authority, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`proxy=` comes before the environment."""
    monkeypatch.setenv("NO_PROXY", "*")
    with Proxy(service.port) as proxy:
        embed_tea(call, SERVICE, proxy=proxy.url, ca_bundle=authority.bundle)
        assert len(proxy.requests) == 1


def test_a_blank_proxy_means_none(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`proxy=""` goes around the environment's proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with RawServer() as server:
        embed_tea(call, server.url, proxy="")


def test_the_environment_is_read_once(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is set after a client was made does not redirect it."""
    with RawServer() as server, EmbeddingClient(**settings_for(server.url)) as client:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert call(client.embed, ["tea"]) == [vector("tea")]


@pytest.mark.parametrize(
    "answer",
    [
        reply(407, b"who are you?", Proxy_Authenticate="Basic"),
        reply(502, b"no such host"),
        raw(b"HTTP/1.1 403 Forbidden\r\n\r\n"),
    ],
    ids=["407", "502", "403"],
)
def test_a_proxy_that_refuses_is_connect_failed(answer: Any, call: Any) -> None:
    """A proxy's refusal is not the service's: no key was sent, and the error says that it is the proxy."""
    with Proxy(1, answer) as proxy:
        settings = settings_for(SERVICE, proxy=proxy.url.replace("//", "//user:open-sesame@"), max_attempts=1)
        with EmbeddingClient(**settings) as client, pytest.raises(ConnectFailed, match="proxy") as caught:
            call(client.embed, ["tea"])
    assert "sesame" not in f"{caught.value}{caught.value.__cause__!r}"


def test_a_proxy_that_is_not_there_is_connect_failed(call: Any) -> None:
    """A proxy that cannot be reached is named as the cause, without its password."""
    settings = settings_for(SERVICE, proxy="http://user:open-sesame@127.0.0.1:1", max_attempts=1)
    with EmbeddingClient(**settings) as client, pytest.raises(ConnectFailed, match="proxy") as caught:
        call(client.embed, ["tea"])
    assert "sesame" not in f"{caught.value}{caught.value.__cause__!r}{client!r}{client.settings!r}"


def test_a_certificate_is_checked_through_a_proxy(authority: Authority, call: Any) -> None:
    """A proxy that leads to another server does not get the key: the certificate is for another name."""
    with RawServer(tls=authority.tls("other.test")) as impostor, Proxy(impostor.port) as proxy:
        settings = settings_for(SERVICE, proxy=proxy.url, ca_bundle=authority.bundle)
        with EmbeddingClient(**settings) as client, pytest.raises(ConnectFailed, match="certificate"):
            call(client.embed, ["tea"])
        assert impostor.requests == []
        assert len(proxy.requests) == 1


# --- the key stays where it belongs ---


def test_a_netrc_does_not_replace_the_key(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.netrc` that names the host is not read, as requests would do by default."""
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine {HOST}\nlogin mallory\npassword netrc-password\ndefault login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with RawServer() as server:
        embed_tea(call, server.url)
        assert [request.headers.get_all("Authorization") for request in server.requests] == [[f"Bearer {KEY}"]]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, call: Any) -> None:
    """No redirect takes the key or the texts to another host; the error says why it ends here."""
    with RawServer() as elsewhere, RawServer(default=reply(status, b"", Location=f"{elsewhere.url}{PATH}")) as server:
        with (
            EmbeddingClient(**settings_for(server.url)) as client,
            pytest.raises(ApiError, match=r"[Rr]edirects are not followed") as caught,
        ):
            call(client.embed, ["tea"])
        assert type(caught.value) is ApiError
        assert caught.value.status == status
        assert (len(server.requests), elsewhere.connections) == (1, 0)


def test_the_request_is_the_documented_one(call: Any) -> None:
    """Method, path, headers and body are the documented ones, and there is no other field."""
    with RawServer() as server:
        embed_tea(call, server.url, workspace="my space")
        (request,) = server.requests
    assert (request.method, request.target) == ("POST", PATH.replace("default", "my%20space"))
    assert request.headers["Content-Type"] == "application/json"
    assert request.json == {"input": ["tea"], "input_type": "document"}
    assert {name.lower() for name in request.headers} <= {
        "host",
        "authorization",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "connection",
    }
