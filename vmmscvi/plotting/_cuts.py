"""Several levels of the tree of clusters, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from anndata import AnnData
from matplotlib.figure import Figure

from vmmscvi._annotation import CLUSTER
from vmmscvi.plotting._access import Model, as_anndata, coordinates, stored_colors
from vmmscvi.plotting._embedding import embedding
from vmmscvi.plotting._figure import save_figure, styled
from vmmscvi.plotting._palette import Palette
from vmmscvi.plotting._panels import MAX_ON_CELLS, PANEL_SIZE
from vmmscvi.plotting._tree import colors_of_cut
from vmmscvi.priors import ClusterTree

MOST_PARTS = 2
"""Largest number of parts in the name of a union on the cells; longer names are shortened."""
LEVELS = (0.5, 1.0, 2.0)
"""Default numbers of clusters, as multiples of the model's own."""


@styled
def cluster_cuts(
    adata: AnnData | Model,
    n_clusters: Sequence[int] | None = None,
    *,
    min_size: int = 1,
    tree: ClusterTree | None = None,
    basis: str = "X_umap",
    palette: Palette | None = None,
    size: float | None = None,
    save: str | Path | bool | None = None,
) -> Figure:
    """Draw the same cells with coarser and finer clusters, for choosing the granularity.

    Parameters
    ----------
    adata
        Annotated data, or a model that has annotated its data by :meth:`vmmscvi.SCVI_VMM.annotate`.
    n_clusters
        Numbers of clusters, one panel for each. By default half the number that the model found, the number
        itself, and twice the number (or the largest possible).
    min_size
        Smallest number of cells in a cluster, as in :meth:`vmmscvi.priors.ClusterTree.cut`.
    tree
        The tree; that of the annotation by default.
    basis
        As in :func:`vmmscvi.plotting.embedding`.
    palette
        Colours of the clusters of each panel. By default a union has the colour of its largest cluster, and
        parts of a cluster have shades of its colour.
    size
        As in :func:`vmmscvi.plotting.embedding`.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Figure
        The figure.

    Raises
    ------
    ValueError
        If tree or embedding is missing, or a number of clusters is not possible.
    """
    adata = as_anndata(adata)
    coordinates(adata, basis)
    tree = ClusterTree.from_anndata(adata) if tree is None else tree
    own = tree.cut()
    n_own = tree.cut(min_size=min_size).nunique()
    if n_clusters is None:
        most = tree.cut(n_effective=float("inf"), min_size=min_size).nunique()
        n_clusters = sorted({min(max(round(level * n_own), 2), most) for level in LEVELS})
    stored = stored_colors(adata, CLUSTER) if CLUSTER in adata.obs else {}
    shown = AnnData(obs=adata.obs[[]].copy(), obsm={basis: coordinates(adata, basis)})
    figure, axes = plt.subplots(
        1, len(n_clusters), figsize=(PANEL_SIZE * 1.15 * len(n_clusters), PANEL_SIZE + 0.4), squeeze=False
    )
    for ax, n in zip(axes[0], n_clusters, strict=True):
        cut = tree.cut(n_clusters=n, min_size=min_size)
        colors = colors_of_cut(tree, cut, palette, stored)
        shown.obs["cut"] = cut.cat.rename_categories(_short).array
        embedding(
            shown,
            "cut",
            basis=basis,
            ax=ax,
            palette={_short(name): color for name, color in colors.items()},
            title=f"{n} cluster{'s' if n > 1 else ''}" + (" (the model's)" if cut.equals(own) else ""),
            size=size,
            legend_loc="on data" if n <= MAX_ON_CELLS else "none",
        )
    save_figure(figure, save, "cluster_cuts")
    return figure


def _short(name: str) -> str:
    """Shorten the name of a union of many parts; its first part identifies it."""
    parts = name.split("+")
    return name if len(parts) <= MOST_PARTS else f"{parts[0]}+{len(parts) - 1} more"
