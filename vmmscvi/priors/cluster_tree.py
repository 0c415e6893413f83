r"""A hierarchy of clusters: finer clusters within each cluster and coarser ones above, cut at any level.

The scale of the tree is the effective sample size. The classification likelihood of
:mod:`vmmscvi.priors.coarsened` prefers one or two components for two groups of cells, depending on the
effective sample size. Every merge of the tree has the level up to which its two sides are one cluster: low
for groups that are far apart, high for groups that hardly differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vmmscvi.priors._cluster_names import in_order
from vmmscvi.priors._tree_joining import LARGEST_SCALE


@dataclass(frozen=True)
class ClusterTree:
    """A tree of clusters and their subclusters.

    Leaves are numbered from 0. Merge ``i`` joins two earlier nodes into node ``n_leaves + i``, as in SciPy.

    Parameters
    ----------
    leaves
        Names of the leaves: ``"3"`` if cluster 3 has no parts, else ``"3.0"``, ``"3.1"``, ...
    clusters
        Name of the cluster that each leaf belongs to.
    merges
        Nodes that are joined, finest first, shape ``(n_leaves - 1, 2)``.
    n_effective
        For each merge, the largest effective sample size at which its two sides are one cluster, shape
        ``(n_leaves - 1,)``; never increasing.
    assignments
        Leaf of every cell, possibly missing: categorical with the categories ``leaves`` and index
        ``obs_names``.
    """

    leaves: tuple[str, ...]
    clusters: tuple[str, ...]
    merges: NDArray[np.int64]
    n_effective: NDArray[np.float64]
    assignments: pd.Series

    def cut(
        self,
        n_clusters: int | None = None,
        n_effective: float | None = None,
        min_size: int = 1,
    ) -> pd.Series:
        """Return the clusters of the cells at one level of the tree.

        Parameters
        ----------
        n_clusters
            Number of clusters, from 1 to the number of leaves.
        n_effective
            Effective sample size, as an alternative to ``n_clusters``: groups are merged if the data do not
            separate them at this sample size.
        min_size
            Smallest number of cells in a cluster. A smaller cluster is merged with its sibling in the tree;
            if the sibling is divided, with the larger part of it.

        Returns
        -------
        Series
            Categorical names of clusters with index ``obs_names``. A cluster of the model keeps its name, a
            part of it has a name such as ``"3.1"``, and a union a name such as ``"0+3"``. Without arguments,
            these are the clusters of the model. Cells without a leaf are missing.

        Raises
        ------
        ValueError
            If both levels are given, one is out of range, or the tree has too few clusters of this size.
        """
        n_leaves = len(self.leaves)
        groups = self._groups(self.n_merges(n_clusters, n_effective, min_size), min_size)
        name_of_leaf = [""] * n_leaves
        for group in groups:
            for leaf in group:
                name_of_leaf[leaf] = self.name_of(group)
        codes = self.assignments.cat.codes.to_numpy()
        used = sorted({name_of_leaf[code] for code in np.unique(codes) if code >= 0}, key=in_order)
        of_leaf = np.array([used.index(name) if name in used else -1 for name in [*name_of_leaf, None]])
        named = pd.Categorical.from_codes(of_leaf[codes], categories=used)
        return pd.Series(named, self.assignments.index, name="vmm_cluster")

    def n_merges(
        self,
        n_clusters: int | None = None,
        n_effective: float | None = None,
        min_size: int = 1,
    ) -> int:
        """Return the number of merges below a cut, before small clusters join their siblings.

        Parameters
        ----------
        n_clusters, n_effective, min_size
            As in :meth:`cut`.

        Returns
        -------
        int
            Number of merges, from the finest.

        Raises
        ------
        ValueError
            As in :meth:`cut`.
        """
        n_leaves = len(self.leaves)
        if n_clusters is not None and n_effective is not None:
            raise ValueError("`n_clusters` and `n_effective` exclude each other: pass only one of them.")
        if n_clusters is not None and not 1 <= n_clusters <= n_leaves:
            raise ValueError(f"`n_clusters` must be from 1 to {n_leaves}, found {n_clusters}.")
        if n_effective is not None and not n_effective > 0:
            raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
        if not 1 <= min_size <= len(self.assignments):
            raise ValueError(
                f"`min_size` must be from 1 to {len(self.assignments)} (all cells), found {min_size}."
            )
        if n_effective is not None:
            return int((self.n_effective >= n_effective).sum())
        if n_clusters is None:
            return n_leaves - len(set(self.clusters))
        if min_size == 1:
            return n_leaves - n_clusters
        most = 0
        for n_merges in reversed(range(n_leaves)):  # the number of groups grows by at most one
            most = len(self._groups(n_merges, min_size))
            if most == n_clusters:
                return n_merges
        raise ValueError(
            f"`n_clusters` is {n_clusters}, but the tree has at most {most} clusters of `min_size` "
            f"{min_size} or more: pass a smaller number."
        )

    def sides(self) -> list[tuple[list[int], list[int]]]:
        """Return the leaves on the two sides of every merge, in the order of the merges."""
        members = [[i] for i in range(len(self.leaves))]
        found = []
        for left, right in self.merges:
            found.append((members[left], members[right]))
            members.append(members[left] + members[right])
        return found

    def name_of(self, leaves: Sequence[int]) -> str:
        """Return the name of a union of leaves, such as ``"3"`` for all of cluster 3, or ``"0+3.1"``.

        Parameters
        ----------
        leaves
            Numbers of the leaves.
        """
        members: dict[str, list[str]] = {}
        for leaf in leaves:
            members.setdefault(self.clusters[leaf], []).append(self.leaves[leaf])
        sizes = Counter(self.clusters)
        parts = [
            name
            for cluster, own in members.items()
            for name in ([cluster] if len(own) == sizes[cluster] else own)
        ]
        return "+".join(sorted(parts, key=in_order))

    def linkage(self) -> NDArray[np.float64]:
        """Return the tree as SciPy's linkage matrix, shape ``(n_leaves - 1, 4)``, for dendrograms.

        Distances are ``log10(1e7 / n_effective)``, between 0 (similar) and 7 (far apart).
        """
        sizes = [1] * len(self.leaves)
        for left, right in self.merges:
            sizes.append(sizes[left] + sizes[right])
        distances = np.log10(LARGEST_SCALE / self.n_effective)
        return np.column_stack((self.merges, distances, sizes[len(self.leaves) :])).astype(float)

    def to_dict(self) -> dict[str, Any]:
        """Return arrays for ``adata.uns``, without the assignments; they can be saved to h5ad."""
        return {
            "leaves": np.array(self.leaves),
            "clusters": np.array(self.clusters),
            "merges": self.merges,
            "n_effective": self.n_effective,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], assignments: pd.Series) -> ClusterTree:
        """Restore a tree from the result of :meth:`to_dict`.

        Parameters
        ----------
        stored
            Result of :meth:`to_dict`.
        assignments
            Leaf of every cell, with index ``obs_names``. Cells without a leaf have no cluster either.

        Returns
        -------
        ClusterTree
            The tree.

        Raises
        ------
        ValueError
            If a cell is assigned to an unknown leaf.
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

    @classmethod
    def from_anndata(cls, adata: Any, key: str = "vmm_leaf") -> ClusterTree:
        """Restore the tree written by :meth:`vmmscvi.SCVI_VMM.annotate` or by the command line.

        Parameters
        ----------
        adata
            Annotated data, or some of its cells.
        key
            Column of ``adata.obs`` with the leaf of every cell.

        Returns
        -------
        ClusterTree
            The tree.

        Raises
        ------
        ValueError
            If the tree or the column is missing.
        """
        stored = adata.uns.get("vmmscvi")
        if not isinstance(stored, Mapping) or "cluster_tree" not in stored:
            raise ValueError(
                "`adata` has no `uns['vmmscvi']['cluster_tree']`: call `annotate` or `vmmscvi integrate` "
                "first."
            )
        if key not in adata.obs:
            raise ValueError(f"`key` is {key!r}; expected the column of `adata.obs` with the leaves.")
        return cls.from_dict(stored["cluster_tree"], adata.obs[key])

    def _groups(self, n_merges: int, min_size: int) -> list[list[int]]:
        """Return the groups of leaves after ``n_merges`` merges, small groups merged into their siblings.

        Each node holds its groups; the first is the one that smaller siblings join.
        """
        n_leaves = len(self.leaves)
        sizes = list(self._sizes())
        nodes: dict[int, list[list[int]]] = {i: [[i]] for i in range(n_leaves)}
        for i, (left, right) in enumerate(self.merges):
            small, large = sorted((int(left), int(right)), key=lambda node: sizes[node])
            sizes.append(sizes[small] + sizes[large])
            groups, joining = nodes.pop(large), nodes.pop(small)
            if i < n_merges or sizes[small] < min_size:
                nodes[n_leaves + i] = [groups[0] + [leaf for group in joining for leaf in group], *groups[1:]]
            else:
                nodes[n_leaves + i] = groups + joining
        return nodes[2 * n_leaves - 2]

    def _sizes(self) -> list[int]:
        """Return the number of cells of every leaf."""
        codes = self.assignments.cat.codes.to_numpy()
        counts = np.bincount(codes[codes >= 0], minlength=len(self.leaves))
        return [int(count) for count in counts]
