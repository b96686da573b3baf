"""The simulated cluster, against rounds worked by hand."""

import pytest
from simulate_cluster import seconds_of


@pytest.mark.parametrize(
    ("jobs", "workers", "head", "seconds"),
    [
        # all are submitted at 3; jobs end at 11, 12, 21; results are taken until 12, 13, 22
        ([10.0, 10.0, 10.0], 2, (1.0, 1.0), 22.0),
        ([10.0, 10.0, 10.0], 1, (0.0, 0.0), 30.0),
        ([10.0, 10.0, 10.0], 10_000, (0.0, 0.0), 10.0),
        # the head is slower than the workers: it submits until 8, and takes four results
        ([1.0] * 4, 4, (2.0, 3.0), 20.0),
        ([5.0, 1.0, 1.0], 2, (0.0, 0.5), 5.5),
    ],
)
def test_a_round(jobs, workers, head, seconds):
    assert seconds_of(jobs, workers, *head) == seconds
