"""Marker genes of clusters, for models of counts; of accessibility, peaks take the place of genes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import REGISTRY_KEYS

from vmmscvi._layers import layer_names
from vmmscvi._marker_names import score_names
from vmmscvi._markers import FEWEST_CELLS, marker_table
from vmmscvi._splits import split_table
from vmmscvi.model._clustering_mixin import ClusteringMixin
from vmmscvi.model._features import with_features_of
from vmmscvi.priors import ClusterTree

logger = logging.getLogger(__name__)


class MarkersMixin(ClusteringMixin):
    """Genes that tell clusters apart, from observed counts."""

    def get_markers(
        self,
        n_genes: int = 10,
        groupby: str | None = None,
        groups: Sequence[str] | str | None = None,
        adata: AnnData | None = None,
    ) -> pd.DataFrame:
        """Marker genes of the clusters: genes that a cluster surely has more of than the other clusters.

        Genes are ranked by the mean, over all other clusters, of a lower bound of their log fold change: the
        estimate less one standard error. All other clusters count the same, large and small. Clusters are
        compared within batches, so that a difference between batches is none between clusters. Estimates are
        shrunk towards no change, and the standard error respects overdispersion, so that a gene with three
        molecules does not come first.

        There is no p-value: clusters were found in the same counts, and p-values of differences between them
        are wrong. [Zhang2019]_ For tests of a change, see ``differential_expression``.

        Parameters
        ----------
        n_genes
            Genes for each cluster.
        groupby
            Column of ``adata.obs`` with groups, a level of the tree for example; by default the clusters of
            the model.
        groups
            Groups to find markers of; all by default. All are compared with.
        adata
            Cells with raw counts where the model has them; the training data by default. It may have genes
            that the model was not trained on: these are ranked as well.

        Returns
        -------
        DataFrame with ``n_genes`` rows for every group, best first:

        - ``cluster``, ``gene``, ``rank``,
        - ``score``, the lower bound (log2): positive for genes that are surely higher in the cluster,
        - ``log2_fold_change``, mean over the other clusters,
        - ``mean``, ``mean_others``: counts in a cell of average library size,
        - ``expressed``, ``expressed_others``: share of cells with a count,
        - ``n_cells``; ``is_small``: fewer than 20 cells, so that markers are uncertain,
        - ``within_batches``: ``False`` if no other cluster is in the batches of this one. The markers may
          then be those of a batch.

        Raises
        ------
        ValueError
            If a column or group is unknown, there are fewer than two groups, or counts are missing.

        References
        ----------
        .. [Zhang2019] Zhang, Kamath & Tse, Valid post-clustering differential analysis for single-cell
           RNA-seq, Cell Systems 9 (2019).

        Examples
        --------
        >>> model.train()
        >>> markers = model.get_markers(n_genes=5)
        >>> markers.pivot(index="rank", columns="cluster", values="gene").to_csv("markers.csv")
        """
        if n_genes < 1:
            raise ValueError(f"`n_genes` must be a positive integer, found {n_genes}.")
        cells = self._cells_with_counts(adata)
        return self._marker_table(self._observed_counts(cells), self._groups(cells, groupby), groups, n_genes)

    def get_split_markers(
        self,
        tree: ClusterTree,
        n_genes: int = 3,
        adata: AnnData | None = None,
        min_size: int = FEWEST_CELLS,
    ) -> pd.DataFrame:
        """Genes that drive each split of a tree: those that its two sides differ in most surely.

        Parameters
        ----------
        tree
            From :meth:`get_cluster_tree` or :meth:`vmmscvi.priors.ClusterTree.from_anndata`, over the same
            cells.
        n_genes
            Genes for each side.
        adata
            As in :meth:`get_markers`.
        min_size
            Splits are left out if a side has fewer cells.

        Returns
        -------
        DataFrame with ``n_genes`` rows for every side of every split, coarsest split first: ``node``, the
        node that is split; ``side`` (``"left"``, ``"right"``), ``members``, the leaves or clusters of the
        side; ``gene``, ``rank``, ``score`` and ``log2_fold_change`` as in :meth:`get_markers`;
        ``n_effective``, the level of the split; ``n_cells`` of the side.
        """
        cells = self._cells_with_counts(adata)
        if len(tree.assignments) != cells.n_obs:
            raise ValueError(
                f"`tree` is over {len(tree.assignments)} cells; expected one over the {cells.n_obs} cells of "
                "`adata`."
            )
        counts, names, batches = self._observed_counts(cells)
        return split_table(counts, names, tree, batches, n_genes, min_size)

    def name_clusters(
        self,
        markers: Mapping[str, Sequence[str]],
        min_margin: float = 0.25,
        groupby: str | None = None,
        adata: AnnData | None = None,
    ) -> pd.DataFrame:
        """Name clusters by a dictionary of marker genes.

        The score of a name for a cluster is the mean of what its marker genes say: the lower bound (log2) of
        their fold changes, cluster against the other clusters, as in :meth:`get_markers`, between -1 and 6. A
        gene that several names list is divided by their number; one that is not in the data counts as zero.
        The best name is given if its score is positive and larger than the second best by ``min_margin``. A
        type that has no entry is named after the nearest one that has, or is unclear.

        Parameters
        ----------
        markers
            Marker genes by name.
        min_margin
            Smallest difference to the second best score; clusters below are ``"unclear"``.
        groupby, adata
            As in :meth:`get_markers`.

        Returns
        -------
        DataFrame, a row for each cluster: ``name``, ``score``, ``margin``, ``best`` and ``second`` (the two
        best names), ``genes`` (the genes that speak most for the best one) and ``n_found``, how many of its
        genes are in the data. Nothing is renamed: look at it, and pass ``table["name"]`` to
        :meth:`rename_clusters`.

        Raises
        ------
        ValueError
            If ``markers`` is empty, or a name has no gene in the data.

        Examples
        --------
        >>> model.train()
        >>> table = model.name_clusters({"A": ["gene0", "gene1"], "B": ["gene2", "gene3"]})
        >>> model.rename_clusters(table["name"])
        """
        cells = self._cells_with_counts(adata)
        counts, names, batches = self._observed_counts(cells)
        return score_names(counts, names, self._groups(cells, groupby), batches, markers, min_margin)

    # -- helpers ---------------------------------------------------------------------------------------------

    def _marker_table(
        self,
        observed: tuple[Any, list[str], Any],
        labels: pd.Series,
        groups: Sequence[str] | str | None,
        n_features: int,
    ) -> pd.DataFrame:
        """Rank features; groups without any count have no markers, and are named."""
        counts, names, batches = observed
        wanted = _wanted(labels, groups)
        is_measured = np.asarray(counts.sum(axis=1)).ravel() > 0
        labels = labels.where(is_measured).cat.remove_unused_categories()
        if left := [name for name in wanted if name not in labels.cat.categories]:
            logger.warning(f"Clusters without any count have no markers: {left}.")
        if len(labels.cat.categories) < 2:
            raise ValueError(
                f"There are counts in one group only, {list(labels.cat.categories)}; expected two or more."
            )
        kept = [name for name in wanted if name not in left]
        table = marker_table(counts, names, labels, batches, kept, n_features)
        if small := list(dict.fromkeys(table.loc[table["is_small"], "cluster"])):
            logger.warning(f"Clusters of fewer than {FEWEST_CELLS} cells have uncertain markers: {small}.")
        return table

    def _cells_with_counts(self, adata: AnnData | None) -> AnnData:
        if adata is None and self.adata is None:
            raise ValueError("The model has no data of its own: pass `adata`.")
        if adata is None and getattr(self, "minified_data_type", None) is not None:
            raise ValueError("The model's data are minified, without counts: pass `adata` with counts.")
        return self.adata if adata is None else adata

    def _groups(self, adata: AnnData, groupby: str | None) -> pd.Series:
        """Categorical group of every cell, all in use."""
        if groupby is None:
            labels: Any = self.predict(with_features_of(self, adata))
        elif groupby in adata.obs:
            labels = adata.obs[groupby].astype("category").cat.remove_unused_categories()
        else:
            known = ", ".join(map(str, adata.obs)) or "it has none"
            raise ValueError(f"`groupby` is {groupby!r}; expected a column of `adata.obs`: {known}.")
        labels = labels.cat.rename_categories([str(name) for name in labels.cat.categories])
        if len(labels.cat.categories) < 2:
            raise ValueError(f"There is one group only, {list(labels.cat.categories)}; expected two or more.")
        return labels

    def _observed_counts(self, adata: AnnData) -> tuple[Any, list[str], Any]:
        """Return counts, names of the genes, and a code for the batch of every cell."""
        if adata is self.adata:
            counts = self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)
            field = self.adata_manager.data_registry[REGISTRY_KEYS.X_KEY]
            own = getattr(field, "mod_key", None)
            names = (adata.mod[own] if own else adata).var_names
            batches = np.asarray(self.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)).ravel()
            return counts, list(names), batches
        setup = self.adata_manager.registry["setup_args"]
        layer, batch_key = setup.get("layer"), setup.get("batch_key")
        if layer is not None and layer not in layer_names(adata):
            raise ValueError(f"`adata` has no layer {layer!r}, where the model has its counts.")
        if batch_key is not None and batch_key not in adata.obs:
            raise ValueError(f"`adata` has no column {batch_key!r}, where the model has its batches.")
        counts = adata.X if layer is None else adata.layers[layer]
        one = np.zeros(adata.n_obs, dtype=int)
        batches = one if batch_key is None else adata.obs[batch_key].astype("category").cat.codes.to_numpy()
        return counts, list(adata.var_names), batches


def _wanted(labels: pd.Series, groups: Sequence[str] | str | None) -> list[str]:
    known = [str(name) for name in labels.cat.categories]
    if groups is None:
        return known
    asked = [str(name) for name in ([groups] if isinstance(groups, str) else groups)]
    if unknown := [name for name in asked if name not in known]:
        raise ValueError(f"`groups` has {unknown}; expected some of {known}.")
    return asked
