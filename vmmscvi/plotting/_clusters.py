"""Plots of clusters: weights, confidence of assignments, and composition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from vmmscvi._annotation import CLUSTER, PROBABILITY
from vmmscvi.plotting._access import (
    Model,
    as_anndata,
    categories,
    column,
    display_names,
    is_continuous,
    stored_colors,
    stored_results,
)
from vmmscvi.plotting._figure import axes_figure, axes_or_new, open_axes, save_figure, styled
from vmmscvi.plotting._names import as_text, name_handles
from vmmscvi.plotting._palette import COLORS, Palette, category_colors

CLUSTERS = CLUSTER
LONGEST_UPRIGHT = 4
"""Largest number of letters of a name below a bar that is not rotated."""
ALL_CELLS = "all cells"


@styled
def cluster_weights(
    adata: AnnData | Model,
    *,
    key: str = CLUSTERS,
    weights: pd.Series | dict[str, float] | None = None,
    ax: Axes | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw the share of cells in every cluster and, if known, the weight of the cluster in the prior.

    Parameters
    ----------
    adata
        Annotated data with hard assignments, or (as in all plots) a model whose data are annotated.
    key
        Column of ``adata.obs`` with the clusters.
    weights
        Mixing weights by cluster, for example from :meth:`vmmscvi.SCVI_VMM.get_cluster_weights`; by default
        those in ``adata.uns["vmmscvi"]["weights"]``, if present. They may sum to less than one over the
        clusters shown, because empty components keep some weight.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of clusters, as in :func:`vmmscvi.plotting.embedding`. By default all bars have the same
        colour, because the axis names them.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        The axes, with the largest cluster first.

    Raises
    ------
    ValueError
        If the column is missing or empty.
    """
    adata = as_anndata(adata)
    shares = categories(adata, key).value_counts(normalize=True)
    if shares.empty:
        raise ValueError(f"`adata.obs[{key!r}]` has no clusters; expected at least one assigned cell.")
    names = list(shares.index)
    colors: Any = COLORS[0] if palette is None else list(category_colors(names, palette).values())
    ax = axes_or_new(ax, width=max(2.5, 1.2 + 0.28 * len(names)))
    positions = np.arange(len(names))
    ax.bar(positions, shares.to_numpy(), width=0.75, color=colors, label="share of cells")
    weights = stored_results(adata, "weights") if weights is None else weights
    if weights is not None:
        values = [float(weights.get(name, np.nan)) for name in names]
        # a line across the bar shows the difference without doubling the number of bars
        ax.hlines(values, positions - 0.45, positions + 0.45, color="black", label="weight in the prior")
        ax.legend(fontsize="small", loc="upper right")
        ax.set_ylim(top=1.25 * max(shares.max(), np.nanmax([*values, 0.0])))
    shown = [as_text(name) for name in display_names(adata, key, names).values()]
    is_long = max(map(len, shown)) > LONGEST_UPRIGHT
    ax.set_xticks(positions, shown, rotation=90 if is_long else 0)
    ax.set_xlim(-0.7, len(names) - 0.3)
    ax.set_xlabel("cluster")
    ax.set_ylabel("share")
    open_axes(ax)
    save_figure(axes_figure(ax), save, "cluster_weights")
    return ax


@styled
def assignment_confidence(
    adata: AnnData | Model,
    *,
    groupby: str = CLUSTERS,
    probability: str = PROBABILITY,
    thresholds: Sequence[float] = (0.5, 0.8, 0.95),
    ax: Axes | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw the confidence of assignments for each group.

    Parameters
    ----------
    adata
        Annotated data with the probability of each cell's cluster.
    groupby
        Column of ``adata.obs``, one bar for each group. Types and batches are as informative as clusters.
    probability
        Column of ``adata.obs`` with the probability of each cell's cluster.
    thresholds
        Limits of the probability classes, ascending, between 0 and 1.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of the classes, from low to high confidence: the name of a colormap, or a sequence. Shades of
        blue by default.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        The axes, with a bar for all cells at the top, then groups from high to low confidence.

    Raises
    ------
    ValueError
        If a column is missing or not numeric, or thresholds are not ascending.
    """
    limits = [0.0, *thresholds, 1.0]
    if any(low >= high for low, high in pairwise(limits)):
        raise ValueError(f"`thresholds` is {list(thresholds)}; expected ascending numbers between 0 and 1.")
    adata = as_anndata(adata)
    values = column(adata, probability, "probability")
    if not is_continuous(values):
        raise ValueError(f"`adata.obs[{probability!r}]` has type {values.dtype}; expected probabilities.")
    groups = categories(adata, groupby, "groupby")
    names = [f"{low:g} to {high:g}" for low, high in pairwise(limits)]
    classes = pd.cut(values, limits, labels=names, include_lowest=True)
    table = pd.crosstab(groups, classes, normalize="index").reindex(columns=names, fill_value=0.0)
    sureness = values.groupby(groups, observed=True).mean()
    table = table.loc[sureness.sort_values().index].rename(display_names(adata, groupby, table.index))
    table = _with_all_cells(table, classes.value_counts(normalize=True).reindex(names, fill_value=0.0))
    if palette is None:
        palette = [mpl.colormaps["Blues"](position) for position in np.linspace(0.12, 1.0, len(names))]
    ax, handles = _stacked_bars(ax, table, category_colors(names, palette), groupby)
    name_handles(ax, handles, names, title="probability", **_BESIDE)
    save_figure(axes_figure(ax), save, f"assignment_confidence_{groupby}")
    return ax


@styled
def composition(
    adata: AnnData | Model,
    by: str,
    *,
    groupby: str = CLUSTERS,
    ax: Axes | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw the composition of every cluster, for example by batch.

    Clusters whose bar resembles that of all cells are as mixed as the data. A cluster of a single batch is
    either a type that occurs only there, or a remaining batch effect.

    Parameters
    ----------
    adata
        Annotated data.
    by
        Column of ``adata.obs`` that divides the bars, such as batch, donor or type.
    groupby
        Column of ``adata.obs``, one bar for each group.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of the groups of ``by``, as in :func:`vmmscvi.plotting.embedding`.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        The axes, with a bar for all cells at the top, then the groups in order.

    Raises
    ------
    ValueError
        If a column is missing, or the palette is invalid.
    """
    adata = as_anndata(adata)
    parts = categories(adata, by, "by")
    groups = categories(adata, groupby, "groupby")
    if parts.isna().all() or groups.isna().all():
        empty = by if parts.isna().all() else groupby
        raise ValueError(f"`adata.obs[{empty!r}]` has no values; expected at least one cell with a value.")
    names = list(parts.cat.categories)
    table = pd.crosstab(groups, parts, normalize="index").reindex(columns=names, fill_value=0.0).iloc[::-1]
    group_names = display_names(adata, groupby, table.index)
    table.index = pd.Index([group_names[str(name)] for name in table.index])
    table = _with_all_cells(table, parts.value_counts(normalize=True).reindex(names, fill_value=0.0))
    colors = category_colors(names, palette, stored_colors(adata, by))
    ax, handles = _stacked_bars(ax, table, colors, groupby)
    name_handles(ax, handles, names, title=as_text(by), **_BESIDE)
    save_figure(axes_figure(ax), save, f"composition_{by}")
    return ax


_BESIDE: dict[str, Any] = {
    "loc": "center left",
    "bbox_to_anchor": (1.0, 0.5),
    "fontsize": "small",
    "title_fontsize": "small",
}


def _with_all_cells(table: pd.DataFrame, shares: pd.Series) -> pd.DataFrame:
    """Append a row for all cells; a group may have the same name."""
    values = np.vstack([table.to_numpy(dtype=float), shares.to_numpy(dtype=float)])
    return pd.DataFrame(values, index=[*map(str, table.index), ALL_CELLS], columns=list(table.columns))


def _stacked_bars(
    ax: Axes | None, table: pd.DataFrame, colors: dict[str, str], ylabel: str
) -> tuple[Axes, list[Any]]:
    """Draw one horizontal bar for each row of the table; the last is at the top, separated by a gap.

    Returns
    -------
    tuple
        The axes, and a legend handle for each column.
    """
    ax = axes_or_new(ax, width=4.5, height=max(1.8, 0.7 + 0.22 * len(table)))
    positions = np.arange(len(table), dtype=float)
    positions[-1] += 0.4
    start = np.zeros(len(table))
    handles: list[Any] = []
    for name in table.columns:
        shares = table[name].to_numpy()
        color = colors[str(name)]
        handles.append(
            ax.barh(
                positions,
                shares,
                left=start,
                height=0.8,
                color=color,
                edgecolor="white",
                linewidth=0.4,
                label=str(name),
            )
        )
        start += shares
    ax.set_yticks(positions, [as_text(name) for name in table.index])
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of cells")
    ax.set_ylabel(as_text(ylabel))
    ax.spines["left"].set_visible(False)
    open_axes(ax)
    ax.tick_params(axis="y", length=0)
    return ax, handles
