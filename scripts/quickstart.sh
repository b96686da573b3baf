#!/usr/bin/env bash
# From a fresh clone to a car that has learnt in its own dream: environment, then all stages.
# Further arguments go to the pipeline, e.g. --seed 1. The same command again continues.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh all
exec worldmodels pipeline --config quick --run runs/quick "$@"
