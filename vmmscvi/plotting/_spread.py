"""Names of groups on cells: each at its medoid, and moved just far enough not to cover another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_ROUNDS = 200
PADDING = 6.0
"""Pixels between two names side by side."""
LARGEST_GROUP = 2000
"""Cells of a group that its medoid is sought among."""


def medoid(points: Array) -> Array:
    """Return the cell with the smallest sum of distances to the others of its group, shape ``(2,)``."""
    if len(points) > LARGEST_GROUP:
        points = points[np.random.default_rng(0).choice(len(points), LARGEST_GROUP, replace=False)]
    totals = np.zeros(len(points))
    for start in range(0, len(points), 256):
        rows = slice(start, start + 256)
        totals[rows] = np.linalg.norm(points[rows, None] - points[None], axis=-1).sum(1)
    closest: Array = points[int(totals.argmin())]
    return closest


def without_overlap(centers: Array, sizes: Array) -> Array:
    """Move boxes apart.

    Parameters
    ----------
    centers, sizes
        Centres, and widths and heights of the boxes, shape ``(n, 2)``.

    Returns
    -------
    Centres of boxes that do not overlap, or hardly so where there are very many.
    """
    placed = centers.astype(float).copy()
    for _ in range(MOST_ROUNDS):
        moved = False
        for i in range(len(placed)):
            for j in range(i):
                apart = placed[i] - placed[j]
                overlap = (sizes[i] + sizes[j]) / 2 - np.abs(apart)
                if (overlap > 1e-6).all():
                    axis = int(overlap[1] <= overlap[0])  # along the shorter way out
                    step = (overlap[axis] / 2 + 1e-3) * (1.0 if apart[axis] >= 0 else -1.0)
                    placed[i, axis] += step
                    placed[j, axis] -= step
                    moved = True
        if not moved:
            break
    return placed


class SpreadLabels(Artist):
    """Moves annotations apart each time that a figure is drawn, as only then sizes are known.

    Parameters
    ----------
    ax
        Where they are.
    labels
        Annotations with offsets in points.
    offsets
        Where each would be if it were alone, in points, shape ``(n, 2)``.
    """

    zorder = 2.5  # before texts

    def __init__(self, ax: Axes, labels: Sequence[Annotation], offsets: Array) -> None:
        super().__init__()
        self.labels, self.offsets = list(labels), offsets
        self.set_in_layout(False)
        ax.add_artist(self)

    def draw(self, renderer: Any) -> None:
        """Set the positions of the labels, which are drawn after this."""
        if not self.labels:
            return
        for label, offset in zip(self.labels, self.offsets, strict=True):
            label.set_position((float(offset[0]), float(offset[1])))
        boxes = [label.get_window_extent(renderer) for label in self.labels]
        centers = np.array([(box.x0 + box.width / 2, box.y0 + box.height / 2) for box in boxes])
        sizes = np.array([(box.width + PADDING, box.height) for box in boxes])
        figure: Any = self.labels[0].get_figure()
        points_per_pixel = 72.0 / figure.dpi
        moved = (without_overlap(centers, sizes) - centers) * points_per_pixel
        for label, offset, move in zip(self.labels, self.offsets, moved, strict=True):
            label.set_position((float(offset[0] + move[0]), float(offset[1] + move[1])))
