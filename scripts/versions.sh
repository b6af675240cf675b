#!/usr/bin/env bash
# Tests the lowest and the newest versions that setup.cfg allows, each in an environment of its own
# under build/versions. It installs gigabytes and is no part of .ci/run.
#   scripts/versions.sh            both
#   scripts/versions.sh lowest     one of them
# PYTHON names an interpreter, the one of .venv by default; FOLDER another place for environments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python}
FOLDER=${FOLDER:-build/versions}
# What depends on the interfaces of other packages, and takes minutes at most.
TESTS=(
  tests/audio tests/commands tests/config tests/data tests/evaluation tests/models/pretrained
  tests/runtime/test_progress.py tests/runtime/test_text_tables.py
  tests/scoring/test_clusters.py tests/scoring/test_threshold.py tests/scoring/test_rows.py
  tests/features/test_cache.py tests/features/test_compute.py
  tests/detectors/test_contract.py tests/training/test_fleet.py tests/test_cli.py
)

mkdir -p "$FOLDER"
if ! command -v uv >/dev/null; then
  "$PYTHON" -m venv "$FOLDER/uv"
  "$FOLDER/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
  PATH="$(cd "$FOLDER/uv/bin" && pwd):$PATH"
fi
for which in "${@:-lowest newest}"; do
  for versions in $which; do
    case $versions in
      lowest) resolution=lowest-direct ;;
      newest) resolution=highest ;;
      *) echo "versions are lowest or newest, not $versions" >&2 && exit 2 ;;
    esac
    environment="$FOLDER/$versions"
    uv venv --quiet --clear --python "$PYTHON" "$environment"
    uv pip install --quiet --python "$environment" --resolution "$resolution" \
      --editable '.[augment,download,hdf5]'
    # Tools of the tests, and a library that they compare with, have no bounds.
    uv pip install --quiet --python "$environment" librosa pytest
    echo "== $versions"
    uv pip freeze --quiet --python "$environment" --exclude-editable
    "$environment/bin/python" -m pytest -p no:cacheprovider "${TESTS[@]}"
  done
done
