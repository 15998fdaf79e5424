"""Where the service is and who calls it: argument, then environment, then default; and the key stays unprinted."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from opensearch_embed.errors import ConfigurationError
from opensearch_embed.models import DEFAULT_MODEL, MODELS, ModelSpec
from opensearch_embed.settings import Secret, SecretString, Settings, environment_is_set, is_loopback, resolve_settings

KEY = "OS-secret-1"
HOST = "default-abc.platform-cn-shanghai.opensearch.aliyuncs.com"


def resolve(**given: Any) -> Settings:
    """Resolve settings that have a key and an endpoint."""
    return resolve_settings(**({"api_key": KEY, "endpoint": HOST} | given))


def shown(settings: Settings, name: str) -> str:
    """A setting as text."""
    value = getattr(settings, name)
    return str(value.get_secret_value() if name == "api_key" else value.service_id if name == "model" else value)


# Setting, its variable, a value for the argument, one for the environment, what each becomes, the default.
SOURCES = [
    ("api_key", "OPENSEARCH_API_KEY", "OS-1", "OS-2", ("OS-1", "OS-2"), None),
    (
        "endpoint",
        "OPENSEARCH_ENDPOINT",
        "one.example",
        "two.example",
        ("https://one.example", "https://two.example"),
        None,
    ),
    ("workspace", "OPENSEARCH_WORKSPACE", "mine", "ours", ("mine", "ours"), "default"),
    ("model", "OPENSEARCH_MODEL", *list(MODELS)[:2], tuple(MODELS)[:2], DEFAULT_MODEL),
]
REQUIRED = [row for row in SOURCES if row[-1] is None]
OPTIONAL = [row for row in SOURCES if row[-1] is not None]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with a key and an endpoint."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", KEY)
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", HOST)
    return monkeypatch


@pytest.mark.parametrize(("name", "variable", "argument", "value", "becomes", "default"), SOURCES)
def test_an_argument_goes_before_the_environment(
    environment: pytest.MonkeyPatch, name: str, variable: str, argument: str, value: str, becomes: Any, default: Any
) -> None:
    """What is said in the call counts; what is not comes from the environment, without the blanks around it."""
    del default
    environment.setenv(variable, f" {value}\n")
    assert shown(resolve_settings(**{name: f"\t{argument} "}), name) == becomes[0]  # type: ignore[arg-type]
    assert shown(resolve_settings(), name) == becomes[1]


@pytest.mark.parametrize("quoted", ['"{}"', " '{}'\n", '"{} "'])
@pytest.mark.parametrize(("name", "variable", "argument", "value", "becomes", "default"), SOURCES)
def test_quotes_around_a_variable_are_taken_off(
    environment: pytest.MonkeyPatch,
    quoted: str,
    name: str,
    variable: str,
    argument: str,
    value: str,
    becomes: Any,
    default: Any,
) -> None:
    """`docker run --env-file` leaves them."""
    del argument, default
    environment.setenv(variable, quoted.format(value))
    assert shown(resolve_settings(), name) == becomes[1]


@pytest.mark.parametrize("blank", [None, "", " \n", '""', "' '"])
@pytest.mark.parametrize("row", OPTIONAL, ids=lambda row: row[0])
def test_a_default_goes_last(environment: pytest.MonkeyPatch, row: Any, blank: str | None) -> None:
    """Without an argument, and with a variable that is missing or blank, the default counts."""
    name, variable, *_, default = row
    environment.delenv(variable, raising=False)
    if blank is not None:
        environment.setenv(variable, blank)
    assert shown(resolve_settings(), name) == default


@pytest.mark.parametrize("row", REQUIRED, ids=lambda row: row[0])
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, row: Any) -> None:
    """The error names the argument, the variable and the emulator."""
    name, variable, *_ = row
    environment.delenv(variable)
    with pytest.raises(ConfigurationError) as caught:
        resolve_settings()
    for words in (f"No {name}", f"{name}=", variable, "opensearch-embed emulator"):
        assert words in str(caught.value)


@pytest.mark.parametrize("row", REQUIRED, ids=lambda row: row[0])
@pytest.mark.parametrize("blank", ["", "   ", "\n"])
def test_a_blank_variable_is_named(environment: pytest.MonkeyPatch, row: Any, blank: str) -> None:
    """A variable that is set to nothing is told apart from one that is not set."""
    name, variable, *_ = row
    environment.setenv(variable, blank)
    with pytest.raises(ConfigurationError) as caught:
        resolve_settings()
    for words in (f"{variable} is blank", f"{name}=", "opensearch-embed emulator"):
        assert words in str(caught.value)


@pytest.mark.parametrize("row", SOURCES, ids=lambda row: row[0])
@pytest.mark.parametrize("blank", ["", "   "])
def test_a_blank_argument_is_refused(environment: pytest.MonkeyPatch, row: Any, blank: str) -> None:
    """An argument that is blank is a mistake: neither the environment nor the default takes its place."""
    name, variable, _, value, *_ = row
    environment.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        resolve_settings(**{name: blank})
    for words in (f"{name} is blank", f"{name}=", variable):
        assert words in str(caught.value)


@pytest.mark.parametrize("row", SOURCES, ids=lambda row: row[0])
@pytest.mark.parametrize("value", [5, b"bytes", ["x"], MODELS[DEFAULT_MODEL]])
@pytest.mark.usefixtures("environment")
def test_an_argument_that_is_no_str_is_refused(row: Any, value: Any) -> None:
    """The error names the argument and the type, and does not show the value."""
    with pytest.raises(ConfigurationError) as caught:
        resolve_settings(**{row[0]: value})
    assert str(caught.value) == f"{row[0]} must be a str, not {type(value).__name__}."


@pytest.mark.parametrize(
    ("variables", "is_set"),
    [
        ({}, False),
        ({"OPENSEARCH_API_KEY": KEY}, False),
        ({"OPENSEARCH_ENDPOINT": HOST}, False),
        ({"OPENSEARCH_API_KEY": " ", "OPENSEARCH_ENDPOINT": HOST}, False),
        ({"OPENSEARCH_API_KEY": KEY, "OPENSEARCH_ENDPOINT": HOST}, True),
    ],
)
def test_whether_the_environment_is_enough(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_set: bool
) -> None:
    """A key and an endpoint, neither blank, are all that a client needs."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment_is_set() is is_set


def test_a_model_comes_with_its_dimension() -> None:
    """The model is looked up in the catalogue; one outside it takes the dimension that is said."""
    assert resolve(model="ops-text-embedding-001").model is MODELS["ops-text-embedding-001"]
    assert resolve(model="ops-new", dimension=7).model == ModelSpec("ops-new", 7)
    with pytest.raises(ConfigurationError, match="Unknown model 'ops-new'"):
        resolve(model="ops-new")


# --- the endpoint ---

ENDPOINTS = [
    (HOST, f"https://{HOST}"),
    (f"https://{HOST}", f"https://{HOST}"),
    (f"https://{HOST}/", f"https://{HOST}"),
    (f"{HOST}//", f"https://{HOST}"),
    (f"HTTPS://{HOST}", f"https://{HOST}"),
    (f"  {HOST}\n", f"https://{HOST}"),
    (f"{HOST}:8443", f"https://{HOST}:8443"),
    ("localhost:8443", "https://localhost:8443"),
    ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ("http://127.8.9.10", "http://127.8.9.10"),
    ("http://localhost:8080/", "http://localhost:8080"),
    ("http://api.localhost", "http://api.localhost"),
    ("HTTP://[::1]:8080", "http://[::1]:8080"),
]


@pytest.mark.parametrize(("endpoint", "url"), ENDPOINTS)
def test_an_endpoint_in_any_form(endpoint: str, url: str) -> None:
    """With or without a scheme, a slash or a port, it becomes scheme and host; https unless said otherwise."""
    assert resolve(endpoint=endpoint).endpoint == url


@pytest.mark.parametrize("host", [HOST, "10.0.0.1", "[2001:db8::1]", "localhost.example", "notlocalhost", "0.0.0.0"])  # noqa: S104
def test_plain_http_to_another_machine_is_refused(host: str) -> None:
    """The error says that the key would travel in clear, and names both ways out; allow_http=True is one of them."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(endpoint=f"http://{host}:80")
    for words in (f"http://{host}:80", "the key would travel in clear", "https", "allow_http=True"):
        assert words in str(caught.value)
    settings = resolve(endpoint=f"http://{host}:80", allow_http=True)
    assert settings.endpoint == f"http://{host}:80"
    assert settings.allow_http


# Endpoint, what the error says.
NO_ENDPOINTS = [
    ("https://", "must be a host name"),
    ("https:///path", "must be a host name"),
    ("https://:443", "must be a host name"),
    ("//host", "must be a host name"),
    ("ftp://host", "must be a host name"),
    ("file:///etc/hosts", "must be a host name"),
    ("https://two words", "must be a host name"),
    ("https://host\u00a0name", "must be a host name"),
    ("https://host:port", "is not a URL"),
    ("https://host:99999", "is not a URL"),
    ("https://[::1", "is not a URL"),
    ("https://.example", "is not a URL"),
    ("https://a..example", "is not a URL"),
    ("https://user@host", "user or password"),
    ("https://user:word@host", "user or password"),
    ("https://:word@host", "user or password"),
    ("user@host", "user or password"),
    ("https://host/v3/openapi", "without a path"),
    ("host/v3", "without a path"),
    ("https://host?a=b", "without a path"),
    ("https://host/#part", "without a path"),
]


@pytest.mark.parametrize(("endpoint", "words"), NO_ENDPOINTS)
def test_what_is_no_endpoint_is_refused(endpoint: str, words: str) -> None:
    """The error names the argument and the variable, says what is wrong, and shows no password."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(endpoint=endpoint)
    assert words in str(caught.value)
    assert "endpoint (OPENSEARCH_ENDPOINT)" in str(caught.value)
    assert "word@" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://<your-host>",
        "https://{host}",
        "https://*.example",
        "https://host\\path",
        "https://h%41st",
        "https://ho\x01st",
        "https://@host",
        "https://:@host",
        "https://host:0",
        "http://evil.example\\.localhost",
    ],
)
def test_a_host_of_odd_letters_is_refused(endpoint: str) -> None:
    """A host that no HTTP library takes as it stands is refused at once, and not with another library's error later."""
    with pytest.raises(ConfigurationError):
        resolve(endpoint=endpoint)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.0.3", True),
        ("::1", True),
        ("localhost", True),
        ("a.localhost", True),
        ("128.0.0.1", False),
        ("::2", False),
        ("localhost.example", False),
        ("mylocalhost", False),
        ("", False),
    ],
)
def test_what_means_this_machine(host: str, loopback: bool) -> None:
    """Loopback addresses and `localhost` names mean this machine; nothing else does, and no name is looked up."""
    assert is_loopback(host) is loopback


# --- proxy and certificates ---

# Endpoint, environment, the proxy that counts.
PROXIES: list[tuple[str, dict[str, str], str | None]] = [
    (HOST, {}, None),
    (HOST, {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
    (HOST, {"https_proxy": "http://p:3128"}, "http://p:3128"),
    (HOST, {"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
    (HOST, {"HTTPS_PROXY": "https://user:word@p"}, "https://user:word@p"),
    (HOST, {"HTTP_PROXY": "http://p:3128"}, None),
    (HOST, {"ALL_PROXY": "http://p:3128"}, "http://p:3128"),
    (HOST, {"ALL_PROXY": "http://a", "HTTPS_PROXY": "http://p"}, "http://p"),
    (HOST, {"HTTPS_PROXY": ""}, None),
    (HOST, {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, None),
    (HOST, {"HTTPS_PROXY": "http://p", "NO_PROXY": "aliyuncs.com"}, None),
    (HOST, {"HTTPS_PROXY": "http://p", "no_proxy": f"other.example, .{HOST}"}, None),
    (f"{HOST}:8443", {"HTTPS_PROXY": "http://p", "NO_PROXY": HOST}, None),
    (HOST, {"HTTPS_PROXY": "http://p", "NO_PROXY": "other.example"}, "http://p"),
    ("http://127.0.0.1:8080", {"HTTP_PROXY": "http://p"}, "http://p"),
    ("http://127.0.0.1:8080", {"HTTPS_PROXY": "http://p"}, None),
    ("http://127.0.0.1:8080", {"HTTP_PROXY": "http://p", "NO_PROXY": "127.0.0.1"}, None),
]


@pytest.mark.parametrize(("endpoint", "variables", "proxy"), PROXIES)
def test_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, variables: dict[str, str], proxy: str | None
) -> None:
    """The variable for the endpoint's scheme counts, then ALL_PROXY; NO_PROXY takes hosts out."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resolve(endpoint=endpoint).proxy == proxy


def test_an_argument_goes_before_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the call counts, NO_PROXY or not; a blank one means none."""
    monkeypatch.setenv("HTTPS_PROXY", "http://environment")
    monkeypatch.setenv("NO_PROXY", "*")
    assert resolve(proxy="argument:3128").proxy == "http://argument:3128"
    monkeypatch.delenv("NO_PROXY")
    assert resolve(proxy="").proxy is None
    assert resolve(proxy="  ").proxy is None


@pytest.mark.parametrize("proxy", ["socks5://user:word@p:1080", "http://", "ftp://p", 3128, ["http://p"]])
def test_what_is_no_proxy_is_refused(proxy: Any) -> None:
    """The error names the argument and shows no password."""
    with pytest.raises(ConfigurationError, match=r"^proxy must be ") as caught:
        resolve(proxy=proxy)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://[::1", "http://p:port", "http://p:99999"])
def test_a_proxy_that_is_no_url_is_refused(proxy: str) -> None:
    """What cannot be parsed is our error, too."""
    with pytest.raises(ConfigurationError):
        resolve(proxy=proxy)


def test_the_proxys_password_is_not_shown() -> None:
    """A proxy's URL may hold a password, so no repr shows it."""
    assert "word" not in repr(resolve(proxy="http://user:word@p"))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files that exist, by name."""
    paths = {name: tmp_path / f"{name}.pem" for name in "abcd"}
    for path in paths.values():
        path.touch()
    return paths


def test_certificates_of_the_environment(monkeypatch: pytest.MonkeyPatch, files: dict[str, Path]) -> None:
    """The argument counts, then what requests reads, then what OpenSSL reads; without any, certifi's are used."""
    assert resolve().ca_bundle is None
    for variable, name in (("SSL_CERT_FILE", "a"), ("CURL_CA_BUNDLE", "b"), ("REQUESTS_CA_BUNDLE", "c")):
        monkeypatch.setenv(variable, str(files[name]))
        assert resolve().ca_bundle == str(files[name])
    assert resolve(ca_bundle=files["d"]).ca_bundle == str(files["d"])
    assert resolve(ca_bundle=str(files["d"])).ca_bundle == str(files["d"])
    for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, "")
    assert resolve().ca_bundle is None


def test_missing_certificates_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that does not exist is named, from the argument or from the environment."""
    path = str(tmp_path / "none.pem")
    with pytest.raises(ConfigurationError) as caught:
        resolve(ca_bundle=path)
    assert "ca_bundle" in str(caught.value)
    assert path in str(caught.value)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", path)
    with pytest.raises(ConfigurationError, match="does not exist"):
        resolve()


def test_certificates_that_are_no_path_are_refused() -> None:
    """Anything but a path is our error, too."""
    with pytest.raises(ConfigurationError):
        resolve(ca_bundle=5)


# --- the key ---


@pytest.mark.parametrize(
    "key", ["OS-abc", "os-lower", "no form at all", 'q"uote', "back\\slash", "a=b+c/d==", "!~", "k"]
)
def test_any_key_that_a_header_carries_is_taken(key: str) -> None:
    """The form of a key is not ours to judge; blanks around it, as copying brings them, are taken off."""
    assert resolve(api_key=f" {key}\n").api_key.get_secret_value() == key


@pytest.mark.parametrize("key", ["OS-schlüssel", "OS-密钥", "OS-a\nb", "OS-a\tb", "OS-\x00", "OS-\x7f", "OS-\u200b"])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    """The error names the argument and the variable, and does not show the key."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(api_key=key)
    for words in ("api_key", "OPENSEARCH_API_KEY", "Copy the key again"):
        assert words in str(caught.value)
    assert key not in str(caught.value)
    assert key not in repr(caught.value)


def test_a_secret_str_is_taken() -> None:
    """Pydantic's SecretStr, our Secret, and whatever else is a secret string, serve as the key."""
    for key in (SecretStr(f" {KEY} "), Secret(KEY)):
        assert isinstance(key, SecretString)
        assert resolve(api_key=key).api_key == Secret(KEY)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_secret_str_is_refused(blank: str) -> None:
    """A secret that holds nothing is as blank as a str."""
    with pytest.raises(ConfigurationError, match=r"^api_key is blank"):
        resolve(api_key=SecretStr(blank))


def test_nothing_prints_the_key() -> None:
    """Neither repr, str nor format of the settings or of the secret shows the key; a pickle and a copy carry it."""
    settings = resolve()
    secret = settings.api_key
    for value in (settings, secret, [secret], {"key": secret}):
        for text in (repr(value), str(value), f"{value}", f"{value!s:>60}", "%s" % (value,)):  # noqa: UP031
            assert "secret-1" not in text
    assert not hasattr(secret, "__dict__")
    for twin in (pickle.loads(pickle.dumps(settings)), copy.copy(settings), copy.deepcopy(settings)):
        assert twin == settings
        assert twin.api_key.get_secret_value() == KEY


def test_a_secret_equals_its_like_alone() -> None:
    """Two secrets of one value are equal and hash alike; a secret never equals a str."""
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(resolve()) == hash(resolve())


def test_allow_http_is_true_or_false() -> None:
    """A word such as "no" would count as true, so it is refused."""
    with pytest.raises(ConfigurationError, match="allow_http"):
        resolve(endpoint="http://a.example", allow_http="no")


@pytest.mark.parametrize("name", ["workspace", "model"])
@pytest.mark.parametrize("dots", [".", ".."])
def test_dots_are_no_name(name: str, dots: str) -> None:
    """In a URL they mean another path."""
    with pytest.raises(ConfigurationError, match=name):
        resolve(**{name: dots, "dimension": 8 if name == "model" else None})
