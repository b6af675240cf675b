# Makes the environment in .venv at the repository's root, once; sourced by the other scripts.
# PYTHON names an interpreter of 3.11 to 3.13 where `python3` is another one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${PYTHON:-}" ]; then
  for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
      >/dev/null 2>&1; then
      PYTHON=$candidate
      break
    fi
  done
fi
if [ -z "${PYTHON:-}" ]; then
  echo "asd_jax needs Python 3.11, 3.12 or 3.13; set PYTHON to such an interpreter" >&2
  exit 2
fi

# The stamp holds what was installed, so a changed requirement installs again.
wanted=$(cat setup.cfg pyproject.toml scripts/constraints.txt | cksum)
if [ "$(cat .venv/.installed 2>/dev/null || true)" != "$wanted" ]; then
  echo "Installing into .venv …"
  "$PYTHON" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint scripts/constraints.txt --editable '.[dev]'
  echo "$wanted" >.venv/.installed
fi
