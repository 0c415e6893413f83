"""How unusual a cell is among the reference cells of its own cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POOLED_COUNTS = 30.0
"""Number of cells of a cluster that the cells of all clusters count as."""


@dataclass(frozen=True)
class ClusterCalibration:
    """Fits of reference cells to their clusters, higher is better, on a scale that all clusters share.

    A cluster of few cells says little about its tail: its calibration is shrunk towards that of all clusters.

    Attributes
    ----------
    clusters
        Code of the cluster of each reference cell, shape ``(n,)``.
    fits
        How well each fits, shape ``(n,)``.
    """

    clusters: NDArray[np.integer]
    fits: NDArray[np.floating]

    def novelty(self, clusters: NDArray[np.integer], fits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of reference cells of a cell's own cluster that fit better, shape ``(m,)``.

        Parameters
        ----------
        clusters, fits
            Of the cells to be scored, shape ``(m,)``.
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
    """Share of reference values above each of ``values``, shape ``(m,)``.

    Parameters
    ----------
    reference
        Shape ``(n,)``, in any order.
    values
        Shape ``(m,)``.
    """
    n_above = len(reference) - np.searchsorted(np.sort(reference), values, side="right")
    return np.asarray(n_above / len(reference), dtype=np.float64)
