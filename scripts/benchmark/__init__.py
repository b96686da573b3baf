"""The benchmark of scripts/benchmark.py."""

import worldmodels  # noqa: F401  (sets OMP_WAIT_POLICY, which torch reads when it loads)
