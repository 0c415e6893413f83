"""The hierarchy of clusters as a dendrogram."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from scipy.cluster.hierarchy import dendrogram

from vmmscvi.plotting._access import categories, stored_results
from vmmscvi.plotting._figure import axes_figure, axes_or_new, open_axes, save_figure, styled
from vmmscvi.plotting._names import as_text
from vmmscvi.plotting._palette import Palette, category_colors
from vmmscvi.priors import ClusterTree
from vmmscvi.priors.cluster_tree import LARGEST_SCALE

LEAF = "vmm_leaf"
ABOVE_CLUSTERS = "0.55"


@styled
def cluster_tree(
    tree: ClusterTree | AnnData,
    *,
    key: str = LEAF,
    n_clusters: int | None = None,
    n_effective: float | None = None,
    ax: Axes | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw clusters, their parts, and how they join.

    The axis shows how many cells, all in all, it takes to tell two branches apart: branches that join at the
    left are far apart, branches that join at the right hardly differ.

    Parameters
    ----------
    tree
        From :meth:`vmmscvi.SCVI_VMM.get_cluster_tree`; or annotated data with the tree in
        ``adata.uns["vmmscvi"]["cluster_tree"]``, as the command line writes it.
    key
        Column of ``adata.obs`` with the leaf of every cell, for annotated data.
    n_clusters, n_effective
        A level to colour, as in :meth:`vmmscvi.priors.ClusterTree.cut`; the model's own clusters by default.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of the clusters, as in :func:`vmmscvi.plotting.embedding`.
    save
        Path of an image to write, or ``True`` for scanpy's folder for figures.

    Returns
    -------
    The axes; a leaf in each row, with the colour of its cluster, its name and its number of cells.

    Raises
    ------
    ValueError
        If there is no tree in the annotated data, ``tree`` is something else, or the level is out of range.
    """
    if isinstance(tree, AnnData):
        stored = stored_results(tree, "cluster_tree")
        if stored is None:
            raise ValueError(
                "`tree` is an AnnData without `uns['vmmscvi']['cluster_tree']`; expected one that "
                "`vmmscvi integrate` wrote, or the result of `get_cluster_tree`."
            )
        tree = ClusterTree.from_dict(stored, categories(tree, key))
    if not isinstance(tree, ClusterTree):
        advice = "; call its `get_cluster_tree()` first" if hasattr(tree, "get_cluster_tree") else ""
        raise ValueError(f"`tree` must be a ClusterTree or an AnnData, found {type(tree).__name__}{advice}.")
    # a leaf need not have cells
    of_leaves = replace(tree, assignments=pd.Series(pd.Categorical(tree.leaves, categories=tree.leaves)))
    cut = of_leaves.cut(n_clusters, n_effective)
    colors = category_colors(cut.cat.categories, palette)
    n_cells = tree.assignments.value_counts()
    labels = [f"{as_text(leaf)} ({n_cells[leaf]})" for leaf in tree.leaves]
    ax = axes_or_new(ax, width=4.5, height=max(1.5, 0.7 + 0.24 * len(labels)))
    cluster_of_node: list[str | None] = [str(name) for name in cut]
    for left, right in tree.merges:
        sides = {cluster_of_node[left], cluster_of_node[right]}
        cluster_of_node.append(sides.pop() if len(sides) == 1 else None)
    if len(tree.merges):
        limit = 10 ** np.ceil(np.log10(tree.n_effective.max()) + 0.05)
        linkage = tree.linkage()
        linkage[:, 2] -= np.log10(LARGEST_SCALE / limit)
        drawn = dendrogram(
            linkage,
            orientation="left",
            labels=labels,
            ax=ax,
            link_color_func=lambda node: (
                colors.get(cluster_of_node[node] or "", ABOVE_CLUSTERS)
                if cluster_of_node[node] is not None
                else ABOVE_CLUSTERS
            ),
        )
        order = drawn["leaves"]
        decades = np.arange(0, int(np.log10(limit)) + 1)
        ax.set_xticks(decades, [f"$10^{{{int(np.log10(limit)) - d}}}$" for d in decades])
        ax.set_xlim(right=0, left=1.05 * float(linkage[:, 2].max()))
    else:
        order = [0]
        ax.set_yticks([0.0], labels)
        ax.set_xticks([])
    ax.yaxis.tick_right()
    for position, leaf in zip(ax.get_yticks(), order, strict=True):
        # names stay black: a light colour could not be read
        ax.plot(
            0, position, "o", color=colors[str(cluster_of_node[leaf])], markersize=5, clip_on=False, zorder=3
        )
    ax.tick_params(axis="y", length=0, labelsize="small")
    ax.set_xlabel("effective cells that tell branches apart")
    open_axes(ax)
    ax.spines["left"].set_visible(False)
    save_figure(axes_figure(ax), save, "cluster_tree")
    return ax
