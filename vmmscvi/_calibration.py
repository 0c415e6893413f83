"""Calibration of novelty by the reference cells of each cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POOLED_COUNTS = 30.0
"""Weight of the calibration of all clusters, in cells of a cluster."""


@dataclass(frozen=True)
class ClusterCalibration:
    """Fits of reference cells to their clusters, on a scale that all clusters share; higher is better.

    Few cells say little about the tail of a cluster, so the calibration of small clusters is shrunk towards
    that of all clusters.

    Attributes
    ----------
    clusters
        Code of the cluster of each reference cell, shape ``(n,)``.
    fits
        Fit of each reference cell to its cluster, shape ``(n,)``.
    """

    clusters: NDArray[np.integer]
    fits: NDArray[np.floating]

    def novelty(self, clusters: NDArray[np.integer], fits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the share of reference cells of each cell's cluster that fit better.

        Parameters
        ----------
        clusters, fits
            Clusters and fits of the cells to score, shape ``(m,)``.

        Returns
        -------
        numpy.ndarray
            Shares of shape ``(m,)``.
        """
        novelty = share_above(self.fits, fits)
        for cluster in np.unique(clusters):
            of_cluster = self.fits[self.clusters == cluster]
            if len(of_cluster):
                cells = clusters == cluster
                own = share_above(of_cluster, fits[cells])
                n = len(of_cluster)
                novelty[cells] = (n * own + POOLED_COUNTS * novelty[cells]) / (n + POOLED_COUNTS)
        return novelty


def share_above(reference: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the share of reference values above each value.

    Parameters
    ----------
    reference
        Reference values in any order, shape ``(n,)``.
    values
        Values to compare, shape ``(m,)``.

    Returns
    -------
    numpy.ndarray
        Shares of shape ``(m,)``.
    """
    n_above = len(reference) - np.searchsorted(np.sort(reference), values, side="right")
    return np.asarray(n_above / len(reference), dtype=np.float64)
