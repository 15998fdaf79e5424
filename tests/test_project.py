"""What people who carry this on rely on: forms, workflows and guides say what is so."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from opensearch_embed import __version__

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = re.findall(r"Python :: (3\.\d+)", str(PYPROJECT["project"]["classifiers"]))


def read(path: str) -> dict[str, Any]:
    """Return a file of .github; YAML reads a workflow's `on` as true."""
    return {str(key): value for key, value in yaml.safe_load((GITHUB / path).read_text(encoding="utf-8")).items()}


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the steps of all jobs."""
    for job in workflow["jobs"].values():
        yield from job["steps"]


# --- workflows ---


@pytest.mark.parametrize("name", ["ci", "release"])
def test_each_workflow_may_little_and_pins_its_actions(name: str) -> None:
    """A job can read the repository, and no more unless it says so; each action has a version; none waits for ever."""
    workflow = read(f"workflows/{name}.yml")
    assert workflow["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        assert "run" in step or re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_ci_is_the_same_as_at_home() -> None:
    """It runs `.ci/run` on each Python that the package says it is for."""
    [job] = read("workflows/ci.yml")["jobs"].values()
    assert {"run": "bash .ci/run"} in job["steps"]
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert (ROOT / ".ci" / "run").exists()


def test_a_release_is_built_checked_and_published_without_a_password() -> None:
    """A tag starts it; what is published is what was checked; only the last step may speak for the project."""
    workflow = read("workflows/release.yml")
    assert workflow["True"] == {"push": {"tags": ["v*"]}}
    build, publish = (workflow["jobs"][name] for name in ("build", "publish"))
    commands = "\n".join(step.get("run", "") for step in build["steps"])
    assert commands.index("make dist") < commands.index(".ci/check_wheel.py dist/*.whl")
    assert (publish["needs"], publish["environment"]) == ("build", "release")
    assert publish["permissions"] == {"id-token": "write"}
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert "password" not in str(publish)


@pytest.mark.parametrize(("tag", "code"), [(f"v{__version__}", 0), ("v99.0", 1), (__version__, 1)])
def test_a_tag_that_is_not_the_version_is_refused(tag: str, code: int) -> None:
    """The workflow's own line compares them."""
    [step] = [step for step in steps(read("workflows/release.yml")) if step.get("name") == "The tag is the version"]
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
    command = ["bash", "-c", step["run"]]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": path, "GITHUB_REF_NAME": tag}, timeout=60)
    assert done.returncode == code


# --- forms ---


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_each_form_is_one_and_warns_of_the_key(name: str) -> None:
    """The web page takes it: each field has a kind, an own id and a label. It warns of pasting the key first."""
    form = read(f"ISSUE_TEMPLATE/{name}.yml")
    assert form.keys() == {"name", "description", "labels", "body"}
    assert "Never paste your key" in form["body"][0]["attributes"]["value"]
    fields = form["body"][1:]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_a_bug_is_shown_with_the_emulator() -> None:
    """The lines to fill in run as they are."""
    fields = {field.get("id"): field for field in read("ISSUE_TEMPLATE/bug.yml")["body"]}
    exec(fields["reproduce"]["attributes"]["value"], {})  # noqa: S102 - that is the test
    assert {"versions", "reproduce", "what"} <= {name for name in fields if fields[name].get("validations")}


def test_the_forms_lead_to_the_project() -> None:
    """Their addresses are the project's, which pyproject.toml has."""
    config = read("ISSUE_TEMPLATE/config.yml")
    urls = [link["url"] for link in config["contact_links"]]
    assert len(urls) == 2
    assert all(url.startswith(PYPROJECT["project"]["urls"]["Source"] + "/") for url in urls)


# --- guides ---


def test_contributors_find_each_make_target() -> None:
    """CONTRIBUTING.md lists what the Makefile has."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert set(targets) <= listed


@pytest.mark.parametrize(
    ("target", "command"),
    [("docs", "-m mkdocs build --strict"), ("docs-serve", "-m mkdocs serve"), ("dist", "twine check --strict dist/*")],
)
def test_the_targets_run_what_they_say(target: str, command: str) -> None:
    """Folders of the same name do not keep them from running, and strictness is not lost."""
    make = ["make", "--dry-run", target]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60)
    assert f"{command}\n" in done.stdout


def test_each_path_that_the_guides_name_is_there() -> None:
    """A file or a room that is moved leaves no signpost behind."""
    for guide in ("CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"):
        text = (ROOT / guide).read_text(encoding="utf-8")
        named = re.findall(r"`([\w.]+/[\w./-]+)`|\b([A-Z]+(?:\.zh-CN)?\.md)\b", text)
        paths = {path for pair in named for path in pair if path and not path.startswith(("build/", "dist/"))}
        assert {path for path in paths if not (ROOT / path).exists()} == set(), guide


def test_the_version_is_one() -> None:
    """What is installed calls itself what is published."""
    assert PYPROJECT["project"]["version"] == __version__


def test_llamahub_finds_the_class_and_its_example() -> None:
    """The metadata that LlamaIndex's integrations have name what there is."""
    hub = PYPROJECT["tool"]["llamahub"]
    module = import_module(hub["import_path"])
    assert hub["class_authors"].keys() == set(module.__all__)
    assert hub["contains_example"] == (ROOT / "notebooks" / "llama_index.ipynb").exists()


def test_the_source_distribution_has_what_its_tests_read() -> None:
    """All that the repository has at its top goes along, but what git and hatch see to by themselves."""
    included = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"])
    assert sorted(name for name in included if not (ROOT / name).exists()) == []
    needed = {"CONTRIBUTING.md", "SECURITY.md", "README.md", "README.zh-CN.md", "mkdocs.yml", ".github", ".ci", "docs"}
    assert needed <= included
