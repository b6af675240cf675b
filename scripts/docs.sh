#!/usr/bin/env bash
# Makes the environment if need be and builds the API pages from the docstrings, into build/api
# or the folder named. Needs no network once the environment is there.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec .venv/bin/python scripts/api_pages.py "${1:-build/api}"
