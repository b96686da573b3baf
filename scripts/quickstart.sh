#!/usr/bin/env bash
# Makes .venv, installs the package, and trains CarRacing in its dream with the config quick.
# Further arguments go to the pipeline, e.g. --seed 1. To continue an interrupted run, repeat the command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh all
exec worldmodels pipeline --config quick --run runs/quick "$@"
