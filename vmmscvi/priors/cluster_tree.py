r"""A hierarchy of clusters: finer ones within each cluster, coarser ones above, cut at any level.

The scale of the tree has a meaning of its own. Two groups of cells are told apart if the classification
likelihood of :mod:`vmmscvi.priors.coarsened` prefers two components to one, and that depends on how many
cells the data count as. Every merge of the tree stands at the number of effective cells up to which the two
sides are one cluster: few for groups that are far apart, many for groups that hardly differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from vmmscvi.priors._cluster_names import in_order, named_in_order
from vmmscvi.priors._embeddings import as_finite_matrix
from vmmscvi.priors._evidence import Evidence, Statistics, Wishart, merge_gain
from vmmscvi.priors._learned_wishart import most_likely_wishart, whitening_of_clusters
from vmmscvi.priors.coarsened import N_EFFECTIVE, fit_coarsened_mixture

LEAVES_PER_CLUSTER = 20
"""Components that the search within a cluster starts from."""
LARGEST_SAMPLE = 20_000
"""Cells that the tree is fitted to at most; the others are assigned to its leaves."""
SMALLEST_SCALE, LARGEST_SCALE, STEPS_PER_DECADE = 1.0, 1e7, 8


@dataclass(frozen=True)
class ClusterTree:
    """Clusters within clusters.

    Leaves are numbered from 0; merge ``i`` makes node ``n_leaves + i`` of two earlier nodes, as in SciPy.

    Parameters
    ----------
    leaves
        Names of the leaves: ``"3"`` for cluster 3 where it has no parts, else ``"3.0"``, ``"3.1"``, ...
    clusters
        For each leaf, the name of the cluster that it is, or is a part of.
    merges
        Nodes that are joined, finest first, shape ``(n_leaves - 1, 2)``.
    n_effective
        For each merge, the number of effective cells up to which its two sides are one cluster, shape
        ``(n_leaves - 1,)``; never increasing.
    assignments
        Leaf of every cell, or missing: categorical whose categories are ``leaves``, index ``obs_names``.
    """

    leaves: tuple[str, ...]
    clusters: tuple[str, ...]
    merges: NDArray[np.int64]
    n_effective: NDArray[np.float64]
    assignments: pd.Series

    def cut(self, n_clusters: int | None = None, n_effective: float | None = None) -> pd.Series:
        """Clusters of the cells at one level of the tree.

        Parameters
        ----------
        n_clusters
            Number of clusters, from 1 to the number of leaves.
        n_effective
            Instead: merge what so many cells do not tell apart.

        Returns
        -------
        Categorical Series of names, index ``obs_names``. A cluster of the model keeps its name, a part of it
        has a name such as ``"3.1"``, and a union one such as ``"0+3"``. Without arguments the clusters of the
        model. Missing where the leaf is.

        Raises
        ------
        ValueError
            If both arguments are given, or one is out of range.
        """
        n_leaves = len(self.leaves)
        if n_clusters is not None and n_effective is not None:
            raise ValueError("Give `n_clusters` or `n_effective`, found both.")
        if n_clusters is not None and not 1 <= n_clusters <= n_leaves:
            raise ValueError(f"`n_clusters` must be from 1 to {n_leaves}, found {n_clusters}.")
        if n_effective is not None and not n_effective > 0:
            raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
        if n_effective is not None:
            n_merges = int((self.n_effective >= n_effective).sum())
        else:
            n_merges = n_leaves - (len(set(self.clusters)) if n_clusters is None else n_clusters)
        names = [*self._names(n_merges), None]  # the code of a missing leaf is -1
        found = [names[code] for code in self.assignments.cat.codes]
        used = sorted({name for name in found if name is not None}, key=in_order)
        return pd.Series(pd.Categorical(found, categories=used), self.assignments.index, name="vmm_cluster")

    def linkage(self) -> NDArray[np.float64]:
        """Return the tree as SciPy's linkage matrix, shape ``(n_leaves - 1, 4)``, for dendrograms.

        Distances are ``log10(1e7 / n_effective)``: between 0, alike, and 7, apart.
        """
        sizes = [1] * len(self.leaves)
        for left, right in self.merges:
            sizes.append(sizes[left] + sizes[right])
        distances = np.log10(LARGEST_SCALE / self.n_effective)
        return np.column_stack((self.merges, distances, sizes[len(self.leaves) :])).astype(float)

    def to_dict(self) -> dict[str, Any]:
        """Return arrays that an h5ad can hold, for ``adata.uns``; the assignments are left out."""
        return {
            "leaves": np.array(self.leaves),
            "clusters": np.array(self.clusters),
            "merges": self.merges,
            "n_effective": self.n_effective,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], assignments: pd.Series) -> ClusterTree:
        """Inverse of :meth:`to_dict`.

        Parameters
        ----------
        stored
            What :meth:`to_dict` returned.
        assignments
            Leaf of every cell, index ``obs_names``. It may be missing for some; their clusters are missing
            then as well.

        Raises
        ------
        ValueError
            If a cell is assigned to something that is no leaf.
        """
        leaves = tuple(map(str, stored["leaves"]))
        is_missing = assignments.isna()
        names = assignments.astype(object).where(is_missing, assignments.astype(str)).mask(is_missing, None)
        unknown = sorted(set(names[~is_missing]) - set(leaves))
        if unknown:
            raise ValueError(
                f"`assignments` must be leaves of the tree, {list(leaves[:20])}; found {unknown[:5]}."
            )
        cells = pd.Series(pd.Categorical(names, categories=leaves), assignments.index)
        merges = np.asarray(stored["merges"], dtype=np.int64).reshape(-1, 2)
        thresholds = np.asarray(stored["n_effective"], dtype=float)
        return cls(leaves, tuple(map(str, stored["clusters"])), merges, thresholds, cells)

    def _names(self, n_merges: int) -> list[str]:
        """Name of every leaf's cluster after so many merges."""
        members = {i: [i] for i in range(len(self.leaves))}
        for i, (left, right) in enumerate(self.merges[:n_merges]):
            members[len(self.leaves) + i] = members.pop(int(left)) + members.pop(int(right))
        names = [""] * len(self.leaves)
        for group in members.values():
            name = self._name(group)
            for leaf in group:
                names[leaf] = name
        return names

    def _name(self, group: Sequence[int]) -> str:
        parts = sorted({self.clusters[leaf] for leaf in group}, key=in_order)
        if len(parts) > 1 or len(group) == self.clusters.count(parts[0]):
            return "+".join(parts)
        return "+".join(sorted((self.leaves[leaf] for leaf in group), key=in_order))


def fit_cluster_tree(
    z: Tensor | NDArray[Any],
    clusters: pd.Series,
    n_effective: float = 10_000.0,
    wishart_scale_factor: float | None = None,
    seed: int = 0,
) -> ClusterTree:
    """Look for parts of every cluster, and join all parts to a tree.

    Parts of one cluster are joined before clusters are, so that the clusters themselves are one level.

    Parameters
    ----------
    z
        Embedding, shape ``(n_obs, p)``.
    clusters
        Cluster of every cell, length ``n_obs``. Names of any kind; numbers in them say the order.
    n_effective
        How fine the leaves are: number of cells that all the data count as in the search for parts.
    wishart_scale_factor
        ``c`` of a Wishart prior on precisions with scale matrix ``c I``. By default the matrix is learned
        from the clusters.
    seed
        Seed of the search for parts.

    Raises
    ------
    ValueError
        If lengths differ, ``z`` is not a finite matrix, a cell has no cluster, names of clusters could be
        those of parts or unions of others, or an argument is not positive.
    """
    z = as_finite_matrix(z)
    if not n_effective > 0:
        raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
    if wishart_scale_factor is not None and not 0 < wishart_scale_factor < math.inf:
        raise ValueError(f"`wishart_scale_factor` must be positive, found {wishart_scale_factor}.")
    named = named_in_order(clusters, len(z))
    names = list(named.cat.categories)
    # a copy: pandas' own array is read-only, which PyTorch warns of
    labels = named.cat.codes.to_numpy(copy=True)
    if wishart_scale_factor is not None:
        wishart = Wishart.of_paper(wishart_scale_factor, z.shape[1])
    else:
        z = z @ whitening_of_clusters(z, one_hot(torch.as_tensor(labels).long(), len(names)).double())
        shares = _statistics(z, labels, len(names))
        # how alike clusters are says little about their parts: the prior stays as vague as the paper's
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
    merges, thresholds = _join(_statistics(z, leaf_of_cell, len(leaves)), parents, wishart)
    assignments = pd.Series(pd.Categorical.from_codes(leaf_of_cell, categories=leaves), index=clusters.index)
    return ClusterTree(tuple(leaves), tuple(parents), merges, thresholds, assignments)


def _parts(z: Tensor, power: float, wishart: Wishart, seed: int) -> NDArray[np.int64]:
    """Part of every cell of one cluster, numbered by size; all 0 if there are none."""
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
    """Sufficient statistics of the leaves as shares: of one cell in all."""
    members = [z[leaf_of_cell == leaf] for leaf in range(n_leaves)]
    return Statistics(
        torch.tensor([len(cells) for cells in members], dtype=torch.float64) / len(z),
        torch.stack([cells.sum(0) for cells in members]) / len(z),
        torch.stack([cells.mT @ cells for cells in members]) / len(z),
    )


def _join(
    shares: Statistics, parents: Sequence[str], wishart: Wishart
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join the two groups that need the most cells to be told apart, until there is one."""
    nodes = list(range(len(parents)))
    owners: list[str | int] = list(parents)
    n_leaves, merges, thresholds = len(parents), [], []
    first, second = torch.triu_indices(n_leaves, n_leaves, offset=1)
    table = np.full((n_leaves, n_leaves), -math.inf)
    table[np.triu_indices(n_leaves, 1)] = _thresholds(shares, first, second, wishart)
    table = np.maximum(table, table.T)
    while len(nodes) > 1:
        same = np.array([[a == b for b in owners] for a in owners]) & ~np.eye(len(owners), dtype=bool)
        allowed = np.where(same, table, -math.inf) if same.any() else table
        i, j = sorted(int(at) for at in np.unravel_index(int(allowed.argmax()), allowed.shape))
        merges.append((nodes[i], nodes[j]))
        thresholds.append(float(table[i, j]))
        union = shares.merged(torch.tensor([i]), torch.tensor([j]))
        keep = [k for k in range(len(nodes)) if k not in (i, j)]
        shares = Statistics(*(torch.cat((s[keep], u)) for s, u in zip(shares, union, strict=True)))
        owners = [owners[k] for k in keep] + [owners[i] if owners[i] == owners[j] else len(merges)]
        nodes = [nodes[k] for k in keep] + [n_leaves + len(merges) - 1]
        table = np.pad(table[np.ix_(keep, keep)], (0, 1), constant_values=-math.inf)
        last = torch.full((len(keep),), len(keep))
        table[-1, :-1] = table[:-1, -1] = _thresholds(shares, torch.arange(len(keep)), last, wishart)
    never_increasing = np.minimum.accumulate(np.array(thresholds, dtype=float))
    return np.array(merges, dtype=np.int64).reshape(-1, 2), never_increasing


def _thresholds(shares: Statistics, i: Tensor, j: Tensor, wishart: Wishart) -> NDArray[np.float64]:
    """Largest number of effective cells at which merging pays, for every pair."""
    n_steps = round(math.log10(LARGEST_SCALE / SMALLEST_SCALE) * STEPS_PER_DECADE) + 1
    scales = np.geomspace(SMALLEST_SCALE, LARGEST_SCALE, n_steps)
    gains = np.full((n_steps, len(i)), 0.0)
    p = shares.first.shape[1]
    for step, n_effective in enumerate(scales):
        evidence = Evidence(torch.zeros(1, p, dtype=torch.float64), 1.0, wishart)
        gains[step] = merge_gain(Statistics(*(n_effective * s for s in shares)), i, j, evidence).numpy()
    pays = gains > 0
    last = np.where(pays.any(0), n_steps - 1 - pays[::-1].argmax(0), 0)
    following = np.minimum(last + 1, n_steps - 1)
    at, after = gains[last, np.arange(len(i))], gains[following, np.arange(len(i))]
    share = np.where((at > 0) & (after < at), at / np.where(after < at, at - after, 1.0), 0.0)
    return np.asarray(scales[last] * (scales[following] / scales[last]) ** np.clip(share, 0, 1), dtype=float)
