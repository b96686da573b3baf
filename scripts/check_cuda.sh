#!/usr/bin/env bash
# Runs the tests of a CUDA GPU and measures it, each for at most 4 minutes; writes runs/cuda/benchmark.json.
# Uses python3 if it has all packages, otherwise makes .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
refuse() {
    echo "error: $1" >&2
    exit 2
}
[ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1 || refuse "this machine has no GPU of CUDA"
export PYTHONPATH="$PWD:$PWD/scripts${PYTHONPATH:+:$PYTHONPATH}"
complete='import beartype, pytest, torch, worldmodels.config; assert torch.cuda.is_available()'
if ! python3 -c "$complete" 2>/dev/null; then
    source scripts/environment.sh box2d,dev
    python3 -c "$complete" 2>/dev/null || refuse "this PyTorch finds no GPU of CUDA: install its CUDA build, see pytorch.org"
fi
export WORLDMODELS_TEST_GPU="${CUDA_VISIBLE_DEVICES:-0}" SDL_VIDEODRIVER=dummy failed=0
timeout 240 python3 -m pytest -q -m cuda -p no:cacheprovider tests/test_device.py tests/acting/test_dream_batch.py || failed=$?
timeout 240 python3 scripts/benchmark.py --quick --parts gpu --out runs/cuda
exit "$failed"
