"""Clusters that are finer or coarser than the model's, without further training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import settings
from torch import Tensor

from vmmscvi.model._clustering_mixin import ClusteringMixin

if TYPE_CHECKING:
    from vmmscvi.priors import ClusterTree

LEAST_LEAF_LEVEL = 10_000.0
"""Smallest default of the effective sample size of the leaves."""
FINER_THAN_MODEL = 4.0
"""Smallest default ratio of that to the effective sample size of the model."""


class ClusterTreeMixin(ClusteringMixin):
    """A hierarchy of clusters, below and above those of the prior."""

    def get_cluster_tree(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        n_effective: float | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> ClusterTree:
        """Build a tree of finer and coarser clusters.

        Cut the tree at any level: ``tree.cut(n_clusters=5)`` or ``tree.cut(n_effective=3000)``. The level
        plays the role of Leiden's resolution. No further training is needed, and the model's own clusters
        are one of the levels.

        Parameters
        ----------
        adata, indices
            Cells of the tree, as in :meth:`get_cluster_probabilities`.
        n_effective
            Granularity of the leaves: the effective sample size of the search for subclusters, at most the
            number of cells. The default is 10,000, or four times the value of :meth:`train` (500 by default)
            if that is larger. Values below that of :meth:`train` divide hardly any cluster. See
            :func:`vmmscvi.priors.fit_coarsened_mixture`.
        batch_size
            Minibatch size of the encoder, as in :meth:`get_cluster_probabilities`.
        seed
            Seed of the search; ``scvi.settings.seed`` by default.

        Returns
        -------
        ClusterTree
            A :class:`vmmscvi.priors.ClusterTree` of the cells.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the model's prior has no components, or ``n_effective`` is not positive.
        """
        clusters: Any = self.predict(adata, indices, batch_size)
        return self._tree_of(self._latent_tensor(adata, indices, batch_size), clusters, n_effective, seed)

    def _tree_of(
        self, z: Tensor, clusters: pd.Series, n_effective: float | None, seed: int | None
    ) -> ClusterTree:
        """Fit the tree to cells at positions ``z`` of shape ``(n, p)``."""
        from vmmscvi.priors import fit_cluster_tree

        own_level = getattr(self._mixture_prior(), "n_effective", None) or 0.0
        if n_effective is None:
            n_effective = max(LEAST_LEAF_LEVEL, FINER_THAN_MODEL * own_level)
        return fit_cluster_tree(
            z.cpu().numpy().astype(np.float64),
            clusters,
            n_effective=n_effective,
            seed=(settings.seed or 0) if seed is None else seed,
        )
