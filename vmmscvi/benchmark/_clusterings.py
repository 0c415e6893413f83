"""Clusterings of an embedding by other means: Leiden, K-means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmmscvi.benchmark._schema import LEIDEN_RESOLUTIONS

N_NEIGHBORS = 15
KMEANS_STARTS = 10


def neighbor_graph(z: NDArray[np.float32], seed: int) -> Any:
    """Return an AnnData with the graph of the 15 exact nearest neighbours of ``z``, shape ``(n, p)``."""
    import scanpy as sc
    from anndata import AnnData

    graph = AnnData(obsm={"z": z}, shape=(len(z), 0))
    n_neighbors = min(N_NEIGHBORS, len(z) - 1)
    sc.pp.neighbors(graph, n_neighbors=n_neighbors, use_rep="z", transformer="sklearn", random_state=seed)
    return graph


def leiden(graph: Any, resolution: float, seed: int) -> NDArray[np.str_]:
    """Leiden's clusters of a graph, shape ``(n,)``, with the settings that scanpy recommends."""
    import scanpy as sc

    sc.tl.leiden(
        graph, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed
    )
    return np.asarray(graph.obs["leiden"].to_numpy(), dtype=str)


def leiden_best(graph: Any, labels: ArrayLike, seed: int) -> tuple[NDArray[np.str_], float]:
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
