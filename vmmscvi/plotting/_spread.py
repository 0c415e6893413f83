"""Names of groups on cells: placed at the medoid, and moved so that they do not overlap."""

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
"""Distance between two adjacent names, in pixels."""
LARGEST_GROUP = 2000
"""Largest number of cells of a group among which its medoid is searched."""


def medoid(points: Array) -> Array:
    """Return the position with the smallest sum of distances to the others, shape ``(2,)``."""
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
    numpy.ndarray
        Centres of boxes that do not overlap, shape ``(n, 2)``; very many boxes may overlap slightly.
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
    """Move annotations apart whenever the figure is drawn, because their sizes are known only then.

    Parameters
    ----------
    ax
        Axes of the annotations.
    labels
        Annotations with offsets in points.
    offsets
        Preferred offset of each annotation in points, shape ``(n, 2)``.
    """

    zorder = 2.5  # before texts

    def __init__(self, ax: Axes, labels: Sequence[Annotation], offsets: Array) -> None:
        super().__init__()
        self.labels, self.offsets = list(labels), offsets
        self.set_in_layout(False)
        ax.add_artist(self)

    def draw(self, renderer: Any) -> None:
        """Set the positions of the labels, which are drawn afterwards."""
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
