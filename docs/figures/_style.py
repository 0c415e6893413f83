"""What the figures of the documentation share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

STATIC = Path(__file__).parent.parent / "_static"
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe & Ito

mpl.use("Agg")
mpl.rcParams.update(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "legend.frameon": False,
        "svg.fonttype": "path",  # the same letters everywhere
        "svg.hashsalt": "vmmscvi",  # the same file from the same figure
    }
)


def axes_pair() -> tuple[Figure, Any]:
    """Return two panels side by side, as wide as the text of a page."""
    return plt.subplots(1, 2, figsize=(6.6, 2.4))


def saved(figure: Figure, path: Path) -> None:
    """Write a figure, without a date, so that nothing changes where nothing has changed."""
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
