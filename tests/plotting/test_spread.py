"""Names on cells: at the medoid, and none over another."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from vmmscvi.plotting import embedding
from vmmscvi.plotting._spread import medoid, without_overlap


def test_a_medoid_is_the_cell_with_the_least_distance_to_the_others() -> None:
    points = np.random.default_rng(0).normal(size=(300, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1).sum(1)
    np.testing.assert_array_equal(medoid(points), points[distances.argmin()])


def test_boxes_that_overlap_are_moved_apart_and_others_stay() -> None:
    centers = np.array([[0.0, 0.0], [0.2, 0.1], [0.1, -0.1], [9.0, 9.0]])
    sizes = np.tile([2.0, 1.0], (4, 1))
    placed = without_overlap(centers, sizes)
    for i in range(4):
        for j in range(i):
            assert (np.abs(placed[i] - placed[j]) >= sizes[0] - 1e-2).any()
    np.testing.assert_array_equal(placed[3], centers[3])


def test_names_of_groups_at_one_place_do_not_overlap_when_drawn() -> None:
    rng = np.random.default_rng(0)
    names = [f"cluster {i}" for i in range(6)]
    cells = AnnData(obs=pd.DataFrame({"group": rng.choice(names, 600)}, [str(i) for i in range(600)]))
    cells.obsm["X_umap"] = rng.normal(size=(600, 2))
    ax = embedding(cells, "group", legend_loc="on data")
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 6
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(width, height) < 0.5  # pixels
