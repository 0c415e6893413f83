"""Selection of the genes to train on."""

from __future__ import annotations

from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from vmmscvi._gene_selection import mask_of_variable_genes


def highly_variable_genes(
    adata: AnnData, n_genes: int, batch_key: str | None, layer: str | None
) -> NDArray[np.bool_]:
    """Select the most variable genes by the variance of their Pearson residuals within batches.

    Like scVI, the method uses raw counts; it needs no further library [Lause2021]_.

    Parameters
    ----------
    adata
        Raw counts.
    n_genes
        Number of genes to select; all genes if there are fewer.
    batch_key
        Column of ``adata.obs`` with the batches: genes are ranked by the number of batches in which they are
        variable.
    layer
        Layer with the counts; ``X`` by default.

    Returns
    -------
    numpy.ndarray
        Mask of shape ``(n_vars,)``.

    Raises
    ------
    ValueError
        If the matrix has negative or non-finite values, or cells have no counts in the selected genes.

    References
    ----------
    .. [Lause2021] Lause, Berens & Kobak, Analytic Pearson residuals for normalization of single-cell RNA-seq
       UMI data, Genome Biology 22 (2021).
    """
    counts = adata.X if layer is None else adata.layers[layer]
    values = counts.data if sparse.issparse(counts) else np.asarray(counts)
    if not np.isfinite(values).all() or (values.size and values.min() < 0):
        raise ValueError("The matrix has negative or missing values; expected raw counts.")
    if n_genes >= adata.n_vars:
        return np.ones(adata.n_vars, dtype=bool)
    batches = None if batch_key is None else adata.obs[batch_key]
    chosen = mask_of_variable_genes(sc.experimental.pp.highly_variable_genes, counts, batches, n_genes)
    n_empty = int(np.sum(_totals(counts[:, chosen]) == 0))
    if n_empty and not np.any(_totals(counts) == 0):
        raise ValueError(
            f"{n_empty} cells have no counts in the {n_genes} most variable genes; select more with --hvg."
        )
    return chosen


def _totals(counts: Any) -> NDArray[np.float64]:
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
