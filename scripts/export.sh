#!/usr/bin/env bash
# Makes the environment that exports to a format, under build/export, and prints its interpreter.
#   scripts/export.sh onnx         build/export/onnx/bin/asd-jax export --format=onnx …
#   scripts/export.sh tflite       build/export/tflite/bin/asd-jax export --format=tflite …
# PYTHON names an interpreter, the one of .venv by default; FOLDER another place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python}
FOLDER=${FOLDER:-build/export}
JAX2ONNX=0.17.1

case "${1:-}" in
  onnx | tflite) format=$1 ;;
  *) echo "usage: scripts/export.sh onnx|tflite" >&2 && exit 2 ;;
esac
"$PYTHON" -m venv "$FOLDER/$format"
"$FOLDER/$format/bin/python" -m pip install --quiet --disable-pip-version-check \
  --editable ".[hdf5,$format]"
if [ "$format" = onnx ]; then
  # It asks for an older orbax-checkpoint, of which it uses nothing here.
  "$FOLDER/$format/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    "jax2onnx==$JAX2ONNX"
fi
echo "$FOLDER/$format/bin/python"
