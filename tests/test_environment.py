"""AISEARCH_* variables come first; a cluster of opensearch.org that the environment names never sees the key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import AuthenticationError, ConfigurationError, EmbeddingClient
from opensearch_embed.emulator import Emulator
from opensearch_embed.settings import environment_is_set

KINDS: list[Callable[..., Any]] = [EmbeddingClient, OpenSearchEmbeddings, OpenSearchEmbedding]

# Variable without its first word, a value for AISEARCH_, one for OPENSEARCH_, where the settings have it.
NAMES: list[tuple[str, str, str, Callable[[Any], str]]] = [
    ("API_KEY", "OS-ai", "OS-open", lambda settings: settings.api_key.get_secret_value()),
    ("ENDPOINT", "https://ai.example", "https://open.example", lambda settings: settings.endpoint),
    ("WORKSPACE", "ai", "open", lambda settings: settings.workspace),
    (
        "MODEL",
        "ops-text-embedding-001",
        "ops-text-embedding-zh-001",
        lambda settings: settings.model.service_id,
    ),
]


@pytest.fixture(autouse=True)
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client needs, by the names that others use too."""
    monkeypatch.setenv("OPENSEARCH_API_KEY", "OS-enough")
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", "enough.example")


@pytest.mark.parametrize(("name", "ours", "others", "found"), NAMES)
def test_aisearch_goes_before_opensearch(
    monkeypatch: pytest.MonkeyPatch, name: str, ours: str, others: str, found: Callable[[Any], str]
) -> None:
    """Either name sets its argument, AISEARCH_* wins, and one that is blank says nothing."""
    monkeypatch.setenv(f"OPENSEARCH_{name}", others)
    assert found(EmbeddingClient().settings) == others
    monkeypatch.setenv(f"AISEARCH_{name}", ours)
    assert found(EmbeddingClient().settings) == ours
    monkeypatch.setenv(f"AISEARCH_{name}", "  ")
    assert found(EmbeddingClient().settings) == others
    monkeypatch.delenv(f"OPENSEARCH_{name}")
    monkeypatch.setenv(f"AISEARCH_{name}", ours)
    assert found(EmbeddingClient().settings) == ours


WHO = [
    ({"OPENSEARCH_API_KEY": "OS-wrong"}, {}, "Check OPENSEARCH_API_KEY, and"),
    ({"AISEARCH_API_KEY": "OS-wrong"}, {}, "Check AISEARCH_API_KEY, and"),
    (
        {"AISEARCH_API_KEY": "OS-old", "OPENSEARCH_API_KEY": "OS-right"},
        {},
        "Check AISEARCH_API_KEY (which goes before OPENSEARCH_API_KEY), and",
    ),
    ({"OPENSEARCH_API_KEY": "OS-right"}, {"api_key": "OS-wrong"}, "Check api_key (OPENSEARCH_API_KEY), and"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("variables", "arguments", "words"), WHO)
def test_a_401_names_where_the_key_came_from(
    monkeypatch: pytest.MonkeyPatch, kind: Any, variables: dict[str, str], arguments: dict[str, str], words: str
) -> None:
    """Who has two of them looks at the right one."""
    monkeypatch.delenv("OPENSEARCH_API_KEY")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Emulator(vectors="lexical", api_key="OS-right") as emulator:
        made = kind(endpoint=emulator.url, **arguments)
        with pytest.raises(AuthenticationError) as caught:
            (made if isinstance(made, EmbeddingClient) else made.client).embed(["tea"])
    assert words in str(caught.value)
    assert "OS-" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_quotes_are_no_part_of_an_endpoint(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    """Neither in a variable nor in an argument."""
    for made in (kind(endpoint='"host.example"'), kind(endpoint=" 'https://host.example' ")):
        client = made if isinstance(made, EmbeddingClient) else made.client
        assert client.settings.endpoint == "https://host.example"
    monkeypatch.setenv("AISEARCH_ENDPOINT", "no host")
    with pytest.raises(ConfigurationError, match=r"endpoint \(AISEARCH_ENDPOINT\) must be a host name"):
        kind()


@pytest.mark.parametrize("kind", KINDS[1:] if KINDS[0] is EmbeddingClient else KINDS)
def test_settings_have_names(kind: Any) -> None:
    """Who gives one without is told so, and not shown it."""
    with pytest.raises(TypeError, match=r"takes its settings by name: model(_name)?=...") as caught:
        kind("OS-secret")
    assert "OS-secret" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_aisearch_alone_is_enough(monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Any]) -> None:
    """Both adapters read the same variables."""
    for name in ("API_KEY", "ENDPOINT"):
        monkeypatch.setenv(f"AISEARCH_{name}", {"API_KEY": "OS-ai", "ENDPOINT": "ai.example"}[name])
        monkeypatch.delenv(f"OPENSEARCH_{name}")
    assert environment_is_set()
    made = kind()
    assert (made.settings if kind is EmbeddingClient else made).endpoint == "https://ai.example"


@pytest.mark.parametrize("name", ["API_KEY", "ENDPOINT"])
def test_what_is_missing_names_both_variables(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The error says which variables there are; one that is set to nothing is told apart."""
    monkeypatch.delenv(f"OPENSEARCH_{name}")
    with pytest.raises(ConfigurationError, match=f"OPENSEARCH_{name} or AISEARCH_{name}"):
        EmbeddingClient()
    monkeypatch.setenv(f"AISEARCH_{name}", "")
    with pytest.raises(ConfigurationError, match=f"AISEARCH_{name} is blank"):
        EmbeddingClient()


CLUSTERS = [
    "https://search-mine-abc.eu-west-1.es.amazonaws.com",
    "vpc-mine-abc.eu-west-1.es.amazonaws.com",
    "https://abc.eu-west-1.aoss.amazonaws.com",
    "https://SEARCH-mine.eu-west-1.ES.AMAZONAWS.COM/",
    "https://search-mine.cn-north-1.es.amazonaws.com.cn",
    "https://search-mine.aos.us-east-1.on.aws",
    "http://localhost:9200",
    "localhost:9200",
    "https://admin:admin@localhost:9200",
    "https://opensearch.example:9300",
    "https://10.0.0.1:9600/_cluster/health",
    "https://[::1]:9200",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["OPENSEARCH_ENDPOINT", "AISEARCH_ENDPOINT"])
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_cluster_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Any], variable: str, cluster: str
) -> None:
    """The error says what the variable names, and where this service's endpoint belongs; nothing is sent."""
    monkeypatch.setenv(variable, cluster)
    with pytest.raises(ConfigurationError, match=r"cluster of opensearch\.org") as caught:
        kind()
    for words in (variable, "AISEARCH_ENDPOINT", "endpoint="):
        assert words in str(caught.value)
    assert "admin" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://default-abc.platform-cn-shanghai.opensearch.aliyuncs.com",
        "https://default-abc.platform-cn-shanghai.opensearch.aliyuncs.com:9200",
        "http://127.0.0.1:8080",
        "https://es.amazonaws.com.example",
        "https://api.example:19200",
    ],
)
def test_what_is_no_cluster_is_taken(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """The service's own hosts are taken whatever the port, and so is any other host."""
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", endpoint)
    assert EmbeddingClient().settings.endpoint == endpoint


def test_who_says_it_means_it() -> None:
    """An argument is meant for this service: an emulator may listen where clusters do."""
    assert EmbeddingClient(endpoint="http://127.0.0.1:9200").settings.endpoint == "http://127.0.0.1:9200"


def test_aisearch_wins_over_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a cluster in the environment too needs nothing but the other variable."""
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", "https://localhost:9200")
    monkeypatch.setenv("AISEARCH_ENDPOINT", "ai.example")
    assert EmbeddingClient().settings.endpoint == "https://ai.example"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [str, Path])
def test_a_tilde_is_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Callable[..., Any], form: Callable[[str], Any]
) -> None:
    """`~` in `cache=` and `ca_bundle=` is what a shell makes of it, and not a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "ca.pem").touch()
    made = kind(cache=form("~/vectors.db"), ca_bundle=form("~/ca.pem"))
    assert (tmp_path / "vectors.db").exists()
    assert (made.settings if kind is EmbeddingClient else made).ca_bundle == str(tmp_path / "ca.pem")
    made.close()
