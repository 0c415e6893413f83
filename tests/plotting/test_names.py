"""Groups may have any name: none is left out, taken for a formula, or mixed up with a name of the plot's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from vmmscvi import pl
from vmmscvi.priors import ClusterTree, fit_cluster_tree

ODD = ["_hidden", "", "$x$", "all cells", "(none)", "real"]
WRITTEN = ["_hidden", "(empty)", r"\$x\$", "all cells", "(none)", "real"]


@pytest.fixture
def odd(cells: AnnData) -> AnnData:
    """Cells in groups with odd names, of equal size."""
    cells.obs["odd"] = pd.Categorical(np.resize(ODD, cells.n_obs), categories=ODD)
    return cells


def texts(artists: Any) -> list[str]:
    return [text.get_text() for text in artists]


PLOTS: dict[str, Callable[[AnnData], Axes]] = {
    "embedding": lambda a: pl.embedding(a, "odd"),
    "embedding below": lambda a: pl.embedding(a, "odd", legend_loc="bottom"),
    "composition by": lambda a: pl.composition(a, by="odd"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_every_group_is_in_the_legend(odd: AnnData, name: str) -> None:
    ax = PLOTS[name](odd)
    ax.figure.canvas.draw()
    assert texts(ax.get_legend().get_texts()) == WRITTEN


def test_names_are_written_on_cells_as_they_are(odd: AnnData) -> None:
    ax = pl.embedding(odd, "odd", legend_loc="on data")
    ax.figure.canvas.draw()
    assert texts(ax.texts) == WRITTEN


def test_generated_groups_called_real_are_beside_the_real_cells(odd: AnnData, generated: AnnData) -> None:
    generated.obs["component"] = pd.Categorical(np.resize(["real", "x"], generated.n_obs))
    legend = pl.generated_cells(odd, generated).get_legend()
    assert texts(legend.get_texts()) == ["real", "real", "x"]
    colors = {to_hex(handle.get_color()) for handle in legend.legend_handles}
    assert len(colors) == 3


def test_missing_values_beside_a_group_called_none(odd: AnnData) -> None:
    odd.obs.loc[odd.obs_names[:3], "odd"] = np.nan
    legend = pl.embedding(odd, "odd").get_legend()
    assert texts(legend.get_texts()) == [*WRITTEN, "(none)"]


def bars(ax: Axes) -> dict[str, list[float]]:
    """Widths of the parts of each bar, from the bottom to the top."""
    names = texts(ax.get_yticklabels())
    widths = np.array([[bar.get_width() for bar in container] for container in ax.containers]).T
    return {f"{i} {name}": list(width) for i, (name, width) in enumerate(zip(names, widths, strict=True))}


def test_a_group_called_as_the_bar_of_all_cells_keeps_its_own(odd: AnnData) -> None:
    odd.obs["side"] = np.where(odd.obs["odd"] == "all cells", "left", "right")
    found = bars(pl.composition(odd, by="side", groupby="odd"))
    assert [name.split(" ", 1)[1] for name in found] == [*WRITTEN[::-1], "all cells"]
    assert found["2 all cells"] == [1.0, 0.0]
    np.testing.assert_allclose(found["6 all cells"], [1 / 6, 5 / 6])


def test_the_confidence_of_a_group_called_as_the_bar_of_all_cells(odd: AnnData) -> None:
    own = odd.obs["odd"] == "all cells"
    odd.obs["vmm_cluster_probability"] = np.where(own, 0.99, 0.6)
    found = bars(pl.assignment_confidence(odd, groupby="odd"))
    assert found["5 all cells"] == [0.0, 0.0, 0.0, 1.0]  # the surest group
    np.testing.assert_allclose(found["6 all cells"], [0.0, 5 / 6, 0.0, 1 / 6])


def test_shares_of_oddly_named_clusters(odd: AnnData) -> None:
    ax = pl.cluster_weights(odd, key="odd")
    ax.figure.canvas.draw()
    assert sorted(texts(ax.get_xticklabels())) == sorted(WRITTEN)


@pytest.mark.parametrize("values", [np.nan, pd.Categorical([None] * 120), pd.array([pd.NA] * 120, "string")])
@pytest.mark.parametrize("legend_loc", ["right", "bottom", "on data", "none"])
@pytest.mark.filterwarnings("error")
def test_a_column_without_any_value_is_drawn_in_grey(cells: AnnData, values: Any, legend_loc: Any) -> None:
    cells.obs["empty"] = values
    ax = pl.embedding(cells, "empty", legend_loc=legend_loc)
    ax.figure.canvas.draw()
    assert {to_hex(color) for color in ax.collections[0].get_facecolor()} == {"#d9d9d9"}
    pl.embedding_panels(cells, ["X_umap", "X_umap_normal"], ["empty"]).canvas.draw()


@pytest.mark.parametrize("column", ["by", "groupby"])
def test_an_empty_composition_is_reported(cells: AnnData, column: str) -> None:
    cells.obs["empty"] = pd.Categorical([None] * 120)
    with pytest.raises(ValueError, match=r"obs\['empty'\]` has no values"):
        pl.composition(cells, **{"by": "batch", "groupby": "batch", column: "empty"})


def tree_of(names: list[str]) -> ClusterTree:
    z = np.repeat(np.array([[-9.0, 0.0], [0.0, 0.0], [9.0, 5.0]]), 40, axis=0)
    z = z + np.random.default_rng(0).normal(size=z.shape)
    return fit_cluster_tree(z, pd.Series(np.repeat(names, 40)))


def test_branches_of_oddly_named_clusters() -> None:
    ax = pl.cluster_tree(tree_of(["", "_b", "$c$"]))
    ax.figure.canvas.draw()
    assert sorted(texts(ax.get_yticklabels())) == sorted(["(empty) (40)", "_b (40)", r"\$c\$ (40)"])
    # unions are grey: none has the colour of the cluster without a name
    assert {to_hex(line.get_color()[0]) for line in ax.collections} == {to_hex("0.55")}


def test_a_leaf_without_cells_is_drawn() -> None:
    tree = tree_of(["0", "1", "2"])
    some = ClusterTree.from_dict(tree.to_dict(), tree.assignments[:80])
    assert sorted(texts(pl.cluster_tree(some).get_yticklabels())) == ["0 (40)", "1 (40)", "2 (0)"]


def test_other_types_than_trees_data_and_models_are_refused() -> None:
    with pytest.raises(ValueError, match="`tree` is a dict; expected an AnnData or a trained model"):
        pl.cluster_tree({"0": 1})  # type: ignore[arg-type]
    plt.close("all")
