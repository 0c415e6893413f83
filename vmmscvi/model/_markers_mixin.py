"""Marker genes of clusters, for models of counts; marker peaks for models of accessibility."""

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
    """Marker genes of clusters, from observed counts."""

    def get_markers(
        self,
        n_genes: int = 10,
        groupby: str | None = None,
        groups: Sequence[str] | str | None = None,
        adata: AnnData | None = None,
    ) -> pd.DataFrame:
        """Find marker genes of the clusters: genes with reliably higher counts than in the other clusters.

        Genes are ranked by a lower bound of their log fold change (the estimate minus one standard error),
        averaged over all other clusters with equal weight. Clusters are compared within batches, so
        differences between batches do not appear as markers. Estimates are shrunk towards no change, and the
        standard error accounts for overdispersion, so a gene with three molecules is not ranked first.

        There are no p-values. The clusters were found in the same counts, which invalidates p-values of
        differences between them [Zhang2019]_. To test for changes, see ``differential_expression``.

        Parameters
        ----------
        n_genes
            Number of genes for each cluster.
        groupby
            Column of ``adata.obs`` with groups, for example a level of the tree; by default the clusters of
            the model.
        groups
            Groups to find markers for; all by default. Each is compared with all other groups.
        adata
            Cells with raw counts in the layer that the model uses; the training data by default. Genes that
            the model was not trained on are ranked as well.

        Returns
        -------
        DataFrame
            Table with ``n_genes`` rows for every group, best gene first. Columns:

            - ``cluster``, ``gene``, ``rank``,
            - ``score``: the lower bound (log2), positive for genes reliably higher in the cluster,
            - ``log2_fold_change``: mean over the other clusters,
            - ``mean``, ``mean_others``: counts in a cell of average library size,
            - ``expressed``, ``expressed_others``: share of cells with a count,
            - ``n_cells``: size of the cluster,
            - ``is_small``: fewer than 20 cells, so markers are uncertain,
            - ``within_batches``: ``False`` if no other cluster shares a batch with this one; its markers may
              then reflect the batch.

        Raises
        ------
        ValueError
            If a column or group is unknown, there are fewer than two groups, or the counts are missing.

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
        """Find the genes that separate the two sides of each split of a tree most reliably.

        Parameters
        ----------
        tree
            Tree of the same cells, from :meth:`get_cluster_tree` or
            :meth:`vmmscvi.priors.ClusterTree.from_anndata`.
        n_genes
            Number of genes for each side.
        adata
            As in :meth:`get_markers`.
        min_size
            Smallest number of cells on a side; smaller splits are left out.

        Returns
        -------
        DataFrame
            Table with ``n_genes`` rows for every side of every split, coarsest split first. Columns:

            - ``node``: the node that is split,
            - ``side``: ``"left"`` or ``"right"``,
            - ``members``: leaves or clusters of the side,
            - ``gene``, ``rank``, ``score``, ``log2_fold_change``: as in :meth:`get_markers`,
            - ``n_effective``: level of the split,
            - ``n_cells``: number of cells of the side.

        Raises
        ------
        ValueError
            If the tree does not have as many cells as ``adata``.
        """
        cells = self._cells_with_counts(adata)
        if len(tree.assignments) != cells.n_obs:
            raise ValueError(
                f"`tree` has {len(tree.assignments)} cells, but `adata` has {cells.n_obs}: pass a tree of "
                "the same cells."
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
        """Suggest names for clusters from a dictionary of marker genes.

        The score of a name for a cluster is the mean over its marker genes of the lower bound (log2) of their
        fold change against the other clusters, as in :meth:`get_markers`, clipped to -1 to 6. A gene listed
        under several names is divided by their number; a gene that is not in the data contributes zero. The
        best name is suggested if its score is positive and exceeds the second best by ``min_margin``. A cell
        type without an entry receives the name of the most similar type, or ``"unclear"``.

        Parameters
        ----------
        markers
            Marker genes by name.
        min_margin
            Smallest difference to the second best score; clusters below it are ``"unclear"``.
        groupby, adata
            As in :meth:`get_markers`.

        Returns
        -------
        DataFrame
            Table with one row for each cluster. Columns:

            - ``name``: the suggested name, or ``"unclear"``,
            - ``score``, ``margin``: score of the best name and its lead over the second best,
            - ``best``, ``second``: the two best names,
            - ``genes``: the genes that support the best name most,
            - ``n_found``: number of its genes in the data.

            No cluster is renamed. Inspect the table, then pass ``table["name"]`` to :meth:`rename_clusters`.

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
        """Rank features; warn about groups without counts, which have no markers."""
        counts, names, batches = observed
        wanted = _wanted(labels, groups)
        is_measured = np.asarray(counts.sum(axis=1)).ravel() > 0
        labels = labels.where(is_measured).cat.remove_unused_categories()
        if left := [name for name in wanted if name not in labels.cat.categories]:
            logger.warning(f"Clusters without counts have no markers: {left}.")
        if len(labels.cat.categories) < 2:
            raise ValueError(
                f"Only one group has counts, {list(labels.cat.categories)}; expected two or more."
            )
        kept = [name for name in wanted if name not in left]
        table = marker_table(counts, names, labels, batches, kept, n_features)
        if small := list(dict.fromkeys(table.loc[table["is_small"], "cluster"])):
            logger.warning(f"Markers of clusters below {FEWEST_CELLS} cells are uncertain: {small}.")
        return table

    def _cells_with_counts(self, adata: AnnData | None) -> AnnData:
        if adata is None and self.adata is None:
            raise ValueError("The model holds no data: pass `adata`.")
        if adata is None and getattr(self, "minified_data_type", None) is not None:
            raise ValueError("The model's data are minified and have no counts: pass `adata` with counts.")
        return self.adata if adata is None else adata

    def _groups(self, adata: AnnData, groupby: str | None) -> pd.Series:
        """Group of every cell, categorical without unused categories."""
        if groupby is None:
            labels: Any = self.predict(with_features_of(self, adata))
        elif groupby in adata.obs:
            labels = adata.obs[groupby].astype("category").cat.remove_unused_categories()
        else:
            known = ", ".join(map(str, adata.obs)) or "it has none"
            raise ValueError(f"`groupby` is {groupby!r}; expected a column of `adata.obs`: {known}.")
        labels = labels.cat.rename_categories([str(name) for name in labels.cat.categories])
        if len(labels.cat.categories) < 2:
            raise ValueError(f"Found only one group, {list(labels.cat.categories)}; expected two or more.")
        return labels

    def _observed_counts(self, adata: AnnData) -> tuple[Any, list[str], Any]:
        """Return counts, names of the genes, and the batch code of every cell."""
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
            raise ValueError(f"`adata` has no layer {layer!r}, from which the model reads counts: add it.")
        if batch_key is not None and batch_key not in adata.obs:
            raise ValueError(
                f"`adata.obs` has no column {batch_key!r}, from which the model reads batches: add it."
            )
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
