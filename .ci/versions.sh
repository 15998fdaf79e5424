#!/usr/bin/env bash
# What must stay alive, on each other Python from 3.11 on that is to be had: .ci/versions.sh
# A venv each, beside the first one, which make makes. What is not to be had is said.
set -euo pipefail
cd "$(dirname "$0")/.."

of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

# By name on the path, or where pyenv keeps them.
found() {
    local wanted=$1 candidate
    for candidate in "python$wanted" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$wanted".*/bin/python; do
        if [ "$(of "$candidate")" = "$wanted" ]; then
            command -v "$candidate"
            return
        fi
    done
}

mine=$(of "${PYTHON:-python3}")
few="tests/test_alive.py tests/test_http_belongs.py tests/test_lifecycle.py tests/test_stream.py tests/test_telemetry.py"
few="$few tests/test_bulk_decoders.py"
newest=
for version in ${VERSIONS:-3.14 3.13 3.12 3.11}; do
    if [ "$version" = "$mine" ]; then
        echo "Python $version is what \`make test\` and \`make alive\` run on."
        newest=${newest:-$version}
        continue
    fi
    python=$(found "$version")
    if [ -z "$python" ]; then
        echo "Python $version is not to be had here: NOT TRIED."
        continue
    fi
    # The newest that there is runs all of what must stay alive, those between a part of it.
    tests=$few
    if [ -z "$newest" ]; then
        newest=$version
        tests="$few tests/alive"
    fi
    echo "Python $version ($python): $tests"
    make --silent PYTHON="$python" VENV=".venv-$version" ".venv-$version/.group-test"
    # shellcheck disable=SC2086
    ".venv-$version/bin/python" -m pytest ${TEST_OPTIONS:-} --quiet --numprocesses=auto $tests
done
