"""Marker proteins of clusters, for models of CITE-seq."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from vmmscvi.model._markers_mixin import MarkersMixin


class ProteinMarkersMixin(MarkersMixin):
    """Marker genes and marker proteins of clusters."""

    def get_protein_markers(
        self,
        n_proteins: int = 5,
        groupby: str | None = None,
        groups: Sequence[str] | str | None = None,
    ) -> pd.DataFrame:
        """Find marker proteins of the clusters from observed counts, as :meth:`get_markers` finds genes.

        Counts are scaled by each cell's total over all proteins, which removes cell-specific background.
        Cells without any protein count are left out as not measured.

        Parameters
        ----------
        n_proteins
            Number of proteins for each cluster.
        groupby, groups
            As in :meth:`get_markers`.

        Returns
        -------
        DataFrame
            Table with the columns of :meth:`get_markers`; ``gene`` holds the name of the protein.

        Raises
        ------
        ValueError
            If a column or group is unknown, or fewer than two groups have proteins.

        Examples
        --------
        >>> adata = vmmscvi.data.simulate_cite(n_cells=120, n_genes=60)
        >>> vmmscvi.TOTALVI_VMM.setup_anndata(adata, protein_expression_obsm_key="protein")
        >>> model = vmmscvi.TOTALVI_VMM(adata)
        >>> model.train()
        >>> proteins = model.get_protein_markers(n_proteins=3, groupby="cell_type")
        """
        if n_proteins < 1:
            raise ValueError(f"`n_proteins` must be a positive integer, found {n_proteins}.")
        cells = self._cells_with_counts(None)
        counts = self.adata_manager.get_from_registry(REGISTRY_KEYS.PROTEIN_EXP_KEY)
        names = self.adata_manager.get_state_registry(REGISTRY_KEYS.PROTEIN_EXP_KEY).column_names
        batches = np.asarray(self.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)).ravel()
        observed = (np.asarray(counts), [str(name) for name in names], batches)
        return self._marker_table(observed, self._groups(cells, groupby), groups, n_proteins)
