"""Names of groups as text in a figure, with any characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.legend import Legend

EMPTY = "(empty)"
"""Text for an empty name."""


def as_text(name: object) -> str:
    """Return a name as text for Matplotlib, with dollar signs escaped."""
    text = str(name)
    return text.replace("$", r"\$") if text.strip() else EMPTY


def name_handles(ax: Axes, handles: Sequence[Any], names: Iterable[object], **kwargs: Any) -> Legend:
    """Make a legend of handles; further arguments as in :meth:`matplotlib.axes.Axes.legend`."""
    texts = [as_text(name) for name in names]
    # Matplotlib omits labels that start with an underscore, so names are filled in afterwards
    legend = ax.legend(list(handles), ["-"] * len(texts), **kwargs)
    for entry, text in zip(legend.get_texts(), texts, strict=True):
        entry.set_text(text)
    return legend
