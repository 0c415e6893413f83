"""Colours of categories, distinguishable with all common types of colour vision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from cycler import Cycler
from matplotlib.colors import is_color_like, to_hex
from matplotlib.typing import ColorType

Palette: TypeAlias = "str | Sequence[ColorType] | Mapping[str, ColorType] | Cycler[Any, Any]"
"""A palette as in scanpy: the name of a colormap, colours in order, colours by category, or a cycler."""

MISSING_COLOR = "#d9d9d9"
"""Colour of cells without a value, and of background cells."""

COLORS: tuple[str, ...] = (
    # the first six are chromatic colours of Okabe & Ito's palette (jfly.uni-koeln.de/color)
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    # each further colour is as far as possible (OKLab) from all before it, from white and from MISSING_COLOR,
    # for normal vision, protanopia and deuteranopia, among colours that are neither glaring nor nearly black
    "#5a1e00",
    "#002d78",
    "#784b4b",
    "#f0e15a",
    "#5a87f0",
    "#96c396",
    "#004ba5",
    "#0f3c4b",
    "#a54b00",
    "#964b87",
    "#693c00",
    "#5ad2ff",
    "#5a785a",
    "#693c78",
)
"""The default palette. About a dozen colours are distinguishable; with more groups, label them."""


def category_colors(
    categories: Iterable[str],
    palette: Palette | None = None,
    stored: Mapping[str, ColorType] | None = None,
) -> dict[str, str]:
    """Choose a colour for every category.

    Parameters
    ----------
    categories
        Names of the categories, in the order of the colours.
    palette
        Name of a Matplotlib colormap (qualitative ones are used in order, continuous ones in equal steps), a
        sequence of colours, a mapping from category to colour, or a cycler with the key ``"color"``. A
        sequence that is too short is repeated.
    stored
        Colours by category, for example those that scanpy stores in an AnnData. They are used without a
        ``palette`` if they cover all categories.

    Returns
    -------
    dict[str, str]
        Mapping from category to a hexadecimal colour.

    Raises
    ------
    ValueError
        If a mapping lacks a category, the name of a colormap is unknown, or a colour is invalid.
    """
    names = [str(category) for category in categories]
    if palette is None and stored and all(name in stored for name in names):
        palette = stored
    if isinstance(palette, Mapping):
        lacking = [name for name in names if name not in palette]
        if lacking:
            raise ValueError(f"`palette` has no colour for {lacking[:5]}; expected one for each of {names}.")
        colors: Sequence[ColorType] = [palette[name] for name in names]
    elif palette is None:
        colors = COLORS
    else:
        colors = _listed(palette, len(names))
    wrong = [color for color in colors if not is_color_like(color)]
    if wrong:
        raise ValueError(f"`palette` has {wrong[0]!r}, which is not a colour that Matplotlib knows.")
    return {name: to_hex(colors[i % len(colors)]) for i, name in enumerate(names)}


def _listed(palette: str | Sequence[ColorType] | Cycler[Any, Any], n: int) -> Sequence[ColorType]:
    """Return colours in order, from a colormap, a sequence or a cycler."""
    if isinstance(palette, str):
        if palette not in mpl.colormaps:
            raise ValueError(
                f"`palette` is {palette!r}; expected the name of a colormap, colours or a mapping."
            )
        cmap = mpl.colormaps[palette]
        listed: Sequence[ColorType] | None = getattr(cmap, "colors", None)
        # continuous colormaps such as viridis are long lists to be sampled; qualitative ones such as tab10
        # are short lists to be used in order
        if listed is not None and len(listed) < 100:
            return listed
        return [cmap(position) for position in np.linspace(0, 1, n)]
    colors = list(palette.by_key().get("color", [])) if isinstance(palette, Cycler) else list(palette)
    if not colors:
        raise ValueError("`palette` is empty; expected at least one colour.")
    return colors
