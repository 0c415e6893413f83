"""Bars have the lengths of their shares."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from vmmscvi.plotting import assignment_confidence, cluster_weights, composition


@pytest.fixture
def ten_cells() -> AnnData:
    """Clusters 3 (six cells, one of them in batch b) and 20 (four cells, all in batch b)."""
    cells = AnnData(np.zeros((10, 1), dtype=np.float32))
    cells.obs["vmm_cluster"] = pd.Categorical(["20"] * 4 + ["3"] * 6)
    cells.obs["batch"] = ["b"] * 4 + ["b"] + ["a"] * 5
    cells.obs["vmm_cluster_probability"] = [0.4, 0.6, 0.6, 0.99, 0.97, 0.99, 0.99, 0.9, 0.9, 1.0]
    return cells


def bars(ax) -> dict[str, dict[str, float]]:
    """Lengths of stacked horizontal bars: {label on the axis: {name in the legend: length}}."""
    labels = [text.get_text() for text in ax.get_yticklabels()]
    found: dict[str, dict[str, float]] = {label: {} for label in labels}
    for container in ax.containers:
        for label, bar in zip(labels, container, strict=True):
            found[label][container.get_label()] = pytest.approx(bar.get_width())
    return found


def test_weights_are_drawn_beside_shares_largest_cluster_first(ten_cells):
    ten_cells.uns["vmmscvi"] = {"weights": {"3": 0.5, "20": 0.3}}
    ax = cluster_weights(ten_cells)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["3", "20"]
    assert [bar.get_height() for bar in ax.containers[0]] == [0.6, 0.4]
    (lines,) = ax.collections
    assert [segment[0, 1] for segment in lines.get_segments()] == [0.5, 0.3]
    legend = {text.get_text() for text in ax.get_legend().get_texts()}
    assert legend == {"share of cells", "weight in the prior"}


def test_weights_may_be_given_and_may_be_unknown(ten_cells):
    assert not cluster_weights(ten_cells).collections
    (lines,) = cluster_weights(ten_cells, weights=pd.Series({"20": 0.1, "3": 0.2, "5": 0.7})).collections
    assert [segment[0, 1] for segment in lines.get_segments()] == [0.2, 0.1]


def test_clusters_have_their_own_colours_with_a_palette(ten_cells):
    ax = cluster_weights(ten_cells, palette={"3": "red", "20": "blue"})
    assert [to_hex(bar.get_facecolor()) for bar in ax.containers[0]] == ["#ff0000", "#0000ff"]


def test_confidence_counts_cells_between_thresholds(ten_cells):
    found = bars(assignment_confidence(ten_cells, thresholds=(0.5, 0.95)))
    names = ["0 to 0.5", "0.5 to 0.95", "0.95 to 1"]
    assert found["20"] == dict(zip(names, [0.25, 0.5, 0.25], strict=True))
    assert found["3"] == dict(zip(names, [0, 2 / 6, 4 / 6], strict=True))
    assert found["all cells"] == dict(zip(names, [0.1, 0.4, 0.5], strict=True))


def test_the_surest_group_is_at_the_top_below_all_cells(ten_cells):
    ax = assignment_confidence(ten_cells)
    labels = sorted(zip(ax.get_yticks(), (t.get_text() for t in ax.get_yticklabels()), strict=True))
    assert [label for _, label in labels] == ["20", "3", "all cells"]


def test_confidence_can_be_shown_by_any_column(ten_cells):
    assert set(bars(assignment_confidence(ten_cells, groupby="batch"))) == {"a", "b", "all cells"}


def test_composition_gives_the_share_of_each_part(ten_cells):
    found = bars(composition(ten_cells, "batch"))
    assert found["20"] == {"a": 0.0, "b": 1.0}
    assert found["3"] == {"a": 5 / 6, "b": 1 / 6}
    assert found["all cells"] == {"a": 0.5, "b": 0.5}
    assert list(found) == ["20", "3", "all cells"]  # from the bottom: numbers rise downwards


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        (lambda cells: cluster_weights(cells, key="nope"), "`key` is 'nope'"),
        (lambda cells: composition(cells, "nope"), "`by` is 'nope'"),
        (lambda cells: composition(cells, "batch", groupby="nope"), "`groupby` is 'nope'"),
        (lambda cells: assignment_confidence(cells, groupby="nope"), "`groupby` is 'nope'"),
        (lambda cells: assignment_confidence(cells, probability="nope"), "`probability` is 'nope'"),
        (lambda cells: assignment_confidence(cells, probability="batch"), "expected probabilities"),
        (lambda cells: assignment_confidence(cells, thresholds=(0.9, 0.5)), r"`thresholds` is \[0.9, 0.5\]"),
        (lambda cells: assignment_confidence(cells, thresholds=(0.5, 1.0)), "`thresholds`"),
    ],
)
def test_errors_name_what_cannot_be_drawn(ten_cells, plot, message):
    with pytest.raises(ValueError, match=message):
        plot(ten_cells)


def test_clusters_of_no_cell_are_an_error(ten_cells):
    ten_cells.obs["empty"] = pd.Categorical([None] * 10, categories=["1"])
    with pytest.raises(ValueError, match="has no clusters"):
        cluster_weights(ten_cells, key="empty")
