#!/usr/bin/env bash
# Makes the environment if need be and runs the tests. Arguments go to pytest:
#   scripts/test.sh                     all but the slow ones
#   scripts/test.sh -m slow             the slow ones
#   scripts/test.sh tests/test_cli.py   one file
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec .venv/bin/python -m pytest "$@"
