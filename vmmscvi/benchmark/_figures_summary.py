"""All datasets at a glance: clusterings, numbers of clusters, integration."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._report_data import ReportData
from vmmscvi.plotting._embedding import LETTER_WIDTH
from vmmscvi.plotting._figure import open_axes, styled
from vmmscvi.plotting._palette import COLORS, category_colors

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
"""A shape for each method beside its colour, for prints without colour."""

MAX_COLUMNS = 4
PANEL_WIDTH = 2.1
ROW_HEIGHT = 0.36

CLUSTERING_STYLES = {
    _schema.OWN: ("own clusters", COLORS[0], "o", True),
    _schema.LEIDEN_1: ("Leiden, resolution 1", COLORS[1], "s", True),
    _schema.LEIDEN_BEST: ("Leiden, best resolution (chosen by labels)", COLORS[1], "s", False),
}
"""Name, colour, marker, and whether it is filled: what labels chose is hollow."""


@styled
def clusterings_figure(data: ReportData, measure: str, title: str) -> Figure | None:
    """Draw a measure of own clusters and of Leiden's, method by method, a point for each seed.

    Parameters
    ----------
    data
        Results.
    measure
        Measure of a clustering, such as ``"nmi"``.
    title
        What it is called.

    Returns
    -------
    The figure; ``None`` if there are no such scores.
    """
    datasets = [name for name in data.datasets if _any(data, name, CLUSTERING_STYLES, measure)]
    if not datasets:
        return None
    n_methods = max(len(data.methods(name)) for name in datasets)
    figure, panels = _panels(len(datasets), height=0.75 + ROW_HEIGHT * n_methods)
    offsets = np.linspace(-0.25, 0.25, len(CLUSTERING_STYLES))
    for i, (ax, dataset) in enumerate(zip(panels, datasets, strict=True)):
        methods = data.methods(dataset)
        for row, method in enumerate(methods):
            for offset, (clustering, style) in zip(offsets, CLUSTERING_STYLES.items(), strict=True):
                _, color, marker, filled = style
                values = data.trials(dataset, method, clustering, measure).dropna().to_numpy()
                face = color if filled else "none"
                y = row + offset + _spread(len(values), 0.12)
                ax.scatter(values, y, s=11, marker=marker, facecolor=face, edgecolor=color, linewidth=0.8)
            if not _any_of(data, dataset, method, CLUSTERING_STYLES, measure):
                statuses = sorted({run.status for run in data.of(dataset, method)} - {_schema.DONE})
                note = ", ".join(statuses) or "no clusters"
                ax.text(
                    0.5, row, note, transform=ax.get_yaxis_transform(), color="0.4", ha="center", va="center"
                )
        _method_axis(ax, methods, labelled=i % MAX_COLUMNS == 0 or methods != data.methods(datasets[i - 1]))
        ax.set_title(dataset, fontsize="medium")
        ax.set_xlabel(title)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=m,
            markersize=5,
            color=c,
            markerfacecolor=c if filled else "none",
            label=n,
        )
        for n, c, m, filled in CLUSTERING_STYLES.values()
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2 if len(datasets) < 4 else 3, fontsize="small"
    )
    return figure


@styled
def numbers_figure(data: ReportData) -> Figure | None:
    """Draw the number of own clusters and of Leiden's over that of annotated types, a point for each seed.

    Returns
    -------
    The figure; ``None`` if there are no clusters.
    """
    clusterings = [_schema.OWN, _schema.LEIDEN_1]
    datasets = [name for name in data.datasets if _any(data, name, clusterings, _schema.N_CLUSTERS)]
    if not datasets:
        return None
    methods = list(dict.fromkeys(method for name in datasets for method in data.methods(name)))
    figure, axes = plt.subplots(
        1, 2, figsize=(6.0, 1.1 + 0.55 * len(datasets)), sharex=True, sharey=True, squeeze=False
    )
    looks = _method_looks(methods)
    offsets = np.linspace(-0.3, 0.3, len(methods)) if len(methods) > 1 else np.zeros(1)
    for ax, clustering in zip(axes[0], clusterings, strict=True):
        for row, dataset in enumerate(datasets):
            n_types = data.sizes[dataset]["n_types"]
            for offset, method in zip(offsets, methods, strict=True):
                color, marker = looks[method]
                found = (
                    data.trials(dataset, method, clustering, _schema.N_CLUSTERS).dropna().to_numpy() / n_types
                )
                y = row + offset + _spread(len(found), 0.5 / len(methods))
                ax.scatter(found, y, s=14, color=color, marker=marker, linewidth=0)
            if row:
                ax.axhline(row - 0.5, color="0.85", linewidth=0.6)
        ax.axvline(1, color="black", linewidth=0.8, zorder=0)
        ax.set_title(CLUSTERING_STYLES[clustering][0], fontsize="medium")
        ax.set_xlabel("clusters / annotated types")
        open_axes(ax)
    ax = axes[0, 0]
    ax.set_yticks(np.arange(len(datasets)), [f"{name} ({data.sizes[name]['n_types']})" for name in datasets])
    ax.set_ylim(len(datasets) - 0.5, -0.5)
    _log2_ticks(ax)
    drawn = {
        m for m in methods for name in datasets if _any_of(data, name, m, clusterings, _schema.N_CLUSTERS)
    }
    _method_legend(figure, looks, drawn)
    return figure


@styled
def integration_figure(data: ReportData) -> Figure | None:
    """Draw bio conservation against batch correction: small points for seeds, large ones for their mean.

    Returns
    -------
    The figure; ``None`` if no dataset has both.
    """
    measures = (_schema.BATCH_CORRECTION, _schema.BIO_CONSERVATION)
    datasets = [
        name for name in data.datasets if all(_any(data, name, [""], measure) for measure in measures)
    ]
    if not datasets:
        return None
    methods = list(dict.fromkeys(method for name in datasets for method in data.methods(name)))
    looks = _method_looks(methods)
    figure, panels = _panels(len(datasets), height=2.3)
    drawn = set()
    for i, (ax, dataset) in enumerate(zip(panels, datasets, strict=True)):
        for method in data.methods(dataset):
            color, marker = looks[method]
            both = pd.DataFrame({m: data.trials(dataset, method, "", m) for m in measures}).dropna()
            if both.empty:
                continue
            drawn.add(method)
            x, y = both[measures[0]], both[measures[1]]
            ax.scatter(x, y, s=8, color=color, marker=marker, alpha=0.45, linewidth=0)
            ax.scatter(
                x.mean(),
                y.mean(),
                s=45,
                color=color,
                marker=marker,
                edgecolor="black",
                linewidth=0.6,
                zorder=3,
            )
        ax.set_title(dataset, fontsize="medium")
        ax.set_xlabel("batch correction")
        if i % MAX_COLUMNS == 0:
            ax.set_ylabel("bio conservation")
        ax.margins(0.12)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        open_axes(ax)
    _method_legend(figure, looks, drawn)
    return figure


def _any(data: ReportData, dataset: str, clusterings: Iterable[str], measure: str) -> bool:
    kinds = tuple(clusterings)
    return any(_any_of(data, dataset, method, kinds, measure) for method in data.methods(dataset))


def _any_of(data: ReportData, dataset: str, method: str, clusterings: Iterable[str], measure: str) -> bool:
    return any(data.trials(dataset, method, kind, measure).notna().any() for kind in clusterings)


def _spread(n: int, width: float) -> NDArray[np.float64]:
    """Offsets that keep points of the same value apart."""
    return np.linspace(-width / 2, width / 2, n) if n > 1 else np.zeros(n)


def _panels(n: int, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``n`` panels in rows; places that are left over stay empty."""
    n_columns = min(n, MAX_COLUMNS)
    n_rows = -(-n // n_columns)
    # room for the names of methods beside the first panel
    width, total = max(PANEL_WIDTH * n_columns + 1.2, 3.6), height * n_rows + 0.6
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(width, total), squeeze=False)
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:n])


def _method_axis(ax: Axes, methods: Sequence[str], labelled: bool) -> None:
    ax.set_yticks(np.arange(len(methods)), methods if labelled else [""] * len(methods))
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for row in range(1, len(methods)):
        ax.axhline(row - 0.5, color="0.85", linewidth=0.6)
    open_axes(ax)


def _method_looks(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    colors = category_colors(methods)
    return {method: (colors[method], MARKERS[i % len(MARKERS)]) for i, method in enumerate(methods)}


def _method_legend(figure: Figure, looks: dict[str, tuple[str, str]], drawn: Container[str]) -> None:
    """Name methods below a figure, also those of which there is nothing to see."""
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=marker,
            markersize=6,
            color=color,
            label=method if method in drawn else f"{method} (no scores)",
        )
        for method, (color, marker) in looks.items()
    ]
    longest = max(len(str(handle.get_label())) for handle in handles)
    room = figure.get_figwidth() / (0.4 + LETTER_WIDTH * longest)
    n_columns = int(np.clip(room, 1, len(handles)))
    figure.legend(handles=handles, loc="outside lower center", ncols=n_columns, fontsize="small")
    figure.set_figheight(figure.get_figheight() + 0.22 * -(-len(handles) // n_columns))


def _log2_ticks(ax: Axes) -> None:
    """Set a scale on which half and twice as many are equally far from as many."""
    ax.set_xscale("log", base=2)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 0.45), max(high, 2.2))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
