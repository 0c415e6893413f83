"""Names of groups as text in a figure, whatever characters they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.legend import Legend

EMPTY = "(empty)"
"""What is written for a name without characters."""


def as_text(name: object) -> str:
    """Return a name as Matplotlib is to be given it: a dollar sign is no formula."""
    text = str(name)
    return text.replace("$", r"\$") if text.strip() else EMPTY


def name_handles(ax: Axes, handles: Sequence[Any], names: Iterable[object], **kwargs: Any) -> Legend:
    """Make a legend of handles; further arguments as of :meth:`matplotlib.axes.Axes.legend`."""
    texts = [as_text(name) for name in names]
    # Matplotlib leaves out labels that start with an underscore: names are filled in afterwards
    legend = ax.legend(list(handles), ["-"] * len(texts), **kwargs)
    for entry, text in zip(legend.get_texts(), texts, strict=True):
        entry.set_text(text)
    return legend
