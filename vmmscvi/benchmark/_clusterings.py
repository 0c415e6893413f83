"""Clusterings of an embedding by other means: Leiden, K-means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmmscvi.benchmark._schema import LEIDEN_RESOLUTIONS

if TYPE_CHECKING:
    from anndata import AnnData

KMEANS_STARTS = 10


def neighbor_graph(z: NDArray[np.float32], seed: int) -> AnnData:
    """Return an AnnData with the graph of the 15 exact nearest neighbours of ``z``, shape ``(n, p)``."""
    from vmmscvi import _neighbors

    return _neighbors.neighbor_graph(z, seed)


def leiden(graph: AnnData, resolution: float, seed: int) -> NDArray[np.str_]:
    """Leiden's clusters of a graph, shape ``(n,)``, with the settings that scanpy recommends."""
    from vmmscvi import _neighbors

    clusters = _neighbors.leiden(graph, seed, resolution)
    if clusters is None:
        raise ImportError("Leiden needs igraph: pip install 'vmmscvi[leiden]'.")
    return np.asarray(clusters, dtype=str)


def leiden_best(graph: AnnData, labels: ArrayLike, seed: int) -> tuple[NDArray[np.str_], float]:
    """Leiden's clusters at the resolution of 0.1, 0.2, ..., 2 with the best NMI, as scIB does; uses labels.

    Returns
    -------
    Clusters, shape ``(n,)``, and the resolution; the smallest one of several best.
    """
    from sklearn.metrics import normalized_mutual_info_score

    found = {resolution: leiden(graph, resolution, seed) for resolution in LEIDEN_RESOLUTIONS}
    nmi = {r: normalized_mutual_info_score(labels, clusters) for r, clusters in found.items()}
    best = max(nmi, key=nmi.__getitem__)
    return found[best], best


def kmeans(z: NDArray[np.float32], labels: ArrayLike, seed: int) -> NDArray[np.str_]:
    """K-means with as many clusters as there are labels, shape ``(n,)``."""
    from sklearn.cluster import KMeans

    n_types = len(np.unique(np.asarray(labels)))
    return np.asarray(KMeans(n_types, n_init=KMEANS_STARTS, random_state=seed).fit_predict(z), dtype=str)
