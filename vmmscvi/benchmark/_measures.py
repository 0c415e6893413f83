"""How well clusters agree with annotated types."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmmscvi.benchmark._schema import ACCURACY, AMI, ARI, N_CLUSTERS, NMI


def agreement(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float]:
    """Compare clusters with labels, shape ``(n,)`` each.

    Returns
    -------
    Number of clusters, normalised mutual information (arithmetic mean), adjusted Rand index, adjusted mutual
    information (which the paper prints as ARI) and accuracy, see :func:`accuracy`.
    """
    from sklearn import metrics

    labels, clusters = np.asarray(labels), np.asarray(clusters)
    return {
        N_CLUSTERS: float(len(np.unique(clusters))),
        NMI: float(metrics.normalized_mutual_info_score(labels, clusters)),
        ARI: float(metrics.adjusted_rand_score(labels, clusters)),
        AMI: float(metrics.adjusted_mutual_info_score(labels, clusters)),
        ACCURACY: accuracy(labels, clusters),
    }


def accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Share of cells that are in the one cluster given to their label.

    Every label gets one cluster at most, and every cluster one label, so that the share is largest (Hungarian
    algorithm).
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(np.asarray(labels), np.asarray(clusters))
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def merge_by_label(labels: ArrayLike, clusters: ArrayLike) -> NDArray[np.str_]:
    """Merge the clusters whose cells have the same label for the most part, as the paper does.

    This uses the labels: scores of merged clusters can be compared with the paper, not with other
    clusterings. Of labels with equally many cells in a cluster the first in alphabetical order counts.

    Returns
    -------
    For every cell the label that its cluster is merged into, shape ``(n,)``.
    """
    from sklearn.metrics.cluster import contingency_matrix

    names = np.unique(np.asarray(labels))
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    majority = contingency_matrix(np.asarray(labels), np.asarray(clusters)).argmax(axis=0)
    merged: NDArray[np.str_] = names[majority[codes]].astype(str)
    return merged
