#!/usr/bin/env bash
# The tests of what users run, with the lowest version that is allowed of each dependency: .ci/lowest.sh
# Without those that need more around the plugin than it asks for itself: other packages' lowest versions are not ours.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-lowest
limits=$venv/constraints.txt
if [ ! -e $venv/.installed ] || [ pyproject.toml -nt $venv/.installed ]; then
    rm -rf $venv
    "${PYTHON:-python3}" -m venv $venv
    "$venv/bin/python" - >"$limits" <<'LOWEST'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
highest = {}
for needed in [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]:
    if bound := re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)", needed):
        highest[bound[1]] = max(highest.get(bound[1], ""), bound[2], key=lambda one: [int(n) for n in one.split(".") if n])
print(*(f"{name}=={version}" for name, version in highest.items()), sep="\n")
LOWEST
    "$venv/bin/python" -m pip --disable-pip-version-check --quiet install --constraint "$limits" \
        --editable ".[all]" pytest pytest-asyncio pytest-cov pytest-rerunfailures pytest-socket pytest-timeout pytest-xdist \
        hypothesis nest-asyncio opentelemetry-sdk psutil pyrate-limiter requests-mock responses trustme vcrpy
    touch $venv/.installed
fi
tr '\n' ' ' <"$limits"
echo
beyond="docs langchain langchain_provider langchain_stores llama_index_stores in_a_server migrating configuration
    emulator_compatible metadata project translation"
ignored=()
for name in $beyond; do ignored+=("--ignore=tests/test_$name.py"); done
echo "Not run with these: test_${beyond//[[:space:]]/ }" | tr -s ' '
# Old versions of others warn of what they did themselves.
# shellcheck disable=SC2086
"$venv/bin/python" -m pytest ${TEST_OPTIONS:-} --quiet --numprocesses=auto --override-ini=filterwarnings=default \
    --ignore=tests/alive --ignore=tests/browser --ignore=tests/cluster "${ignored[@]}" ${TESTS:-}
