"""The neighbour graph of an embedding, with UMAP and Leiden clusters, for figures and comparisons."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from numpy.typing import NDArray

from vmmscvi._threads import training_threads_kept

N_NEIGHBORS = 15


def neighbor_graph(embedding: NDArray[np.float32], seed: int) -> AnnData:
    """Return an AnnData with only the embedding, shape ``(n, p)``, and its nearest neighbours."""
    n_neighbors = min(N_NEIGHBORS, len(embedding) - 1)
    graph = AnnData(obsm={"X": embedding}, shape=(len(embedding), 0))
    # exact neighbours, because approximate ones fail above some 8,000 cells with some library versions
    with training_threads_kept():
        sc.pp.neighbors(graph, n_neighbors=n_neighbors, use_rep="X", transformer="sklearn", random_state=seed)
    return graph


def umap(graph: AnnData, seed: int) -> NDArray[np.float32]:
    """Return UMAP coordinates, shape ``(n, 2)``."""
    with training_threads_kept():
        sc.tl.umap(graph, random_state=seed)
    return np.asarray(graph.obsm["X_umap"], dtype=np.float32)


def leiden(graph: AnnData, seed: int, resolution: float = 1.0) -> pd.Categorical | None:
    """Return Leiden clusters, or ``None`` if igraph is not installed."""
    if find_spec("igraph") is None:
        return None
    sc.tl.leiden(
        graph, resolution=resolution, flavor="igraph", n_iterations=2, directed=False, random_state=seed
    )
    return pd.Categorical(graph.obs["leiden"])
