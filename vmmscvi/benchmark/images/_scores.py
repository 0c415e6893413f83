"""Scores of the clusters of images, as in the paper's Table 2."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmmscvi.benchmark._measures import agreement, merge_by_label
from vmmscvi.benchmark._schema import ARI, N_CLUSTERS, NMI


class ClusterScores(NamedTuple):
    """Agreement of clusters with labels.

    Attributes
    ----------
    n_clusters
        Clusters that some image is assigned to.
    accuracy
        Share of images whose label is the one that most images of their cluster have, as in the paper.
    nmi_merged, ari_merged
        Of clusters that are merged by that label: they use the labels.
    nmi, ari
        Of the clusters as they are.
    """

    n_clusters: float
    accuracy: float
    nmi_merged: float
    ari_merged: float
    nmi: float
    ari: float


def score_clusters(labels: NDArray[np.int64], clusters: NDArray[np.intp]) -> ClusterScores:
    """Compare clusters with labels, shape ``(n,)`` each."""
    merged_names = merge_by_label(labels, clusters)
    merged = agreement(labels.astype(str), merged_names)
    own = agreement(labels, clusters)
    return ClusterScores(
        n_clusters=own[N_CLUSTERS],
        accuracy=float(np.mean(labels.astype(str) == merged_names)),
        nmi_merged=merged[NMI],
        ari_merged=merged[ARI],
        nmi=own[NMI],
        ari=own[ARI],
    )
