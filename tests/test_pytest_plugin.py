"""The pytest plugin, as a user's test run has it: in a process of its own, found by its entry point."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parent.parent / "docs" / "pytest-plugin.md"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's project, on a machine where other things are set."""
    monkeypatch.setenv("AISEARCH_ENDPOINT", "https://service.invalid")
    monkeypatch.setenv("AISEARCH_API_KEY", "OS-a-real-key")
    monkeypatch.setenv("OPENSEARCH_ENDPOINT", "https://service.invalid")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com")
    return pytester


def passes(suite: pytest.Pytester, code: str, count: int, *options: str) -> pytest.RunResult:
    """Run a test file as a user does; so many tests pass."""
    suite.makepyfile(code)
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=60)
    result.assert_outcomes(passed=count)
    return result


def test_the_page_is_a_test_file_that_passes(suite: pytest.Pytester) -> None:
    """What the docs show is a file that runs as it stands."""
    parts = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    passes(suite, "\n".join(parts), 3, "--strict-markers")


def test_marks_give_the_emulator_its_settings(suite: pytest.Pytester) -> None:
    """On a test, on its class: the nearest decides each setting; without a mark nothing is set."""
    passes(
        suite,
        """
        import pytest
        from opensearch_embed import EmbeddingClient, RateLimited

        @pytest.mark.opensearch_emulator(qps=1, api_key="OS-of-the-class")
        class TestMarked:
            @pytest.mark.opensearch_emulator(qps=None, window="bucket")
            def test_nearest(self, opensearch_emulator):
                EmbeddingClient(qps=None).embed([f"text {number}" for number in range(320)])
                assert opensearch_emulator.api_key == "OS-of-the-class"
                assert opensearch_emulator.usage.outcomes == {200: 10}

            def test_class(self, opensearch_emulator):
                with pytest.raises(RateLimited):
                    EmbeddingClient(qps=None, retry_timeout=0.2).embed([f"text {number}" for number in range(320)])

        def test_none(opensearch_emulator):
            assert opensearch_emulator.api_key == "OS-local"
        """,
        3,
        "--strict-markers",
    )


def test_a_mark_alone_gives_the_emulator(suite: pytest.Pytester) -> None:
    """Of a module, too: no test with it goes to whatever the environment names."""
    passes(
        suite,
        """
        import pytest
        from opensearch_embed import EmbeddingClient

        pytestmark = pytest.mark.opensearch_emulator(api_key="OS-of-the-module")

        def test_function():
            with EmbeddingClient() as client:
                assert client.settings.endpoint.startswith("http://127.0.0.1")
                assert client.settings.api_key.get_secret_value() == "OS-of-the-module"
                client.embed(["tea"])

        @pytest.mark.parametrize("number", [1, 2])
        def test_with_others(number, tmp_path):
            EmbeddingClient().embed(["tea"])
        """,
        3,
        "--strict-markers",
    )


def test_a_mark_that_makes_no_sense_is_told(suite: pytest.Pytester) -> None:
    """A setting without a name, and one that there is not."""
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.opensearch_emulator(5)
        def test_one(opensearch_emulator): pass

        @pytest.mark.opensearch_emulator(quota=5)
        def test_two(opensearch_emulator): pass
        """
    )
    result = suite.runpytest_subprocess("-p", "no:cacheprovider", timeout=60)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*have names, such as qps=5: not (5,)*", "*unexpected keyword argument 'quota'*"])


def test_every_way_to_embed_goes_to_the_emulator(suite: pytest.Pytester) -> None:
    """Core and adapters, sync and async, made with no arguments; and each test has its own emulator."""
    passes(
        suite,
        """
        import asyncio
        import pytest
        from langchain_opensearch_embed import OpenSearchEmbeddings
        from llama_index_opensearch_embed import OpenSearchEmbedding
        from opensearch_embed import EmbeddingClient

        WAYS = [
            lambda: EmbeddingClient().embed(["tea"])[0],
            lambda: asyncio.run(EmbeddingClient().aembed(["tea"]))[0],
            lambda: OpenSearchEmbeddings().embed_documents(["tea"])[0],
            lambda: OpenSearchEmbedding().get_text_embedding("tea"),
        ]

        @pytest.mark.parametrize("way", WAYS)
        def test_way(opensearch_emulator, way):
            assert way() == opensearch_emulator.vector("tea")
            assert len(opensearch_emulator.requests) == 1

        def test_there_is_no_quota(opensearch_emulator):
            EmbeddingClient(qps=None).embed([f"text {number}" for number in range(3200)])
            assert opensearch_emulator.usage.outcomes == {200: 100}
        """,
        5,
    )


def test_the_environment_is_as_before_afterwards(suite: pytest.Pytester) -> None:
    """What the fixture sets, it sets for one test; a model that the project names stays."""
    passes(
        suite,
        """
        import os

        BEFORE = dict(os.environ)
        NAMES = ("AISEARCH_ENDPOINT", "AISEARCH_API_KEY", "OPENSEARCH_ENDPOINT", "OPENSEARCH_API_KEY", "NO_PROXY")

        def test_one(opensearch_emulator, monkeypatch):
            assert os.environ["OPENSEARCH_ENDPOINT"] == opensearch_emulator.url
            assert os.environ["NO_PROXY"] == "127.0.0.1,example.com"
            assert not any(name.startswith("AISEARCH") for name in os.environ)

        def test_two():
            assert {name: os.environ.get(name) for name in NAMES} == {name: BEFORE.get(name) for name in NAMES}
        """,
        2,
    )


def test_tests_that_do_not_ask_for_it_pay_nothing(suite: pytest.Pytester) -> None:
    """The plugin is there, and neither the emulator nor an HTTP library is."""
    result = passes(
        suite,
        """
        import sys

        def test_light(request):
            assert "opensearch_embed.pytest_plugin" in sys.modules
            heavy = {"aiohttp", "requests", "numpy", "orjson", "opensearch_embed.emulator", "opensearch_embed.client"}
            assert not heavy & set(sys.modules)
        """,
        1,
        *(f"-pno:{name}" for name in ("anyio", "langsmith_plugin", "recording", "hypothesispytest", "requests_mock")),
    )
    assert result.ret == 0


def test_it_is_listed_and_can_be_left_out(suite: pytest.Pytester) -> None:
    """`--fixtures` says what it is; `-p no:opensearch_embed` takes it away."""
    suite.makepyfile("def test_one(opensearch_emulator): pass")
    listed = suite.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider", timeout=60)
    listed.stdout.fnmatch_lines(["opensearch_emulator*", "*running emulator of Alibaba Cloud OpenSearch*"])
    suite.runpytest_subprocess("-p", "no:opensearch_embed", timeout=60).assert_outcomes(errors=1)
