#!/usr/bin/env bash
# Linters, types, then all tests. Further arguments go to pytest, e.g. -k dream.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh all,dev
SECONDS=0
trap 'echo "linters, types and tests took $((SECONDS / 60)) min $((SECONDS % 60)) s"' EXIT
ruff check
ruff format --check
mypy
python -m pytest -n 2 "$@"
