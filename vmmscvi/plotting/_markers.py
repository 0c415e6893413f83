"""Marker genes of clusters: observed counts as a dot plot, decoded centres as a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from scipy import sparse

from vmmscvi._annotation import CLUSTER
from vmmscvi._layers import layer_names
from vmmscvi.plotting._access import Model, as_anndata, categories, display_names
from vmmscvi.plotting._figure import STYLE, save_figure


def markers(
    adata: AnnData | Model,
    genes: pd.DataFrame | Mapping[str, Sequence[str]],
    *,
    n_genes: int = 3,
    groupby: str = CLUSTER,
    layer: str | None = None,
    decoded: pd.DataFrame | None = None,
    color_map: str = "Reds",
    save: str | Path | bool | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw the markers of every cluster with :func:`scanpy.pl.dotplot`.

    Parameters
    ----------
    adata
        Annotated data with raw counts, or a model whose data are annotated.
    genes
        Markers: a table from :meth:`vmmscvi.SCVI_VMM.get_markers`, or lists of genes by group name.
    n_genes
        Number of genes of a table to show for each cluster.
    groupby
        Column of ``adata.obs`` with the clusters; each is one row.
    layer
        Layer with the counts; ``X`` by default.
    decoded
        Decoded centres of the clusters, from :meth:`vmmscvi.SCVI_VMM.get_decoded_centers`. They are drawn
        instead of the observed counts, with :func:`scanpy.pl.matrixplot`, and are free of batches, library
        sizes and noise.
    color_map
        Colormap; each gene is scaled from its smallest to its largest mean.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.
    **kwargs
        Further arguments of scanpy's function.

    Returns
    -------
    Figure
        Colour is the mean of log(1 + counts per 10,000); the size of a dot is the share of cells with a
        count.

    Raises
    ------
    ValueError
        If a column, the layer or a gene is missing.
    """
    import scanpy as sc

    adata = as_anndata(adata)
    groups = categories(adata, groupby, "groupby")
    chosen = _chosen(genes, n_genes)
    names = display_names(adata, groupby, groups.cat.categories)
    by_group = {names.get(group, group): list(own) for group, own in chosen.items()}
    listed = list(dict.fromkeys(gene for own in by_group.values() for gene in own))
    style = {**STYLE, "figure.constrained_layout.use": False}  # scanpy has its own layout
    common: dict[str, Any] = {
        "groupby": "cluster",
        "standard_scale": "var",
        "cmap": color_map,
        "show": False,
    } | kwargs
    with plt.rc_context(style):
        is_interactive = plt.isinteractive()
        if decoded is not None:
            shown = _of_centers(decoded, listed, list(groups.cat.categories), names)
            common["colorbar_title"] = "decoded,\nscaled"
            plot = sc.pl.matrixplot(shown, by_group, return_fig=True, **common)
        else:
            shown = _of_cells(adata, listed, layer)
            shown.obs["cluster"] = groups.cat.rename_categories(names).array
            common["colorbar_title"] = "mean,\nscaled"
            plot = sc.pl.dotplot(shown, by_group, return_fig=True, **common)
        plot.make_figure()
    mpl.interactive(is_interactive)  # the end of the context would reset it
    figure: Figure = plot.fig
    save_figure(figure, save, "markers")
    return figure


def _chosen(genes: pd.DataFrame | Mapping[str, Sequence[str]], n_genes: int) -> dict[str, list[str]]:
    """Genes by group."""
    if isinstance(genes, pd.DataFrame):
        if lacking := {"cluster", "gene", "rank"} - set(genes):
            raise ValueError(
                f"`genes` lacks the columns {sorted(lacking)}; expected a table of `get_markers`."
            )
        best = genes[genes["rank"] <= n_genes]
        return {str(name): list(own["gene"]) for name, own in best.groupby("cluster", sort=False)}
    return {str(name): list(own) for name, own in genes.items()}


def _of_cells(adata: AnnData, genes: list[str], layer: str | None) -> AnnData:
    """Log-normalise the counts of some genes by the library sizes of all."""
    if layer is not None and layer not in layer_names(adata):
        raise ValueError(f"`layer` is {layer!r}; expected one of `adata.layers`: {layer_names(adata)}.")
    if unknown := [gene for gene in genes if gene not in adata.var_names]:
        raise ValueError(f"`genes` has {unknown[:5]}; expected genes of the data.")
    counts = sparse.csr_matrix(adata.X if layer is None else adata.layers[layer], dtype=np.float64)
    scale = 1e4 / np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    values = (sparse.diags_array(scale) @ counts[:, adata.var_names.get_indexer(genes)]).tocsr()
    values.data = np.log1p(values.data)
    shown = AnnData(sparse.csr_matrix(values), obs=adata.obs[[]].copy())
    shown.var_names = genes
    return shown


def _of_centers(decoded: pd.DataFrame, genes: list[str], groups: list[str], names: dict[str, str]) -> AnnData:
    """Return an AnnData with one cell for each centre."""
    if unknown := [gene for gene in genes if gene not in decoded.columns]:
        raise ValueError(f"`decoded` lacks the genes {unknown[:5]}.")
    if unknown := [group for group in groups if group not in decoded.index]:
        raise ValueError(f"`decoded` lacks the clusters {unknown}; expected those of `groupby`.")
    table = decoded.loc[groups, genes]
    shown = AnnData(np.log1p(table.to_numpy(dtype=np.float64)))
    shown.var_names = genes
    shown.obs["cluster"] = pd.Categorical([names[g] for g in groups], [names[g] for g in groups])
    return shown
