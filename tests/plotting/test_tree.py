from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from vmmscvi.plotting import category_colors, cluster_tree
from vmmscvi.priors import ClusterTree


def made() -> ClusterTree:
    """Clusters 0 (two parts), 1 and 2; 1 and 2 join first."""
    leaves = ("0.0", "0.1", "1", "2")
    cells = pd.Categorical(np.repeat(leaves, (40, 30, 20, 10)), categories=leaves)
    return ClusterTree(
        leaves=leaves,
        clusters=("0", "0", "1", "2"),
        merges=np.array([[0, 1], [2, 3], [4, 5]]),
        n_effective=np.array([2000.0, 500.0, 50.0]),
        assignments=pd.Series(cells, [f"cell{i}" for i in range(100)]),
    )


def colors_of_leaves(ax: Axes) -> dict[str, str]:
    """Colour of the point in the row of every label."""
    of_row = {float(line.get_ydata()[0]): to_hex(line.get_color()) for line in ax.lines}
    return {text.get_text(): of_row[text.get_position()[1]] for text in ax.get_yticklabels()}


def test_leaves_are_named_with_their_cells_and_coloured_by_cluster() -> None:
    colors = category_colors(["0", "1", "2"])
    assert colors_of_leaves(cluster_tree(made())) == {
        "0.0 (40)": colors["0"],
        "0.1 (30)": colors["0"],
        "1 (20)": colors["1"],
        "2 (10)": colors["2"],
    }


def test_branches_join_where_the_axis_says(tmp_path) -> None:
    ax = cluster_tree(made(), save=tmp_path / "tree.png")
    ticks = dict(zip((text.get_text() for text in ax.get_xticklabels()), ax.get_xticks(), strict=True))
    at = sorted(
        max(x for x, _ in path.vertices) for collection in ax.collections for path in collection.get_paths()
    )
    one, ten = ticks["$10^{1}$"], ticks["$10^{0}$"]
    expected = sorted(one - (ten - one) * (np.log10(n) - 1) for n in (2000.0, 500.0, 50.0))
    np.testing.assert_allclose(at, expected)
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")


def test_a_coarser_level_colours_unions() -> None:
    ax = cluster_tree(made(), n_clusters=2, palette={"0": "#ff0000", "1+2": "#0000ff"})
    colors = {name[0]: color for name, color in colors_of_leaves(ax).items()}
    assert colors == {"0": "#ff0000", "1": "#0000ff", "2": "#0000ff"}


def test_a_tree_of_one_leaf_is_drawn() -> None:
    cells = pd.Series(pd.Categorical(["0"] * 5))
    tree = ClusterTree(("0",), ("0",), np.empty((0, 2), dtype=int), np.empty(0), cells)
    assert [text.get_text() for text in cluster_tree(tree).get_yticklabels()] == ["0 (5)"]


def test_the_annotated_data_alone_are_enough(cells: AnnData) -> None:
    tree = made()
    adata = cells[:100].copy()
    adata.uns["vmmscvi"]["cluster_tree"] = tree.to_dict()
    adata.obs["vmm_leaf"] = tree.assignments.to_numpy()
    ax = cluster_tree(adata)
    assert isinstance(ax.figure, Figure) and len(ax.get_yticklabels()) == 4


def test_data_without_a_tree_are_refused(cells: AnnData) -> None:
    with pytest.raises(ValueError, match="has no `uns"):
        cluster_tree(cells)


def test_the_line_of_a_cut_is_at_its_level_where_small_clusters_have_joined() -> None:
    lines = {text.get_text(): text.xy[0] for text in cluster_tree(made(), min_size=15).texts}
    assert set(lines) == {"model: 3", "cut: 2"}  # at the model's own level, of whose clusters one is small
    assert lines["model: 3"] == lines["cut: 2"]


def test_a_short_branch_has_fewer_genes() -> None:
    genes = pd.DataFrame({"rank": [1, 2, 3], "gene": ["AC012615.1", "AC002884.1", "LINC02446"]})
    of_parts, of_all = (genes.assign(node=node, side="left") for node in (4, 6))  # a short branch, a long one
    ax = cluster_tree(made(), genes=pd.concat([of_parts, of_all]), n_genes=3)
    shown = {text.get_text() for text in ax.texts}
    assert shown == {"model: 3", "AC012615.1 AC002884.1", "AC012615.1 AC002884.1 LINC02446"}
