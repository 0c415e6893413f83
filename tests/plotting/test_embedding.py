"""Embeddings show every cell where it is, in the colour of its group, and name the groups once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from vmmscvi.plotting import COLORS, embedding, embedding_panels
from vmmscvi.plotting._palette import MISSING_COLOR


def drawn(ax) -> tuple[np.ndarray, list[str]]:
    (collection,) = ax.collections
    return np.asarray(collection.get_offsets()), [to_hex(color) for color in collection.get_facecolors()]


def legend_names(ax) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def label_names(ax) -> set[str]:
    return {text.get_text() for text in ax.texts}


def test_every_cell_is_drawn_at_its_place_in_the_colour_of_its_group(cells):
    palette = {"2": "#111111", "7": "#222222", "10": "#333333"}
    points, colors = drawn(embedding(cells, "vmm_cluster", palette=palette))
    found = {(*point, color) for point, color in zip(points, colors, strict=True)}
    expected = {
        (*point, palette[name])
        for point, name in zip(cells.obsm["X_umap"], cells.obs["vmm_cluster"], strict=True)
    }
    assert found == expected


def test_groups_are_drawn_mixed_so_that_none_covers_another(cells):
    cells = cells[cells.obs["batch"].sort_values().index].copy()
    _, colors = drawn(embedding(cells, "batch"))
    n_changes = sum(a != b for a, b in pairwise(colors))
    assert n_changes > cells.n_obs / 4


def test_points_are_pixels_on_bare_axes_of_equal_scale(cells):
    ax = embedding(cells, "batch")
    assert all(collection.get_rasterized() for collection in ax.collections)
    assert list(ax.get_xticks()) == list(ax.get_yticks()) == []
    assert ax.get_aspect() == 1
    assert not any(spine.get_visible() for spine in ax.spines.values())


def test_names_of_clusters_are_in_the_order_of_their_numbers(cells):
    assert legend_names(embedding(cells, "vmm_cluster")) == ["2", "7", "10"]


def test_cells_without_a_group_are_grey_and_named(cells):
    cells.obs.loc[cells.obs_names[:10], "batch"] = np.nan
    ax = embedding(cells, "batch")
    assert drawn(ax)[1].count(MISSING_COLOR) == 10
    assert legend_names(ax) == ["a", "b", "(none)"]


def test_numbers_have_a_scale_and_truth_values_a_legend(cells):
    ax = embedding(cells, "vmm_cluster_probability")
    assert len(ax.child_axes) == 1
    assert not embedding(cells, "vmm_cluster_probability", legend_loc="none").child_axes
    cells.obs["flag"] = cells.obs["vmm_cluster_probability"] > 0.5
    ax = embedding(cells, "flag")
    assert not ax.child_axes
    assert legend_names(ax) == ["False", "True"]


def test_missing_numbers_are_grey(cells):
    cells.obs.loc[cells.obs_names[:10], "vmm_cluster_probability"] = np.nan
    grey, coloured = embedding(cells, "vmm_cluster_probability").collections
    assert len(grey.get_offsets()) == 10 and len(coloured.get_offsets()) == cells.n_obs - 10


def test_labels_lie_on_a_cell_of_their_group_even_where_the_group_is_in_two_parts(cells):
    points = cells.obsm["X_umap"]
    group = (cells.obs["vmm_cluster"] == "10").to_numpy()
    points[group] = np.where(np.arange(group.sum())[:, None] % 2, 10.0, -10.0)
    ax = embedding(cells, "vmm_cluster", legend_loc="on data")
    assert ax.get_legend() is None
    for text in ax.texts:
        cells_of_group = points[(cells.obs["vmm_cluster"] == text.get_text()).to_numpy()]
        assert np.abs(cells_of_group - np.array(text.xy)).sum(axis=1).min() == 0


def test_colours_that_scanpy_stored_are_used(cells):
    cells.uns["batch_colors"] = ["#123456", "#654321"]
    assert set(drawn(embedding(cells, "batch"))[1]) == {"#123456", "#654321"}
    cells.uns["batch_colors"] = ["#123456"]
    assert set(drawn(embedding(cells, "batch"))[1]) == set(COLORS[:2])


def test_without_a_column_all_cells_are_grey(cells):
    (collection,) = embedding(cells).collections
    assert {to_hex(color) for color in collection.get_facecolors()} == {MISSING_COLOR}


def test_the_prefix_of_a_basis_may_be_left_out(cells):
    points, _ = drawn(embedding(cells, "batch", basis="umap_normal"))
    assert {tuple(p) for p in points} == {tuple(p) for p in cells.obsm["X_umap_normal"]}


def test_more_cells_have_smaller_points(cells):
    few, many = cells[:20].copy(), cells
    size = [embedding(data, "batch").collections[0].get_sizes()[0] for data in (few, many)]
    assert size[0] >= size[1]
    assert embedding(cells, "batch", size=3.0).collections[0].get_sizes()[0] == 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"color": "nope"}, "`color` is 'nope'; expected a gene or a column of `adata.obs`: .*batch"),
        ({"basis": "nope"}, "`basis` is 'nope'; expected one of `adata.obsm`: .*X_umap"),
    ],
)
def test_errors_name_missing_entries_and_list_the_existing(cells, arguments, message):
    with pytest.raises(ValueError, match=message):
        embedding(cells, **arguments)


def test_coordinates_of_one_dimension_are_refused(cells):
    cells.obsm["X_line"] = np.zeros((cells.n_obs, 1))
    with pytest.raises(ValueError, match=r"has shape \(120, 1\); expected at least 2 columns"):
        embedding(cells, basis="line")


# --- panels ------------------------------------------------------------------------------------------------


def test_rows_are_priors_and_columns_are_keys(cells):
    figure = embedding_panels(
        cells, {"N(0, I)": "X_umap_normal", "VMM": "X_umap"}, ["batch", "vmm_cluster"], titles={"batch": "B"}
    )
    axes = np.array(figure.axes).reshape(2, 2)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["N(0, I)", "VMM"]
    assert [[ax.get_title() for ax in row] for row in axes] == [["B", "vmm_cluster"], ["", ""]]
    for row, basis in zip(axes, ["X_umap_normal", "X_umap"], strict=True):
        points, _ = drawn(row[0])
        assert {tuple(p) for p in points} == {tuple(p) for p in cells.obsm[basis]}


def test_groups_shared_by_all_rows_have_one_legend_and_numbers_are_on_the_cells(cells):
    figure = embedding_panels(cells, ["X_umap_normal", "X_umap"], ["batch", "vmm_cluster"])
    axes = np.array(figure.axes).reshape(2, 2)
    assert [legend_names(ax) for ax in axes[:, 0]] == [[], ["a", "b"]]
    assert [label_names(ax) for ax in axes[:, 1]] == [{"2", "7", "10"}] * 2


def test_more_groups_than_can_be_read_are_not_named(cells):
    for n_groups, n_named in ((40, 40), (41, 0)):
        cells.obs["many"] = pd.Categorical([str(i % n_groups) for i in range(cells.n_obs)])
        figure = embedding_panels(cells, "X_umap", ["many"])
        assert len(label_names(figure.axes[0])) == n_named


def test_rows_may_show_different_columns_which_are_named_on_the_cells(cells):
    figure = embedding_panels(
        cells,
        {"one": "X_umap_normal", "two": "X_umap"},
        {"one": ["batch", None], "two": ["batch", "cell_type"]},
        empty="no clusters of its own",
    )
    axes = np.array(figure.axes).reshape(2, 2)
    assert label_names(axes[0, 1]) == {"no clusters of its own"}
    assert label_names(axes[1, 1]) == {"B", "T"}
    assert axes[1, 1].get_title() == "cell_type"


def test_many_groups_are_named_on_the_cells(cells):
    names = [f"type {i}" for i in range(30)]
    cells.obs["many"] = pd.Categorical(np.resize(names, cells.n_obs))
    (ax,) = embedding_panels(cells, "X_umap", "many").axes
    assert ax.get_legend() is None and label_names(ax) == set(names)


@pytest.mark.parametrize(
    ("bases", "color", "message"),
    [
        ([], ["batch"], "`bases` is empty"),
        (["X_umap", "nope"], ["batch"], "`basis` is 'nope'"),
        (["X_umap"], ["nope"], "`color` is 'nope'"),
        (["X_umap"], [], "at least one entry"),
        ({"a": "X_umap"}, {"b": ["batch"]}, r"the keys \['b'\]; expected the rows \['a'\]"),
        (
            {"a": "X_umap", "b": "X_umap"},
            {"a": ["batch"], "b": ["batch", "cell_type"]},
            "the same number in every row",
        ),
    ],
)
def test_panels_that_do_not_fit_together_are_refused(cells, bases, color, message):
    with pytest.raises(ValueError, match=message):
        embedding_panels(cells, bases, color)


def test_legends_and_scales_leave_panels_one_size_and_stay_below_their_own(cells):
    cells.obs["long"] = pd.Categorical(np.resize([f"a rather long name {i}" for i in range(6)], cells.n_obs))
    figure = embedding_panels(cells, "X_umap", ["batch", "long", "vmm_cluster_probability"])
    figure.canvas.draw()
    boxes = [ax.get_window_extent() for ax in figure.axes]
    assert np.ptp([box.width for box in boxes]) < 1 and np.ptp([box.height for box in boxes]) < 1
    for ax, box in zip(figure.axes[:2], boxes, strict=False):
        legend = ax.get_legend().get_window_extent()
        assert legend.y1 <= box.y0 + 2
        assert legend.width < 1.2 * box.width
