"""Shared parts of all plots: axes, style and saving."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

P = ParamSpec("P")
R = TypeVar("R")

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    # keep text as text in vector files, so that it can be searched and edited
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
}
"""Style of all plots; sizes of text and lines follow the user's settings."""

PRINT_DPI = 300
"""Resolution of saved images, and of rasterised points in vector files."""


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Draw with :data:`STYLE`, independent of the user's settings."""

    @wraps(function)
    def with_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.rc_context(STYLE):
            result = function(*args, **kwargs)
            is_interactive = plt.isinteractive()
        # the first figure of a notebook turns this on; the end of the context would turn it off again, and no
        # later figure would be shown
        mpl.interactive(is_interactive)
        return result

    return with_style


def axes_or_new(ax: Axes | None, width: float = 3.5, height: float = 3.0) -> Axes:
    """Return ``ax``, or the axes of a new figure of the given size in inches."""
    return plt.subplots(figsize=(width, height))[1] if ax is None else ax


def open_axes(ax: Axes) -> None:
    """Hide the frame at the top and right, also of axes made elsewhere."""
    ax.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, save: str | Path | bool | None, name: str) -> None:
    """Save a figure if requested.

    Parameters
    ----------
    figure
        The figure.
    save
        A path, whose suffix gives the format; ``True`` for ``<name>.<format>`` in scanpy's figure folder
        (``scanpy.settings.figdir``); ``None`` or ``False`` to save nothing.
    name
        Name of the file if ``save`` is ``True``.

    Raises
    ------
    ValueError
        If Matplotlib cannot write the format.
    """
    if save is None or save is False:
        return
    if save is True:
        import scanpy  # slow to import, and needed only here

        path = Path(scanpy.settings.figdir) / f"{name}.{scanpy.settings.file_format_figs}"
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        path = Path(save)
    figure.savefig(path, format=figure_format(path), dpi=PRINT_DPI, bbox_inches="tight")


def figure_format(path: str | Path) -> str:
    """Return the image format of a file's suffix.

    Raises
    ------
    ValueError
        If Matplotlib cannot write the format.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    known = sorted(Figure().canvas.get_supported_filetypes())
    if suffix not in known:
        raise ValueError(f"`save` is {str(path)!r}; expected a name that ends in one of {', '.join(known)}.")
    return suffix


def axes_figure(ax: Axes) -> Figure:
    """Return the figure of an axes, also if it is in a subfigure."""
    figure = ax.figure
    if isinstance(figure, SubFigure):
        figure = figure.figure
    if not isinstance(figure, Figure):
        raise ValueError("`ax` does not belong to a figure; expected the axes of one.")
    return figure
