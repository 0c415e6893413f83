"""Clusters at other levels than the model's own, without another training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scvi import settings

from vmmscvi.model._clustering_mixin import ClusteringMixin

if TYPE_CHECKING:
    from vmmscvi.priors import ClusterTree


class ClusterTreeMixin(ClusteringMixin):
    """A hierarchy of clusters, below and above those of the prior."""

    def get_cluster_tree(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        n_effective: float = 10_000.0,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> ClusterTree:
        """Find parts of the clusters, and join clusters to coarser ones.

        The tree is cut at any level: ``tree.cut(n_clusters=5)`` or ``tree.cut(n_effective=3000)``. That takes
        the place of Leiden's resolution; the model is not trained again, and its own clusters are one level.

        Parameters
        ----------
        adata, indices, batch_size
            Cells that the tree is made for, as in :meth:`get_cluster_probabilities`.
        n_effective
            How fine the leaves are: number of cells that all the data count as in the search for parts. The
            default of :meth:`train` is 750. See :func:`vmmscvi.priors.fit_coarsened_mixture`.
        seed
            Seed of the search; ``scvi.settings.seed`` by default.

        Returns
        -------
        :class:`vmmscvi.priors.ClusterTree` over the cells.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If the model's prior has no components, or ``n_effective`` is not positive.
        """
        from vmmscvi.priors import fit_cluster_tree

        self._mixture_prior()
        clusters: Any = self.predict(adata, indices, batch_size)
        z = self._latent_tensor(adata, indices, batch_size).cpu().numpy().astype(np.float64)
        return fit_cluster_tree(
            z,
            clusters,
            n_effective=n_effective,
            seed=(settings.seed or 0) if seed is None else seed,
        )
