"""The hierarchy of clusters as a dendrogram."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.patheffects as path_effects
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from scipy.cluster.hierarchy import dendrogram

from vmmscvi._annotation import CLUSTER, LEAF
from vmmscvi.plotting._access import Model, as_anndata, display_names, stored_colors
from vmmscvi.plotting._figure import axes_figure, axes_or_new, open_axes, save_figure, styled
from vmmscvi.plotting._names import as_text
from vmmscvi.plotting._palette import Palette, category_colors
from vmmscvi.priors import ClusterTree
from vmmscvi.priors._tree_joining import LARGEST_SCALE

ABOVE_CLUSTERS = "0.55"
LIGHTEST = 0.6
"""Share of white in the colour of a cluster's last part."""
SHARE_OF_AXES = 0.85
"""Width of the axes as a share of the figure's, before the layout is known."""
LETTER = 0.055
"""Width of a letter of a gene's name, in inches."""


@styled
def cluster_tree(
    tree: ClusterTree | AnnData | Model,
    *,
    key: str = LEAF,
    n_clusters: int | None = None,
    n_effective: float | None = None,
    min_size: int = 1,
    genes: pd.DataFrame | None = None,
    n_genes: int = 2,
    ax: Axes | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw the tree of clusters and their parts as a dendrogram.

    The axis shows the number of cells (effective sample size) needed to separate two branches. Branches that
    join on the left are far apart; branches that join on the right hardly differ. Dashed lines mark the
    model's own clusters and the cut.

    Parameters
    ----------
    tree
        A tree from :meth:`vmmscvi.SCVI_VMM.get_cluster_tree`; or annotated data with a tree in
        ``adata.uns["vmmscvi"]["cluster_tree"]``, or the model that has annotated them.
    key
        Column of ``adata.obs`` with the leaf of every cell, for annotated data.
    n_clusters, n_effective, min_size
        Level to colour, as in :meth:`vmmscvi.priors.ClusterTree.cut`; the model's own clusters by default.
    genes
        Genes to write at the splits, from :meth:`vmmscvi.SCVI_VMM.get_split_markers`.
    n_genes
        Number of genes for each side; short branches show fewer, but at least one.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of the clusters, as in :func:`vmmscvi.plotting.embedding`. By default the colours of the
        clusters in other plots: a union has the colour of its largest cluster; parts are lighter.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        Each row is a leaf, with the colour of its cluster, its name and its number of cells.

    Raises
    ------
    ValueError
        If the annotated data have no tree, ``tree`` has another type, or the level is out of range.
    """
    stored: dict[str, str] = {}
    names: dict[str, str] = {}
    if not isinstance(tree, ClusterTree):
        adata = as_anndata(tree, "tree")
        tree = ClusterTree.from_anndata(adata, key)
        stored = stored_colors(adata, CLUSTER) if CLUSTER in adata.obs else {}
        names = display_names(adata, CLUSTER, dict.fromkeys(tree.clusters))
    cut = tree.cut(n_clusters, n_effective, min_size)
    colors = colors_of_cut(tree, cut, palette, stored)
    by_leaf = cut.groupby(tree.assignments, observed=True).first()
    n_cells = tree.assignments.value_counts()
    parts = Counter(tree.clusters)
    labels = [
        as_text(names.get(leaf, leaf) if parts[cluster] == 1 else _part_name(leaf, names.get(cluster, "")))
        + f" ({n_cells[leaf]})"
        for leaf, cluster in zip(tree.leaves, tree.clusters, strict=True)
    ]
    ax = axes_or_new(ax, width=4.5 if genes is None else 6.5, height=max(1.5, 0.9 + 0.24 * len(labels)))
    cluster_of_node: list[str | None] = [
        str(by_leaf[leaf]) if leaf in by_leaf.index else None for leaf in tree.leaves
    ]
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
        _draw_levels(ax, tree, cut, tree.n_merges(n_clusters, n_effective, min_size), limit)
        if genes is not None:
            _write_genes(ax, tree, genes, n_genes, linkage[:, 2], order)
    else:
        order = [0]
        ax.set_yticks([0.0], labels)
        ax.set_xticks([])
    ax.yaxis.tick_right()
    for position, leaf in zip(ax.get_yticks(), order, strict=True):
        # names stay black, because light colours are hard to read
        cluster = cluster_of_node[leaf]
        color = ABOVE_CLUSTERS if cluster is None else colors[cluster]
        ax.plot(0, position, "o", color=color, markersize=5, clip_on=False, zorder=3)
    ax.tick_params(axis="y", length=0, labelsize="small")
    ax.set_xlabel("cells needed to separate groups (fewer: more different)")
    open_axes(ax)
    ax.spines["left"].set_visible(False)
    save_figure(axes_figure(ax), save, "cluster_tree")
    return ax


def colors_of_cut(
    tree: ClusterTree, cut: pd.Series, palette: Palette | None = None, stored: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Choose colours for a level of a tree that match those of the model's clusters."""
    if palette is not None:
        return category_colors(cut.cat.categories, palette)
    own = tree.cut()
    of_own = category_colors(own.cat.categories, None, stored)
    chosen = {}
    seen: Counter[str] = Counter()
    for name, largest in own.groupby(cut, observed=True).agg(lambda c: c.value_counts().idxmax()).items():
        n_parts = int((pd.crosstab(cut, own)[largest] > 0).sum())
        white = LIGHTEST * seen[largest] / max(n_parts - 1, 1) if n_parts > 1 else 0.0
        red, green, blue = (c + (1 - c) * white for c in to_rgb(of_own[str(largest)]))
        chosen[str(name)] = to_hex((red, green, blue))
        seen[largest] += 1
    return chosen


def _part_name(leaf: str, name: str) -> str:
    """Name a part by its number and the name of its cluster, if there is one."""
    return leaf if " (" not in name else f"{name.rsplit(' (', 1)[0]} {leaf}"


def _draw_levels(ax: Axes, tree: ClusterTree, cut: pd.Series, n_merges_of_cut: int, limit: float) -> None:
    """Mark the model's own level and, if it differs, the level of the cut."""
    n_own = len(set(tree.clusters))
    lines = {"model": (n_own, tree.n_merges())}
    if not cut.equals(tree.cut()):
        lines["cut"] = (cut.nunique(), n_merges_of_cut)
    for name, (n, n_merges) in lines.items():
        finer = tree.n_effective[n_merges - 1] if n_merges > 0 else limit
        coarser = tree.n_effective[n_merges] if n_merges < len(tree.n_effective) else 1.0
        at = float(np.log10(limit / np.sqrt(finer * coarser)))
        color = "0.4" if name == "model" else "black"
        ax.axvline(at, color=color, linewidth=0.9, linestyle=(0, (4, 2)), zorder=0)
        ax.annotate(
            f"{name}: {n}",
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            # the two lines may be close to each other
            xytext=(0, 2 if name == "model" else 11),
            textcoords="offset points",
            ha="center",
            fontsize="x-small",
            color=color,
        )


def _write_genes(
    ax: Axes, tree: ClusterTree, genes: pd.DataFrame, n_genes: int, heights: Any, order: list[int]
) -> None:
    """Write the genes of each side on its branch, as many as fit."""
    n_leaves = len(tree.leaves)
    rows = {leaf: 5.0 + 10.0 * position for position, leaf in enumerate(order)}
    places = [rows[leaf] for leaf in range(n_leaves)]
    for left, right in tree.merges:
        places.append((places[left] + places[right]) / 2)
    ends = np.concatenate((np.zeros(n_leaves), heights))
    inches = axes_figure(ax).get_figwidth() * SHARE_OF_AXES / float(ax.get_xlim()[0])
    best = genes[genes["rank"] <= n_genes].sort_values("rank")
    for (node, side), table in best.groupby(["node", "side"]):
        i = int(node) - n_leaves
        child = int(tree.merges[i][0 if side == "left" else 1])
        room = (float(heights[i]) - float(ends[child])) * inches
        names = [as_text(name) for name in table["gene"]]
        n = max(1, sum(len(" ".join(names[: k + 1])) * LETTER < room for k in range(len(names))))
        text = ax.annotate(
            " ".join(names[:n]),
            (float(heights[i]), places[child]),
            xytext=(2, 1.5),
            textcoords="offset points",
            fontsize="xx-small",
            color="0.25",
            ha="left",
            va="bottom",
        )
        text.set_path_effects([path_effects.withStroke(linewidth=2, foreground="white")])
