"""One panel with cells in the plane, coloured by a column or a gene."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import matplotlib.patheffects as path_effects
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vmmscvi._annotation import NOVELTY, PROBABILITY
from vmmscvi.plotting._access import (
    Model,
    as_anndata,
    categories,
    column_or_gene,
    coordinates,
    display_names,
    is_continuous,
    stored_colors,
)
from vmmscvi.plotting._figure import axes_figure, axes_or_new, save_figure, styled
from vmmscvi.plotting._names import as_text, name_handles
from vmmscvi.plotting._palette import MISSING_COLOR, Palette, category_colors
from vmmscvi.plotting._spread import SpreadLabels, medoid

LegendLocation: TypeAlias = Literal["right", "bottom", "on data", "none"]

CROWDED = 15
"""Largest number of names on the cells in normal size; more names are written smaller."""

SMALL_GROUP = 0.08
"""Groups with a smaller share of the panel's extent have their name above the cells, not on them."""

SHARES = (PROBABILITY, NOVELTY)
"""Columns with values between 0 and 1."""

LETTER_WIDTH = 0.07
"""Approximate width of a letter in a legend, in inches."""

LEGEND_ROWS = 14
"""Largest number of entries in a column of a legend."""


@styled
def embedding(
    adata: AnnData | Model,
    color: str | None = None,
    *,
    basis: str = "X_umap",
    layer: str | None = None,
    ax: Axes | None = None,
    palette: Palette | None = None,
    color_map: str = "viridis",
    title: str | None = None,
    size: float | None = None,
    legend_loc: LegendLocation = "right",
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw cells in the plane, coloured by a column of ``obs`` or a gene.

    Cells are drawn in a fixed random order, so no group covers another, and as pixels, so vector files stay
    small.

    Parameters
    ----------
    adata
        Annotated data, or a model that has annotated its data by :meth:`vmmscvi.SCVI_VMM.annotate`.
    color
        Column of ``adata.obs``, or a gene. Numbers are shown on a scale, other values as groups. All cells
        are grey by default.
    basis
        Entry of ``adata.obsm``, with or without the prefix ``X_``; its first two columns are drawn.
    layer
        Layer with the values of a gene; ``X`` by default. Whole numbers are treated as counts and shown as
        log(1 + counts per 10,000).
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of groups: the name of a colormap, a sequence, a mapping by group or a cycler. By default the
        colours that scanpy stored in ``adata.uns["<color>_colors"]``, or else a colour-blind-safe palette.
    color_map
        Colormap of numbers.
    title
        Title; ``color`` by default.
    size
        Area of a point in square points; the default decreases with the number of cells.
    legend_loc
        Position of the group names: ``"right"`` of the axes, at the ``"bottom"``, ``"on data"`` (at the
        medoid of each group, best for many groups) or ``"none"``. A colour scale is hidden only by
        ``"none"``.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    ValueError
        If column or coordinates are missing, or the palette is invalid.
    """
    adata = as_anndata(adata)
    points = coordinates(adata, basis)
    ax = axes_or_new(ax)
    size = point_size(adata.n_obs) if size is None else size
    order = np.random.default_rng(0).permutation(adata.n_obs)
    values = None if color is None else column_or_gene(adata, color, layer)
    if color is None or values is None:
        _scatter(ax, points, MISSING_COLOR, size)
    elif is_continuous(values):
        _draw_scale(ax, points[order], values.iloc[order], size, color_map, legend_loc)
    else:
        groups = categories(adata, color, "color")
        colors = category_colors(groups.cat.categories, palette, stored_colors(adata, color))
        names = display_names(adata, color, groups.cat.categories)
        rgba = to_rgba_array([*colors.values(), MISSING_COLOR])[groups.cat.codes]  # code -1 is missing
        _scatter(ax, points[order], rgba[order], size)
        if legend_loc == "on data":
            _label_groups(ax, points, groups, names)
        elif legend_loc != "none":
            named = {names[name]: shade for name, shade in colors.items()}
            group_legend(ax, named, legend_loc, has_missing=bool(groups.isna().any()))
    ax.set_title(as_text(color) if title is None and color is not None else title or "")
    bare_axes(ax)
    save_figure(axes_figure(ax), save, f"embedding_{color}" if color else "embedding")
    return ax


def point_size(n_obs: int) -> float:
    """Return the area of a point, in square points, for a three-inch panel with ``n_obs`` cells."""
    return float(np.clip(7_000 / max(n_obs, 1), 0.3, 15.0))


def bare_axes(ax: Axes) -> None:
    """Remove ticks and frame and use equal scales, because only distances have a meaning."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.patch.set_visible(False)  # names may extend into the next panel
    ax.margins(0.04)
    ax.set_aspect("equal", adjustable="datalim")


def group_legend(
    ax: Axes,
    colors: Mapping[str, str],
    legend_loc: Literal["right", "bottom"],
    has_missing: bool = False,
    background: str | None = None,
) -> None:
    """Add a legend of groups beside or below an axes: ``background`` first, missing values last."""
    shown = [
        *([(background, MISSING_COLOR)] if background is not None else []),
        *colors.items(),
        *([("(none)", MISSING_COLOR)] if has_missing else []),
    ]
    names = [name for name, _ in shown]
    handles = [Line2D([], [], marker="o", linestyle="", markersize=5, color=c) for _, c in shown]
    common = {"handletextpad": 0.1, "labelspacing": 0.3, "columnspacing": 0.8, "fontsize": "small"}
    if legend_loc == "right":
        n_columns = 1 + (len(shown) - 1) // LEGEND_ROWS
        place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    else:
        widest = LETTER_WIDTH * max((len(as_text(name)) for name in names), default=0)
        n_columns = max(1, min(len(shown), int(_width(ax) / (0.25 + widest))))
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    name_handles(ax, handles, names, ncols=n_columns, **place, **common)


def _width(ax: Axes) -> float:
    """Return the expected width of an axes in inches, before the layout of the figure is known."""
    share = ax.get_position().width
    spec = ax.get_subplotspec()
    if spec is not None:
        share = len(spec.colspan) / spec.get_gridspec().ncols
    return float(share * axes_figure(ax).get_figwidth())


def _scatter(ax: Axes, points: NDArray[np.float64], color: NDArray[np.float64] | str, size: float) -> None:
    ax.scatter(points[:, 0], points[:, 1], c=color, s=size, linewidths=0, rasterized=True)


def _draw_scale(
    ax: Axes,
    points: NDArray[np.float64],
    values: pd.Series,
    size: float,
    color_map: str,
    legend_loc: LegendLocation,
) -> None:
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = ~np.isfinite(numbers)
    _scatter(ax, points[missing], MISSING_COLOR, size)
    drawn = ax.scatter(
        points[~missing, 0],
        points[~missing, 1],
        c=numbers[~missing],
        s=size,
        cmap=color_map,
        # shares have the same scale in all plots; narrow limits would show noise
        vmin=0.0 if values.name in SHARES else None,
        vmax=1.0 if values.name in SHARES else None,
        linewidths=0,
        rasterized=True,
    )
    if legend_loc != "none":
        # inside the panel's axes, so that adjacent panels keep the same size
        right = legend_loc == "right"
        place = (1.02, 0.2, 0.04, 0.6) if right else (0.2, -0.06, 0.6, 0.04)
        bar = axes_figure(ax).colorbar(
            drawn, cax=ax.inset_axes(place), orientation="vertical" if right else "horizontal"
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize="small")


def _label_groups(ax: Axes, points: NDArray[np.float64], groups: pd.Series, names: dict[str, str]) -> None:
    """Write each group's name at its medoid, with a halo for legibility on any colour."""
    codes = groups.cat.codes.to_numpy()
    font_size = "small" if len(groups.cat.categories) <= CROWDED else "x-small"
    labels, offsets = [], []
    for code, name in enumerate(groups.cat.categories):
        cells = points[codes == code]
        # medoid, because the mean or median may lie between the parts of a group, on cells of another
        extent = np.ptp(np.quantile(cells, [0.05, 0.95], axis=0), axis=0).max() / np.ptp(points, axis=0).max()
        offsets.append((0.0, 0.0 if extent > SMALL_GROUP else 8.0))
        text = ax.annotate(
            as_text(names[name]),
            tuple(medoid(cells)),
            xytext=offsets[-1],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=font_size,
            fontweight="bold",
        )
        text.set_path_effects([path_effects.withStroke(linewidth=2.5, foreground="white")])
        labels.append(text)
    SpreadLabels(ax, labels, np.array(offsets))
