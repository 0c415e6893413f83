"""The search for parts of clusters, and for the tree of parts and clusters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from vmmscvi.priors._cluster_names import named_in_order
from vmmscvi.priors._embeddings import as_finite_matrix
from vmmscvi.priors._evidence import Evidence, Statistics, Wishart
from vmmscvi.priors._learned_wishart import most_likely_wishart, whitening_of_clusters
from vmmscvi.priors._tree_joining import join
from vmmscvi.priors.cluster_tree import ClusterTree
from vmmscvi.priors.coarsened import N_EFFECTIVE, fit_coarsened_mixture

LEAVES_PER_CLUSTER = 20
"""Initial number of components of the search within a cluster."""
LARGEST_SAMPLE = 20_000
"""Largest number of cells of a cluster in the search for parts; other cells are assigned to its result."""


def fit_cluster_tree(
    z: Tensor | NDArray[Any],
    clusters: pd.Series,
    n_effective: float = 10_000.0,
    wishart_scale_factor: float | None = None,
    seed: int = 0,
) -> ClusterTree:
    """Search for parts of every cluster, and join all parts to a tree.

    Parts of the same cluster are joined first, so the clusters themselves are one level of the tree.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``.
    clusters
        Cluster of every cell, length ``n_obs``. Names may have any type; they are sorted by the numbers in
        them.
    n_effective
        Granularity of the leaves: effective sample size of all data in the search for parts.
    wishart_scale_factor
        ``c`` of a Wishart prior on precisions with scale matrix ``c I``. By default the matrix is learned
        from the clusters.
    seed
        Seed of the search for parts.

    Returns
    -------
    ClusterTree
        The tree of the cells.

    Raises
    ------
    ValueError
        If lengths differ, ``z`` is not a finite matrix, a cell has no cluster, the name of a cluster could be
        that of a part or union of others, or an argument is not positive.
    """
    z = as_finite_matrix(z)
    if not n_effective > 0:
        raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
    if wishart_scale_factor is not None and not 0 < wishart_scale_factor < math.inf:
        raise ValueError(f"`wishart_scale_factor` must be positive, found {wishart_scale_factor}.")
    named = named_in_order(clusters, len(z))
    names = list(named.cat.categories)
    # a copy, because PyTorch warns about pandas' read-only array
    labels = named.cat.codes.to_numpy(copy=True)
    if wishart_scale_factor is not None:
        wishart = Wishart.of_paper(wishart_scale_factor, z.shape[1])
    else:
        z = z @ whitening_of_clusters(z, one_hot(torch.as_tensor(labels).long(), len(names)).double())
        shares = _statistics(z, labels, len(names))
        # the similarity of clusters says little about their parts: keep the prior as vague as in the paper
        weighed = Statistics(*(min(N_EFFECTIVE, len(z)) * s for s in shares))
        wishart = most_likely_wishart(weighed, excess_degrees=(1.0,))
    leaf_of_cell = np.zeros(len(z), dtype=np.int64)
    leaves: list[str] = []
    parents: list[str] = []
    for code, name in enumerate(names):
        cells = np.flatnonzero(labels == code)
        parts = _parts(z[cells], min(1.0, n_effective / len(z)), wishart, seed)
        n_parts = int(parts.max()) + 1
        leaf_of_cell[cells] = len(leaves) + parts
        leaves += [name] if n_parts == 1 else [f"{name}.{i}" for i in range(n_parts)]
        parents += [name] * n_parts
    merges, thresholds = join(_statistics(z, leaf_of_cell, len(leaves)), parents, wishart)
    assignments = pd.Series(pd.Categorical.from_codes(leaf_of_cell, categories=leaves), index=clusters.index)
    return ClusterTree(tuple(leaves), tuple(parents), merges, thresholds, assignments)


def _parts(z: Tensor, power: float, wishart: Wishart, seed: int) -> NDArray[np.int64]:
    """Part of every cell of one cluster, numbered by size; all 0 if the cluster is not divided."""
    n_components = min(LEAVES_PER_CLUSTER, len(z) // 10)
    if n_components < 2:
        return np.zeros(len(z), dtype=np.int64)
    sample = z
    if len(z) > LARGEST_SAMPLE:
        sample = z[np.random.default_rng(seed).choice(len(z), LARGEST_SAMPLE, replace=False)]
    n_effective = power * len(sample)
    c, df = wishart
    r = fit_coarsened_mixture(sample, n_components, n_effective, c, seed, 1, df).responsibilities
    if len(z) > len(sample):
        statistics = Evidence(sample, n_effective, wishart).statistics(r)
        r = Evidence(z, power * len(z), wishart).assign(statistics)
    assigned = r.argmax(1).numpy()
    used, parts, counts = np.unique(assigned, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(used), dtype=np.int64)
    rank[order] = np.arange(len(used))
    return np.asarray(rank[parts], dtype=np.int64)


def _statistics(z: Tensor, leaf_of_cell: NDArray[np.int64], n_leaves: int) -> Statistics:
    """Sufficient statistics of the leaves as shares that sum to one cell."""
    members = [z[leaf_of_cell == leaf] for leaf in range(n_leaves)]
    return Statistics(
        torch.tensor([len(cells) for cells in members], dtype=torch.float64) / len(z),
        torch.stack([cells.sum(0) for cells in members]) / len(z),
        torch.stack([cells.mT @ cells for cells in members]) / len(z),
    )
