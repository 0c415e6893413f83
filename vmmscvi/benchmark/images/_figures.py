"""Figures of the image benchmark: batch sizes, and what clusters look like."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vmmscvi.benchmark.images._settings import TITLES
from vmmscvi.plotting._figure import styled
from vmmscvi.plotting._palette import category_colors

if TYPE_CHECKING:
    import pandas as pd

N_COLUMNS = 16
N_ROWS = 8


@styled
def batch_size_figure(cells: pd.DataFrame) -> Figure:
    """Clusters in use and unmerged NMI against the batch size: mean over seeds, and every seed as a point.

    Parameters
    ----------
    cells
        Cells of one dataset, with clusters.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 2.8))
    methods = list(dict.fromkeys(cells["method"]))
    colors = category_colors(methods)
    for ax, measure, label in zip(
        axes, ("n_clusters", "nmi"), ("clusters in use", "NMI, unmerged"), strict=True
    ):
        for method, marker in zip(methods, itertools.cycle("osD^vP"), strict=False):
            group = cells[cells["method"] == method]
            means = group.groupby("batch_size")[measure].mean()
            ax.plot(means.index, means, color=colors[method], marker=marker, ms=5, label=TITLES[method])
            ax.scatter(group["batch_size"], group[measure], color=colors[method], marker=marker, s=8)
        sizes = sorted(cells["batch_size"].unique())
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.set_xlabel("batch size")
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def predictive_figure(arrays: dict[str, NDArray[Any]], title: str) -> Figure:
    """Prior predictive samples of the heaviest clusters, a column for each.

    The first row is the most probable training image of the cluster; above it stands the mixing weight.

    Parameters
    ----------
    arrays
        What a cell wrote: ``weights``, ``most_probable`` and ``images``.
    title
        Title of the figure.
    """
    n_columns = min(N_COLUMNS, len(arrays["weights"]))
    n_rows = min(N_ROWS, arrays["images"].shape[1])
    side = int(np.sqrt(arrays["most_probable"].shape[1]))
    figure, axes = plt.subplots(
        n_rows + 1, n_columns, figsize=(0.42 * n_columns + 0.6, 0.42 * (n_rows + 1) + 0.6), squeeze=False
    )
    for j in range(n_columns):
        column = [arrays["most_probable"][j], *arrays["images"][j, :n_rows]]
        for ax, image in zip(axes[:, j], column, strict=True):
            ax.imshow(np.clip(image, -1, 1).reshape(side, side), cmap="gray_r", vmin=-1, vmax=1)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        axes[0, j].set_title(f"{100 * arrays['weights'][j]:.0f}%", fontsize=7)
        axes[0, j].spines[:].set(visible=True, color="tab:red")
    figure.suptitle(title, fontsize=9)
    return figure
