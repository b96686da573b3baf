#!/usr/bin/env bash
# Linters, types and all tests. Further arguments go to pytest, e.g. -k dream.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh all,dev
unset PYTHONDONTWRITEBYTECODE  # a dozen processes would compile every module anew
SECONDS=0
trap 'echo "linters, types and tests took $((SECONDS / 60)) min $((SECONDS % 60)) s"' EXIT
ruff check
ruff format --check
mypy &
types=$! failed=0
python -m pytest -n 2 --dist worksteal "$@" || failed=$?
wait "$types"
exit "$failed"
