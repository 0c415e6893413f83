"""Comparison of cells generated from the prior with real cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from vmmscvi._layers import layer_names
from vmmscvi.plotting._access import categories, coordinates, stored_colors
from vmmscvi.plotting._embedding import bare_axes, group_legend, point_size
from vmmscvi.plotting._figure import axes_figure, axes_or_new, open_axes, save_figure, styled
from vmmscvi.plotting._palette import COLORS, MISSING_COLOR, Palette, category_colors


@styled
def generated_cells(
    adata: AnnData,
    generated: AnnData,
    *,
    basis: str = "X_vmm",
    color: str | None = "component",
    ax: Axes | None = None,
    palette: Palette | None = None,
    size: float | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw generated cells over real cells, along the first principal components of the latent space.

    The projection is linear and fitted to real cells only. A joint UMAP would pull both kinds of cells
    together.

    Parameters
    ----------
    adata
        Real cells.
    generated
        Generated cells, for example from :meth:`vmmscvi.SCVI_VMM.sample_prior`.
    basis
        Entry of ``obsm`` of both, with latent positions of the same model.
    color
        Column of ``generated.obs``; ``None`` for a single colour.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Colours of groups, as in :func:`vmmscvi.plotting.embedding`.
    size
        Area of a point in square points.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        The axes, with real cells in grey.

    Raises
    ------
    ValueError
        If latent positions are missing or have different dimensions, or the column is missing.
    """
    real, drawn = coordinates(adata, basis, None), coordinates(generated, basis, None)
    if real.shape[1] != drawn.shape[1]:
        raise ValueError(
            f"`basis` {basis!r} has {real.shape[1]} dimensions in `adata` and {drawn.shape[1]} in "
            "`generated`; expected latent positions of the same model."
        )
    mean, axes = _principal_axes(real)
    real, drawn = (real - mean) @ axes, (drawn - mean) @ axes
    ax = axes_or_new(ax)
    colors: dict[str, str] = {"generated": COLORS[0]}
    shades: Any = COLORS[0]
    if color is not None:
        groups = categories(generated, color, "color")
        colors = category_colors(groups.cat.categories, palette, stored_colors(generated, color))
        shades = [colors.get(str(name), MISSING_COLOR) for name in groups]
    size = point_size(len(real) + len(drawn)) if size is None else size
    for points, point_colors in ((real, MISSING_COLOR), (drawn, shades)):
        ax.scatter(points[:, 0], points[:, 1], c=point_colors, s=size, linewidths=0, rasterized=True)
    group_legend(ax, colors, "right", background="real")
    bare_axes(ax)
    ax.set_xlabel("PC 1")
    ax.set_ylabel("PC 2")
    save_figure(axes_figure(ax), save, "generated_cells")
    return ax


@styled
def generated_expression(
    adata: AnnData,
    generated: AnnData,
    *,
    layer: str | None = None,
    ax: Axes | None = None,
    palette: Palette | None = None,
    save: str | Path | bool | None = None,
) -> Axes:
    """Draw the mean count of every gene in generated cells against the mean count in real cells.

    Parameters
    ----------
    adata
        Counts of real cells.
    generated
        Counts of generated cells in ``X``, for example from :meth:`vmmscvi.SCVI_VMM.sample_prior`.
    layer
        Layer of ``adata`` with the counts; ``X`` by default.
    ax
        Axes to draw on; those of a new figure by default.
    palette
        Palette whose first colour is used for the points.
    save
        Path of an image to write, or ``True`` for scanpy's figure folder.

    Returns
    -------
    Axes
        The title gives Pearson's correlation of the log means over genes with counts in both.

    Raises
    ------
    ValueError
        If the layer is missing, or there are fewer than two common genes with counts.
    """
    if layer is not None and layer not in layer_names(adata):
        raise ValueError(f"`layer` is {layer!r}; expected one of `adata.layers`: {layer_names(adata)}.")
    common = adata.var_names.intersection(generated.var_names, sort=False)
    counts = adata.X if layer is None else adata.layers[layer]
    real = _gene_means(counts)[adata.var_names.get_indexer(common)]
    drawn = _gene_means(generated.X)[generated.var_names.get_indexer(common)]
    seen = (real > 0) & (drawn > 0)
    if seen.sum() < 2:
        raise ValueError(
            f"`adata` and `generated` share {len(common)} genes, {seen.sum()} of them with counts in both; "
            "expected two or more."
        )
    ax = axes_or_new(ax, width=3.2)
    point_color = category_colors(["gene"], palette)["gene"]
    ax.scatter(real[seen], drawn[seen], s=5, c=point_color, alpha=0.5, linewidths=0, rasterized=True)
    means = np.concatenate([real[seen], drawn[seen]])
    limits = (means.min() / 1.5, means.max() * 1.5)
    ax.plot(limits, limits, color="black", linewidth=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    ax.xaxis.set_major_locator(LogLocator(numticks=5))
    ax.yaxis.set_major_locator(LogLocator(numticks=5))
    ax.minorticks_off()
    ax.set_aspect("equal")
    open_axes(ax)
    ax.set_xlabel("mean count, real cells")
    ax.set_ylabel("mean count, generated cells")
    correlation = np.corrcoef(np.log(real[seen]), np.log(drawn[seen]))[0, 1]
    ax.set_title(f"{seen.sum()} genes, r = {correlation:.3f}", fontsize="medium")
    save_figure(axes_figure(ax), save, "generated_expression")
    return ax


def _principal_axes(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean ``(p,)`` and the first principal axes ``(p, 2)``, with positive largest entries."""
    mean = points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(points, rowvar=False))
    axes = axes[:, ::-1][:, :2]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return mean, axes * np.sign(largest)


def _gene_means(counts: Any) -> NDArray[np.float64]:
    return np.asarray(counts.mean(axis=0), dtype=np.float64).ravel()
