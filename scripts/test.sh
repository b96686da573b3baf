#!/usr/bin/env bash
# Linters, types, then all tests. Further arguments go to pytest, e.g. -k dream.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh all,dev
ruff check
ruff format --check
mypy
exec python -m pytest -n 2 "$@"
