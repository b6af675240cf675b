#!/usr/bin/env bash
# Makes the environment if need be and runs the tests, in as many processes as there are cores.
# Arguments go to pytest:
#   scripts/test.sh                     all but the slow ones
#   scripts/test.sh -m slow             the slow ones
#   scripts/test.sh tests/test_cli.py   one file
#   scripts/test.sh -p no:xdist         in one process; -n 4: in four
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
processes=(--numprocesses=auto --dist=worksteal)
for argument in "$@"; do
  case $argument in
    no:xdist | -pno:xdist | -n* | --numprocesses* | --pdb) processes=() ;;
  esac
done
exec .venv/bin/python -m pytest "${processes[@]}" "$@"
