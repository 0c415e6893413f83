"""What all plots share: where they draw, how they look, how they are saved."""

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
    # text stays text in vector files, so that it can be searched and edited
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
}
"""Sizes of text and lines are left to the user's settings."""

PRINT_DPI = 300
"""Resolution of saved images, and of rasterised points in vector files."""


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Draw with :data:`STYLE`, whatever the settings outside."""

    @wraps(function)
    def with_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.rc_context(STYLE):
            result = function(*args, **kwargs)
            is_interactive = plt.isinteractive()
        # the first figure of a notebook turns this on, and the end of the context would turn it off for good:
        # no later figure would be shown
        mpl.interactive(is_interactive)
        return result

    return with_style


def axes_or_new(ax: Axes | None, width: float = 3.5, height: float = 3.0) -> Axes:
    """Return ``ax``, or the axes of a new figure of that size in inches."""
    return plt.subplots(figsize=(width, height))[1] if ax is None else ax


def open_axes(ax: Axes) -> None:
    """Leave out the frame at the top and at the right, also of axes that were made elsewhere."""
    ax.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, save: str | Path | bool | None, name: str) -> None:
    """Save a figure, if asked to.

    Parameters
    ----------
    figure
        What to save.
    save
        A path, whose suffix gives the format; ``True`` for ``<name>.<format>`` in scanpy's folder for figures
        (``scanpy.settings.figdir``), as scanpy does; ``None`` or ``False`` not to save.
    name
        Name of the file when ``save`` is ``True``.

    Raises
    ------
    ValueError
        If the suffix is not a format that Matplotlib can write.
    """
    if save is None or save is False:
        return
    if save is True:
        import scanpy  # slow to import, and only here are its settings needed

        path = Path(scanpy.settings.figdir) / f"{name}.{scanpy.settings.file_format_figs}"
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        path = Path(save)
    figure.savefig(path, format=figure_format(path), dpi=PRINT_DPI, bbox_inches="tight")


def figure_format(path: str | Path) -> str:
    """Return the format that a file's suffix stands for.

    Raises
    ------
    ValueError
        If Matplotlib cannot write it.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    known = sorted(Figure().canvas.get_supported_filetypes())
    if suffix not in known:
        raise ValueError(f"`save` is {str(path)!r}; expected a name that ends in one of {', '.join(known)}.")
    return suffix


def axes_figure(ax: Axes) -> Figure:
    """Return the figure that an axes belongs to, also from within a subfigure."""
    figure = ax.figure
    if isinstance(figure, SubFigure):
        figure = figure.figure
    if not isinstance(figure, Figure):
        raise ValueError("`ax` does not belong to a figure.")
    return figure
