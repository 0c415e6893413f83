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
"""More parts of a union than these are not all named on the cells."""
LEVELS = (0.5, 1.0, 2.0)
"""Numbers of clusters that are shown by default, as multiples of the model's own."""


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
    """Draw the same cells with coarser and finer clusters, to choose how fine they should be.

    Parameters
    ----------
    adata
        Annotated data, or a model whose data :meth:`vmmscvi.SCVI_VMM.annotate` has written to.
    n_clusters
        Numbers of clusters, a panel for each; by default half as many as the model found, as many, and
        twice as many (or as many as there are).
    min_size
        Fewest cells of a cluster, as in :meth:`vmmscvi.priors.ClusterTree.cut`.
    tree
        The tree; by default that of the annotation.
    palette
        Colours of the clusters of each panel; by default a union has the colour of its largest cluster, and
        parts of a cluster are shades of its colour.
    basis, size
        As in :func:`vmmscvi.plotting.embedding`.
    save
        Path of an image to write, or ``True`` for scanpy's folder for figures.

    Returns
    -------
    The figure.

    Raises
    ------
    ValueError
        If there is no tree or no embedding, or a number of clusters cannot be had.
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
    """Shorten the name of a union of many, of which the first alone is in no other cluster."""
    parts = name.split("+")
    return name if len(parts) <= MOST_PARTS else f"{parts[0]}+{len(parts) - 1} more"
