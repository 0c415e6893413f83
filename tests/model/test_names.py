"""Names of clusters: from marker genes or by hand, and kept wherever the model goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import vmmscvi
from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]


@pytest.fixture(scope="module")
def markers_of_types() -> Callable[[AnnData], dict[str, list[str]]]:
    """Three true marker genes for every type."""

    def get(adata: AnnData) -> dict[str, list[str]]:
        known = adata.var[adata.var["marker_of"].notna()].sort_values("mean", ascending=False)
        return {str(kind): list(own.index[:3]) for kind, own in known.groupby("marker_of", observed=True)}

    return get


@pytest.fixture
def model(make_model: Make, short_training: dict[str, Any]) -> SCVI_VMM:
    model = make_model()
    model.train(**short_training)
    return model


def test_groups_are_named_by_their_markers(model: SCVI_VMM, markers_of_types: Any) -> None:
    table = model.name_clusters(markers_of_types(model.adata), groupby="cell_type")
    assert (table["name"] == table.index).all()
    assert (table["margin"] > 0.25).all() and (table["score"] > 0).all()
    assert (table["second"] != table["name"]).all()


def test_a_group_that_two_names_fit_equally_is_unclear(model: SCVI_VMM, markers_of_types: Any) -> None:
    genes = markers_of_types(model.adata)
    twice = {"one": genes["type0"], "other": genes["type0"], "type1": genes["type1"]}
    table = model.name_clusters(twice, groupby="cell_type")
    assert table.loc["type0", "name"] == "unclear" and table.loc["type0", "margin"] == 0
    assert table.loc["type1", "name"] == "type1"
    # no entry fits type 2
    assert table.loc["type2", "name"] == "unclear"


def test_a_shared_gene_and_one_that_is_absent_count_less(model: SCVI_VMM, markers_of_types: Any) -> None:
    (own, *_), (other, *_) = (markers_of_types(model.adata)[kind] for kind in ("type0", "type1"))
    once = model.name_clusters({"a": [own], "b": [other]}, groupby="cell_type")
    half = pytest.approx(once.loc["type0", "score"] / 2)
    absent = model.name_clusters({"a": [own, "no gene"], "b": [other]}, groupby="cell_type")
    shared = model.name_clusters({"a": [own], "b": [own]}, groupby="cell_type")
    assert absent.loc["type0", "score"] == half and shared.loc["type0", "score"] == half


@pytest.mark.parametrize(
    ("markers", "message"),
    [({}, "is empty"), ({"a": ["none"]}, "expected at least one gene"), ({"a": "gene0"}, "expected a list")],
)
def test_dictionaries_that_cannot_be_used_are_errors(model: SCVI_VMM, markers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.name_clusters(markers, groupby="cell_type")


def test_names_are_kept_in_files_and_by_queries(model: SCVI_VMM, tmp_path: Path) -> None:
    model.rename_clusters({"0": "T cells", "1": "B cells"})
    model.rename_clusters({"1": "plasma cells"})
    expected = ["T cells", "plasma cells", *(str(i) for i in range(2, 8))]
    assert list(model.get_cluster_names()) == expected
    model.save(tmp_path / "model", save_anndata=True)
    loaded = SCVI_VMM.load(tmp_path / "model", accelerator="cpu")
    assert list(loaded.get_cluster_names()) == expected
    query = loaded.adata[:60].copy()
    query.obs["batch"] = "new"
    mapped = SCVI_VMM.load_query_data(query, str(tmp_path / "model"), accelerator="cpu")
    mapped.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    mapped.annotate()
    names = mapped.get_cluster_names()
    assert list(names) == expected
    assert (
        query.obs["vmm_cluster_name"].astype(str) == names[query.obs["vmm_cluster"].astype(str)].to_numpy()
    ).all()
    mapped.rename_clusters(None)
    assert list(mapped.get_cluster_names()) == mapped.component_names()


def test_names_stand_in_plots(model: SCVI_VMM) -> None:
    first, *_ = model.predict().cat.categories
    model.rename_clusters({first: "T cells"})
    model.annotate()
    model.adata.obsm["X_umap"] = np.array(model.adata.obsm["X_vmm"][:, :2])
    shown = f"T cells ({first})"
    on_data = vmmscvi.pl.embedding(model, "vmm_cluster", legend_loc="on data")
    assert shown in {text.get_text() for text in on_data.texts}
    assert shown in {t.get_text() for t in vmmscvi.pl.composition(model, "batch").get_yticklabels()}
    assert shown in {t.get_text() for t in vmmscvi.pl.cluster_weights(model).get_xticklabels()}
    tree = vmmscvi.pl.cluster_tree(model)
    assert any(t.get_text().startswith("T cells") for t in tree.get_yticklabels())


def test_clusters_may_share_a_name(model: SCVI_VMM) -> None:
    used = list(model.predict().cat.categories)
    model.rename_clusters(dict.fromkeys(used, "cells"))
    model.annotate(tree=False)
    assert set(model.adata.obs["vmm_cluster_name"]) == {"cells"}
    assert list(model.adata.obs["vmm_cluster"].cat.categories) == used


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"99": "x"}, "has unknown clusters"),
        ({"0": ""}, "expected a name"),
        ({"0": "1"}, "the number of another cluster"),
    ],
)
def test_names_that_cannot_be_given_are_errors(model: SCVI_VMM, names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.rename_clusters(names)
