"""Several embeddings side by side: one row for each embedding, one column for each colouring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from vmmscvi.plotting._access import (
    Model,
    as_anndata,
    categories,
    column_or_gene,
    coordinates,
    is_continuous,
)
from vmmscvi.plotting._embedding import LegendLocation, bare_axes, embedding
from vmmscvi.plotting._figure import save_figure, styled
from vmmscvi.plotting._palette import Palette

PANEL_SIZE = 2.4
"""Width and height of a panel in inches."""

MAX_ON_CELLS = 40
"""Largest number of names on the cells of a panel; more would hide each other and the cells."""

MAX_IN_LEGEND = 12
"""Largest number of groups in a legend below a panel; more groups are named on the cells."""


@styled
def embedding_panels(
    adata: AnnData | Model,
    bases: str | Sequence[str] | Mapping[str, str],
    color: str | Sequence[str | None] | Mapping[str, Sequence[str | None]],
    *,
    titles: Mapping[str, str] | None = None,
    palette: Palette | None = None,
    color_map: str = "viridis",
    size: float | None = None,
    empty: str = "none",
    save: str | Path | bool | None = None,
) -> Figure:
    """Draw several embeddings of the same cells, such as those of two priors, as rows of panels.

    If a column of panels shows the same groups in every row, one legend below names them. Groups are named on
    the cells if rows differ (as clusters do), if there are many groups, or if their names are numbers. More
    than 40 groups are not named.

    Parameters
    ----------
    adata
        Annotated data.
    bases
        Entries of ``adata.obsm``, one for each row. In a mapping, the keys are the names of the rows.
    color
        Columns of ``adata.obs`` or genes, one for each column of panels; or a mapping of such lists of equal
        length by name of the row. ``None`` leaves cells grey and writes ``empty`` on them.
    titles
        Titles of panels by column of ``adata.obs``; the name of the column by default. A panel that repeats
        the one above has no title.
    palette, color_map, size
        As in :func:`vmmscvi.plotting.embedding`.
    empty
        Text of panels whose ``color`` is ``None``.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Figure
        The figure.

    Raises
    ------
    ValueError
        If a column or an embedding is missing, or rows have different numbers of columns.
    """
    adata = as_anndata(adata)
    rows = _rows(bases)
    keys = _keys(color, rows)
    for basis in rows.values():
        coordinates(adata, basis)
    for name in {key for row in keys for key in row if key is not None}:
        column_or_gene(adata, name)
    n_columns = len(keys[0])
    figure, grid = plt.subplots(
        len(rows),
        n_columns,
        figsize=(PANEL_SIZE * n_columns + 0.3, (PANEL_SIZE + 0.2) * len(rows) + 0.3),
        squeeze=False,
    )
    for i, (row, basis) in enumerate(rows.items()):
        for j, key in enumerate(keys[i]):
            repeated = i > 0 and keys[i - 1][j] == key
            title = "" if key is None or repeated else (titles or {}).get(key, key)
            legend_loc = _legend_location(adata, [shown[j] for shown in keys], is_last=i == len(rows) - 1)
            if legend_loc == "on data" and key is not None and _n_groups(adata, key) > MAX_ON_CELLS:
                legend_loc = "none"
            embedding(
                adata,
                key,
                basis=basis,
                ax=grid[i, j],
                palette=palette,
                color_map=color_map,
                title=title,
                size=size,
                legend_loc=legend_loc,
            )
            if key is None:
                _note(grid[i, j], empty)
        if len(rows) > 1:
            grid[i, 0].set_ylabel(row, fontweight="bold", fontsize="large")
    layout = figure.get_layout_engine()
    if isinstance(layout, ConstrainedLayoutEngine) and len(rows) > 1:
        layout.set(hspace=0.04)
    _make_room_below(figure, grid[-1])
    save_figure(figure, save, "embedding_panels")
    return figure


def _make_room_below(figure: Figure, axes: Sequence[Axes]) -> None:
    """Increase the figure's height by that of the highest legend, so that panels keep their size."""
    legends = [legend for legend in (ax.get_legend() for ax in axes) if legend is not None]
    if legends:
        figure.draw_without_rendering()
        height = max(legend.get_window_extent().height for legend in legends) / figure.dpi
        figure.set_figheight(figure.get_figheight() + float(height))


def _rows(bases: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(bases, str):
        return {bases: bases}
    rows = dict(bases) if isinstance(bases, Mapping) else {basis: basis for basis in bases}
    if not rows:
        raise ValueError("`bases` is empty; expected at least one entry of `adata.obsm`.")
    return rows


def _keys(
    color: str | Sequence[str | None] | Mapping[str, Sequence[str | None]], rows: dict[str, str]
) -> list[list[str | None]]:
    """Columns of ``obs``, row by row."""
    if isinstance(color, Mapping):
        if set(color) != set(rows):
            raise ValueError(f"`color` has the keys {sorted(color)}; expected the rows {sorted(rows)}.")
        keys = [list(color[name]) for name in rows]
    else:
        keys = [[color] if isinstance(color, str) else list(color) for _ in rows]
    if len({len(row) for row in keys}) != 1 or not keys[0]:
        raise ValueError("`color` must have at least one entry, and the same number in every row.")
    return keys


def _legend_location(adata: AnnData, keys: list[str | None], is_last: bool) -> LegendLocation:
    """Choose the position of group names in a column of panels, given the keys of its rows."""
    key = keys[0]
    if key is None or len(set(keys)) > 1:
        return "on data"
    if is_continuous(column_or_gene(adata, key)):
        return "bottom"
    names = categories(adata, key).cat.categories
    if len(names) > MAX_IN_LEGEND or all(name.isdecimal() for name in names):
        return "on data"
    return "bottom" if is_last else "none"


def _n_groups(adata: AnnData, key: str) -> int:
    return 0 if is_continuous(column_or_gene(adata, key)) else len(categories(adata, key).cat.categories)


def _note(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", style="italic", wrap=True)
    bare_axes(ax)
