"""Novelty within a cluster: a rate of false alarms for every cluster, small ones too."""

from __future__ import annotations

import numpy as np
import pytest

from vmmscvi._calibration import POOLED_COUNTS, ClusterCalibration, share_above


def test_share_above_counts_values_that_are_larger() -> None:
    np.testing.assert_allclose(
        share_above(np.array([3.0, 1, 2]), np.array([0.0, 1, 2.5, 4])), [1, 2 / 3, 1 / 3, 0]
    )


def test_every_large_cluster_has_the_nominal_share_of_false_alarms() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 1], [4000, 2000])
    fits = np.concatenate([rng.normal(0, 1, 4000), rng.normal(-5, 2, 2000)])  # one fits worse throughout
    novelty = ClusterCalibration(clusters, fits).novelty(clusters, fits)
    for cluster in (0, 1):
        assert (novelty[clusters == cluster] > 0.95).mean() == pytest.approx(0.05, abs=0.015)


def test_a_cluster_of_few_cells_borrows_from_all() -> None:
    clusters = np.array([0] * 1000 + [1])
    fits = np.concatenate([np.linspace(-1, 0, 1000), [-0.5]])
    novelty = ClusterCalibration(clusters, fits).novelty(np.array([1]), np.array([-0.6]))
    pooled = share_above(fits, np.array([-0.6]))
    expected = (1 * 1.0 + POOLED_COUNTS * pooled) / (1 + POOLED_COUNTS)
    np.testing.assert_allclose(novelty, expected)


def test_a_cluster_without_reference_cells_is_compared_with_all() -> None:
    calibration = ClusterCalibration(np.zeros(10, int), np.arange(10.0))
    np.testing.assert_allclose(calibration.novelty(np.array([3]), np.array([4.5])), [0.5])
