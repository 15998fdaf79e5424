"""docs/configuration.md: its files, as the programs that read them do, and what it says of each."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dotenv import load_dotenv
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from langchain.embeddings import base
from langgraph.store.memory import InMemoryStore
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.embeddings.loading import load_embed_model
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError
from pydantic import SecretStr

from langchain_opensearch_embed import OpenSearchEmbeddings
from llama_index_opensearch_embed import OpenSearchEmbedding
from opensearch_embed import ConfigurationError, EmbeddingClient
from opensearch_embed.emulator import Emulator

PAGE = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The environment as it was, whatever reads a file into it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def reader(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory with the page's files, where the emulator is what the environment names."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", emulator.url)
    monkeypatch.setenv("OPENSEARCH_API_KEY", emulator.api_key)
    return tmp_path


SECTIONS = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.usefixtures("reader")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # short examples close nothing
@pytest.mark.parametrize("heading", SECTIONS)
def test_each_section_stands_alone(monkeypatch: pytest.MonkeyPatch, heading: str) -> None:
    """Whoever needs YAML copies that section's blocks, and no others."""
    monkeypatch.setattr(Settings, "_embed_model", None)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", SECTIONS[heading], re.MULTILINE | re.DOTALL))
    assert code
    exec(code, {"__name__": "__main__"})  # noqa: S102 - that is the test


# --- the environment, .env ---


@pytest.mark.usefixtures("reader")
def test_the_environment_is_read_when_an_object_is_made(emulator: Emulator) -> None:
    """What changes later changes the next object."""
    embeddings = OpenSearchEmbeddings()
    os.environ["AISEARCH_WORKSPACE"] = "later"
    embeddings.embed_query("tea")
    OpenSearchEmbeddings().embed_query("tea")
    assert [request.path.split("/")[4] for request in emulator.requests] == ["default", "later"]


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_a_file_of_variables_is_enough(emulator: Emulator, tmp_path: Path, quote: str) -> None:
    """With nothing else set, all of the page's variables are used, in quotes or not."""
    content = FILES[".env"].replace("http://127.0.0.1:8080", emulator.url).replace("OS-local", emulator.api_key)
    (tmp_path / ".env").write_text(re.sub(r"=(.*)", rf"={quote}\1{quote}", content), encoding="utf-8")
    assert load_dotenv(tmp_path / ".env")
    assert OpenSearchEmbeddings().embed_query("tea") == emulator.vector("tea", "query")
    assert emulator.requests[0].path.split("/")[4] == "search"


@pytest.mark.usefixtures("reader")
def test_variables_that_are_set_already_win(emulator: Emulator) -> None:
    """Unless the file is told to."""
    load_dotenv(".env")
    assert OpenSearchEmbeddings().endpoint == emulator.url
    load_dotenv(".env", override=True)
    assert OpenSearchEmbeddings().endpoint == "http://127.0.0.1:8080"


# --- YAML, Hydra ---


@pytest.mark.usefixtures("reader")
def test_yaml_gives_both_adapters_their_arguments() -> None:
    """Each value of the file is used; LlamaIndex has another name for the model."""
    settings = yaml.safe_load(FILES["settings.yaml"])["embeddings"]
    ours = OpenSearchEmbeddings(**settings)
    with pytest.raises(ConfigurationError, match="'model_name'"):
        OpenSearchEmbedding(**settings)
    model = settings.pop("model")
    theirs = OpenSearchEmbedding(model_name=model, **settings)
    for made in (ours, theirs):
        assert {name: getattr(made, name) for name in settings} == settings
    assert OpenSearchEmbeddings(**yaml.safe_load("qps: null")).qps is None


@pytest.mark.parametrize("mistake", ['timeout: "10"', "timeout: 10s", "api_key: ${OPENSEARCH_API_KEY}", "qsp: 20"])
@pytest.mark.usefixtures("reader")
def test_a_mistake_in_a_file_is_refused(mistake: str) -> None:
    """What YAML does not expand or turn into a number does not slip through."""
    with pytest.raises(ConfigurationError, match=r"timeout|api_key is no key|'qps'"):
        OpenSearchEmbeddings(**yaml.safe_load(mistake))


@pytest.mark.usefixtures("reader")
def test_hydra_makes_the_object(emulator: Emulator) -> None:
    """With the key from the environment; a dump of the resolved file shows it, unless it is left out of the file."""
    config = OmegaConf.load("config.yaml")
    embeddings = instantiate(config.embeddings)
    assert embeddings.qps == 20
    assert embeddings.embed_query("tea") == emulator.vector("tea", "query")
    assert emulator.api_key not in OmegaConf.to_yaml(config)
    assert emulator.api_key in OmegaConf.to_yaml(config, resolve=True)
    del config.embeddings.api_key, config.embeddings.endpoint
    assert instantiate(config.embeddings).endpoint == emulator.url
    assert emulator.api_key not in OmegaConf.to_yaml(config, resolve=True)


@pytest.mark.usefixtures("reader")
def test_hydra_says_what_was_wrong(emulator: Emulator) -> None:
    """Its error has ours as its cause, and shows no key; a variable that is not set is told by name."""
    config = OmegaConf.load("config.yaml")
    config.embeddings.chunk_size = 32
    with pytest.raises(InstantiationException, match="batch_size") as caught:
        instantiate(config.embeddings)
    assert isinstance(caught.value.__cause__, ConfigurationError)
    assert emulator.api_key not in str(caught.value)
    del os.environ["OPENSEARCH_API_KEY"]
    with pytest.raises(InterpolationResolutionError, match="OPENSEARCH_API_KEY"):
        instantiate(OmegaConf.load("config.yaml").embeddings)


# --- LangGraph ---


def imported(path: Path, name: str) -> Any:
    """Return what a file has by a name, imported as LangGraph's server imports it."""
    spec = importlib.util.spec_from_file_location("imported_by_path", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def roles_in_a_store(embed: Any, emulator: Emulator) -> list[str]:
    """Store a note, ask for it, and return the roles that were sent."""
    store = InMemoryStore(index={"embed": embed, "dims": 1024})
    store.put(("notes",), "1", {"text": "green tea is steeped at 80 °C"})
    assert store.search(("notes",), query="how hot is green tea?")[0].key == "1"
    return [request.body["input_type"] for request in emulator.requests]


def test_langgraph_json_names_an_object(reader: Path, emulator: Emulator) -> None:
    """The file is JSON, its dimension is the model's, and the object that it names keeps the roles."""
    index = json.loads(FILES["langgraph.json"])["store"]["index"]
    path, name = index["embed"].rsplit(":", 1)
    embeddings = imported(reader / path, name)
    assert index["dims"] == embeddings.dimension
    assert roles_in_a_store(embeddings, emulator) == ["document", "query"]


@pytest.mark.usefixtures("reader")
def test_a_function_sends_questions_as_documents(emulator: Emulator) -> None:
    """LangGraph has one function for both, which is why the page says to name the object."""
    embeddings = OpenSearchEmbeddings()

    def embed(texts: list[str]) -> list[list[float]]:
        return embeddings.embed_documents(list(texts))

    assert roles_in_a_store(embed, emulator) == ["document", "document"]


@pytest.mark.usefixtures("reader")
def test_a_string_is_not_known_before_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words that the page quotes."""
    others = {name: row for name, row in base._BUILTIN_PROVIDERS.items() if name != "opensearch"}
    monkeypatch.setattr(base, "_BUILTIN_PROVIDERS", others)
    with pytest.raises(ValueError, match="Provider 'opensearch' is not supported"):
        InMemoryStore(index={"embed": "opensearch:ops-text-embedding-002", "dims": 1024})


# --- LlamaIndex ---


@pytest.mark.usefixtures("reader")
def test_settings_are_what_indexes_use(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that is given no other embeds with `Settings.embed_model`."""
    monkeypatch.setattr(Settings, "_embed_model", OpenSearchEmbedding())
    index = VectorStoreIndex.from_documents([Document(text="green tea"), Document(text="a bicycle")])
    assert index.as_retriever(similarity_top_k=1).retrieve("tea")[0].text == "green tea"
    assert [request.body["input_type"] for request in emulator.requests] == ["document", "query"]


@pytest.mark.usefixtures("reader")
def test_what_is_stored_is_loaded_where_the_package_is_imported() -> None:
    """The import is what lets LlamaIndex know the class."""
    stored = OpenSearchEmbedding(qps=20, embed_batch_size=64).to_dict()
    loaded = load_embed_model(json.loads(json.dumps(stored)))
    assert (type(loaded), loaded.to_dict()) == (OpenSearchEmbedding, stored)
    code = (
        "import json, sys\n"
        "from llama_index.core.embeddings.loading import load_embed_model\n"
        "try:\n    load_embed_model(json.loads(sys.argv[1]))\n"
        "except ValueError as error:\n    print(error)\n"
        "import llama_index_opensearch_embed\n"
        "print(load_embed_model(json.loads(sys.argv[1])).qps)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, json.dumps(stored)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["Invalid Embedding name: OpenSearchEmbedding", "20.0"]


# --- secrets ---


OWN_SECRET = SimpleNamespace(get_secret_value=lambda: "OS-local")


@pytest.mark.parametrize("make", [OpenSearchEmbeddings, OpenSearchEmbedding, EmbeddingClient])
@pytest.mark.parametrize("key", [SecretStr("OS-local"), OWN_SECRET, "OS-local\n", '"OS-local"', "Bearer OS-local"])
def test_a_key_comes_in_many_wrappings(make: Any, key: Any) -> None:
    """A secret of pydantic's or another's, the content of a mounted file, quotes."""
    made = make(endpoint="api.example.com", api_key=key)
    settings = made.settings if make is EmbeddingClient else made.client.settings
    assert settings.api_key.get_secret_value() == "OS-local"
    assert "OS-local" not in repr(made)
