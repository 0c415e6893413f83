"""What the clusters of a prior express: decoded centres over the genes that mark them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import ReportData, Run
from vmmscvi.benchmark._schema import DECODED_FILE, DONE, EMBEDDING_FILE
from vmmscvi.plotting._figure import open_axes, styled
from vmmscvi.plotting._palette import COLORS

MAX_GENES = 40
"""Genes of a figure, as many as can be read."""

MAX_PER_CLUSTER = 4
GENE_WIDTH = 0.17
"""Inches."""

PSEUDO_COUNT = 0.1
"""Added to expression before a ratio is taken, as a multiple of the mean over genes: a gene that is nearly
absent everywhere marks nothing."""


def marker_genes(expression: NDArray[np.float32], n_per_cluster: int) -> list[NDArray[np.int64]]:
    """Choose genes that mark each cluster, from decoded expression alone.

    The score of a gene in a cluster is the log ratio of its expression there to the mean over the other
    clusters. A gene marks one cluster at most, that of its best score.

    Parameters
    ----------
    expression
        Decoded centres, shape ``(n_clusters, n_genes)``; rows sum to one.
    n_per_cluster
        Genes of each cluster; fewer where fewer are higher there than elsewhere.

    Returns
    -------
    Indices of genes for each cluster, best first.
    """
    n_clusters = len(expression)
    if n_clusters < 2:
        return [np.argsort(-expression[0], kind="stable")[:n_per_cluster]]
    offset = PSEUDO_COUNT / expression.shape[1]
    others = (expression.sum(axis=0) - expression) / (n_clusters - 1)
    scores = np.log((expression + offset) / (others + offset))
    home = scores.argmax(axis=0)
    chosen = []
    for cluster, score in enumerate(scores):
        own = np.flatnonzero((home == cluster) & (score > 0))
        chosen.append(own[np.argsort(-score[own], kind="stable")][:n_per_cluster])
    return chosen


def centers_figure(data: ReportData, dataset: str, method: str) -> Figure | None:
    """Draw the decoded centres of the own clusters of a method, its first finished seed.

    Parameters
    ----------
    data
        Results.
    dataset, method
        Which.

    Returns
    -------
    The figure; ``None`` if there are no decoded centres.
    """
    run = next((run for run in data.of(dataset, method) if _is_decoded(run)), None)
    if run is None:
        return None
    decoded = read_arrays(run.folder / DECODED_FILE)
    assigned = pd.Series(read_arrays(run.folder / EMBEDDING_FILE)["clusters"])
    shares = assigned.value_counts(normalize=True).reindex(decoded["clusters"], fill_value=0.0)
    figure = _draw(decoded["expression"], decoded["genes"], shares)
    figure.suptitle(f"{dataset}, {method}, seed {run.seed}: decoded centres", fontsize="medium")
    return figure


def _is_decoded(run: Run) -> bool:
    return run.status == DONE and (run.folder / DECODED_FILE).is_file()


@styled
def _draw(expression: NDArray[np.float32], genes: NDArray[np.str_], shares: pd.Series) -> Figure:
    order = _similar_side_by_side(expression)
    per_cluster = int(np.clip(MAX_GENES // len(order), 1, MAX_PER_CLUSTER))
    markers = np.concatenate(marker_genes(expression[order], per_cluster))[: 2 * MAX_GENES]
    log_expression = np.log1p(expression[np.ix_(order, markers)] * 1e4)
    low, high = log_expression.min(axis=0), log_expression.max(axis=0)
    scaled = (log_expression - low) / np.maximum(high - low, 1e-9)

    width, height = max(GENE_WIDTH * len(markers), 2.6), 2.1 + 0.22 * len(order)
    figure, (ax, bars) = plt.subplots(1, 2, figsize=(width + 2.6, height), width_ratios=(width, 0.9))
    image = ax.imshow(scaled, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks(np.arange(len(markers)), genes[markers], rotation=90, fontsize="x-small")
    ax.set_yticks(np.arange(len(order)), shares.index[order], fontsize="small")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_ylabel("cluster")
    ax.set_xlabel("marker genes, by decoded expression")
    bars.barh(np.arange(len(order)), shares.to_numpy()[order], color=COLORS[0], height=0.75)
    bars.set_ylim(ax.get_ylim())
    bars.set_yticks([])
    bars.set_xlabel("share of cells")
    open_axes(bars)
    bar = figure.colorbar(image, ax=bars, shrink=0.8, aspect=12, ticks=[0, 1])
    bar.ax.set_yticklabels(["lowest", "highest"], fontsize="small")
    bar.ax.set_title("of a gene", fontsize="small", loc="left")
    bar.outline.set_visible(False)
    return figure


def _similar_side_by_side(expression: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order of clusters in which similar ones are neighbours."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(expression) < 3:
        return np.arange(len(expression))
    tree = linkage(np.log1p(expression * 1e4), method="average", metric="euclidean", optimal_ordering=True)
    return np.asarray(leaves_list(tree), dtype=np.int64)
