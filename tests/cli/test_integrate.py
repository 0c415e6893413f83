"""``vmmscvi integrate`` adds its results to the input, and changes nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

import vmmscvi
from vmmscvi.model import SCVI_VMM

ADDED = ("obsm/X_vmm", "obsm/X_umap", "obs/vmm_", "uns/vmmscvi")
COLUMNS = {
    "vmm_cluster",
    "vmm_cluster_probability",
    "vmm_entropy",
    "vmm_novelty",
    "vmm_leaf",
}
OPTIONAL = {"vmm_second_cluster"}  # without it, if there is one cluster only


def content(path: Path) -> dict[str, tuple[object, dict[str, object]]]:
    """Everything in a file but the results: data and attributes by name."""
    found: dict[str, tuple[object, dict[str, object]]] = {}

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if name.startswith(ADDED):
            return
        attributes = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        if name == "obs":
            attributes["column-order"] = [c for c in attributes["column-order"] if not c.startswith("vmm_")]
        data = None if isinstance(item, h5py.Group) else (item.dtype, item.compression, item[()])
        found[name] = (data, attributes)

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def assert_same_content(left: Path, right: Path) -> None:
    one, other = content(left), content(right)
    assert set(one) == set(other)
    for name, (data, attributes) in one.items():
        assert attributes == other[name][1], name
        if data is not None:
            assert data[:2] == other[name][0][:2], name
            np.testing.assert_array_equal(data[2], other[name][0][2], err_msg=name)


def as_of_an_older_anndata(path: Path) -> None:
    """Encode the table of cells as before anndata 0.8, which has to be rewritten to add columns."""
    with h5py.File(path, "r+") as file:
        obs = file["obs"]
        for name in ("batch", "cell_type", "cell_type_coarse", "text"):
            if isinstance(obs.get(name), h5py.Group):  # categories were encoded otherwise
                del obs[name]
        order = [n for n in obs.attrs["column-order"] if n in obs]
        obs["batch"] = np.array([b"one", b"two"] * 100, dtype=h5py.string_dtype())
        obs.attrs["column-order"] = [*order, "batch"]
        obs.attrs["encoding-version"] = "0.1.0"
        name = obs.attrs["_index"]
        if isinstance(obs[name], h5py.Group):  # since anndata 0.13, with a mask beside the names
            names = obs[name]["values"][:]
            del obs[name]
            obs[name] = names.astype(h5py.string_dtype())
        for column in obs.values():
            for key in list(column.attrs):
                del column.attrs[key]


def test_results_are_added_and_all_else_is_as_it_was(integrate, source, tmp_path):
    before = source.read_bytes()
    result = integrate("--out", "out.h5ad")
    assert result.exit_code == 0, result.output
    assert source.read_bytes() == before
    assert_same_content(source, tmp_path / "out.h5ad")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "out.h5ad"]

    read, out = anndata.read_h5ad(source), anndata.read_h5ad(tmp_path / "out.h5ad")
    assert set(out.obs) - set(read.obs) - OPTIONAL == COLUMNS
    assert set(out.obsm) - set(read.obsm) == {"X_vmm"}
    assert set(out.uns) - set(read.uns) == {"vmmscvi"}
    pd.testing.assert_frame_equal(out.obs[read.obs.columns], read.obs)
    assert out.obsm["X_vmm"].shape == (200, 4) and np.isfinite(out.obsm["X_vmm"]).all()
    assert isinstance(out.obs["vmm_cluster"].dtype, pd.CategoricalDtype)
    assert out.obs["vmm_cluster"].notna().all()
    assert out.obs["vmm_cluster_probability"].between(1 / 10, 1).all()


def test_settings_versions_weights_and_history_are_stored(integrate, tmp_path):
    assert integrate("--out", "out.h5ad", "--seed", 3).exit_code == 0
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    stored = out.uns["vmmscvi"]
    settings = {"source": "cells.h5ad", "batch_key": "batch", "prior": "vmm", "n_latent": 4, "seed": 3}
    assert settings.items() <= stored["settings"].items()
    assert stored["settings"]["n_components"] == 10 and stored["settings"]["max_epochs"] == 24
    assert stored["versions"]["vmmscvi"] == vmmscvi.__version__
    assert {"scvi-tools", "torch", "anndata", "python"} <= set(stored["versions"])
    assert set(stored["weights"]) == set(out.obs["vmm_cluster"].unique())
    assert all(0 < weight <= 1 for weight in stored["weights"].values())
    assert stored["n_epochs"] == len(stored["history"]["elbo_validation"]) == 24


def test_the_output_is_beside_the_input_by_default(integrate, tmp_path):
    assert integrate().exit_code == 0
    assert (tmp_path / "cells_vmm.h5ad").exists()


def test_the_output_can_be_drawn_as_it_is(integrate, tmp_path):
    integrate("--out", "out.h5ad")
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    vmmscvi.pl.cluster_weights(out)
    vmmscvi.pl.assignment_confidence(out)
    vmmscvi.pl.composition(out, "batch")
    vmmscvi.pl.training_history(out)
    vmmscvi.pl.embedding(out, "vmm_cluster", basis="X_vmm")
    ax = vmmscvi.pl.cluster_tree(out)
    assert len(ax.get_yticklabels()) == out.obs["vmm_leaf"].nunique()


def test_a_saved_model_gives_the_same_clusters_on_the_output(integrate, tmp_path):
    result = integrate("--out", "out.h5ad", "--save-model", "model", "--hvg", 40, "--layer", "counts")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.pt"]
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    genes = list(out.uns["vmmscvi"]["settings"]["genes"])
    model = SCVI_VMM.load(tmp_path / "model", adata=out[:, genes].copy())
    np.testing.assert_array_equal(model.predict().astype(str), out.obs["vmm_cluster"].astype(str))
    probabilities = model.get_cluster_probabilities().max(axis=1)
    np.testing.assert_allclose(probabilities, out.obs["vmm_cluster_probability"], atol=1e-5)


def test_variable_genes_are_for_the_model_and_the_output_keeps_all(integrate, source, tmp_path):
    assert integrate("--out", "out.h5ad", "--hvg", 30).exit_code == 0
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert out.n_vars == 80
    genes = out.uns["vmmscvi"]["settings"]["genes"]
    assert len(genes) == 30 and set(genes) <= set(out.var_names)
    assert_same_content(source, tmp_path / "out.h5ad")


def test_selected_genes_vary_more_between_cells_than_those_left_out(integrate, tmp_path):
    assert integrate("--out", "out.h5ad", "--hvg", 30).exit_code == 0
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    markers = set(out.var_names[out.var["marker_of"].notna()])
    chosen = set(out.uns["vmmscvi"]["settings"]["genes"])
    assert len(markers & chosen) / len(markers) > 30 / 80


def test_more_genes_than_there_are_means_all(integrate, tmp_path):
    assert integrate("--out", "out.h5ad", "--hvg", 5000).exit_code == 0


def test_genes_of_one_name_are_selected_one_by_one(integrate, write_input, tmp_path):
    def rename(adata):
        adata.var_names = [adata.var_names[0], *adata.var_names[:-1]]

    assert integrate("--hvg", 20, "--out", "unique.h5ad").exit_code == 0
    result = integrate("--hvg", 20, "--out", "out.h5ad", source=write_input(rename))
    assert result.exit_code == 0, result.output
    unique, found = (anndata.read_h5ad(tmp_path / name) for name in ("unique.h5ad", "out.h5ad"))
    np.testing.assert_array_equal(found.obsm["X_vmm"], unique.obsm["X_vmm"])
    assert found.n_vars == 80 and len(found.uns["vmmscvi"]["settings"]["genes"]) == 20


@pytest.mark.parametrize("name", ["vmm_cluster", "vmm_cluster_probability", "vmm_leaf"])
@pytest.mark.parametrize("extended", [True, False])
def test_names_of_cells_are_kept_whatever_their_column_is_called(
    integrate, write_input, tmp_path, name, extended
):
    path = write_input(lambda adata: setattr(adata.obs.index, "name", name))
    if not extended:
        as_of_an_older_anndata(path)
    assert integrate("--out", "out.h5ad", source=path).exit_code == 0
    before, after = anndata.read_h5ad(path), anndata.read_h5ad(tmp_path / "out.h5ad")
    assert list(after.obs_names) == list(before.obs_names)
    assert set(after.obs) - OPTIONAL == {*before.obs, *COLUMNS}
    assert integrate("--out", "again.h5ad", source=tmp_path / "out.h5ad").exit_code == 0
    assert list(anndata.read_h5ad(tmp_path / "again.h5ad").obs_names) == list(before.obs_names)


def test_counts_are_read_from_a_layer(integrate, write_input, tmp_path):
    def normalise(adata):
        adata.X = adata.layers["logged"].copy()

    path = write_input(normalise)
    assert integrate("--out", "a.h5ad", source=path).exit_code == 2
    result = integrate("--out", "b.h5ad", "--layer", "counts", source=path)
    assert result.exit_code == 0, result.output


def test_the_same_seed_gives_the_same_results_and_another_seed_others(integrate, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert integrate("--out", f"{name}.h5ad", "--seed", seed).exit_code == 0
    a, b, c = (anndata.read_h5ad(tmp_path / f"{name}.h5ad") for name in "abc")
    np.testing.assert_array_equal(a.obsm["X_vmm"], b.obsm["X_vmm"])
    np.testing.assert_array_equal(a.obs["vmm_cluster"], b.obs["vmm_cluster"])
    assert not np.allclose(a.obsm["X_vmm"], c.obsm["X_vmm"])


def test_a_prior_without_clusters_gives_an_embedding_alone(integrate, tmp_path):
    result = integrate("--out", "out.h5ad", "--prior", "standard_normal")
    assert result.exit_code == 0, result.output
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert "X_vmm" in out.obsm and "vmm_cluster" not in out.obs
    assert out.uns["vmmscvi"]["settings"]["prior"] == "standard_normal"
    assert "weights" not in out.uns["vmmscvi"]


@pytest.mark.parametrize("prior", ["gmm", "vampprior"])
def test_other_mixtures_have_clusters_too(integrate, tmp_path, prior):
    assert integrate("--out", "out.h5ad", "--prior", prior).exit_code == 0
    assert anndata.read_h5ad(tmp_path / "out.h5ad").obs["vmm_cluster"].notna().all()


def test_one_batch_needs_no_key(run, source, tmp_path):
    result = run("integrate", source, "--out", "out.h5ad", "--max-epochs", 1, "--quiet")
    assert result.exit_code == 0, result.output
    stored = anndata.read_h5ad(tmp_path / "out.h5ad").uns["vmmscvi"]["settings"]
    assert "batch_key" not in stored
    assert stored["n_components"] == 20  # a tenth of the cells


def test_earlier_results_are_replaced_also_in_the_input_itself(integrate, source, tmp_path):
    assert integrate("--out", "once.h5ad").exit_code == 0
    assert integrate("--out", "twice.h5ad", "--seed", 5, source=tmp_path / "once.h5ad").exit_code == 0
    assert (
        integrate("--out", "once.h5ad", "--seed", 5, "--overwrite", source=tmp_path / "once.h5ad").exit_code
        == 0
    )
    assert integrate("--out", "direct.h5ad", "--seed", 5).exit_code == 0
    direct = anndata.read_h5ad(tmp_path / "direct.h5ad")
    for name in ("once", "twice"):
        again = anndata.read_h5ad(tmp_path / f"{name}.h5ad")
        assert list(again.obs) == list(direct.obs)
        np.testing.assert_array_equal(again.obsm["X_vmm"], direct.obsm["X_vmm"])
        assert_same_content(source, tmp_path / f"{name}.h5ad")


def test_a_file_of_an_older_anndata_is_rewritten_with_all_its_content(integrate, source, tmp_path):
    as_of_an_older_anndata(source)
    read = anndata.read_h5ad(source)
    result = integrate("--out", "out.h5ad")
    assert result.exit_code == 0, result.output
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert (out.X != read.X).nnz == 0 and set(out.layers) == set(read.layers)
    assert set(out.obs) - set(read.obs) - OPTIONAL == COLUMNS
    assert set(out.uns) - set(read.uns) == {"vmmscvi"}


def test_the_figure_shows_batches_clusters_and_requested_columns(integrate, tmp_path, no_umap):
    result = integrate("--out", "out.h5ad", "--figure", "map.svg", "--color", "cell_type")
    assert result.exit_code == 0, result.output
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert out.obsm["X_umap"].shape == (200, 2)
    texts = re.findall("<!-- (.*?) -->", (tmp_path / "map.svg").read_text())
    titles = ["batch", "cell_type", f"clusters ({out.obs['vmm_cluster'].nunique()})", "probability"]
    assert [text for text in texts if text in titles] == titles
    assert {"batch0", "batch1", "type0", "type1", "type2"} < set(texts)


def test_notes_go_to_standard_error_and_quiet_means_silent(run, source, caplog):
    caplog.set_level("INFO", logger="vmmscvi")
    options = ("--batch-key", "batch", "--max-epochs", 1, "--n-components", 5, "--accelerator", "cpu")
    told = run("integrate", source, *options, "--out", "a.h5ad")
    assert "training on 80 of 80 genes" in told.output and "wrote a.h5ad: X_vmm and" in told.output
    assert "Epoch 1 of at most 1" in caplog.text
    silent = run("integrate", source, *options, "--out", "b.h5ad", "--quiet")
    assert silent.output == ""


def test_foreign_columns_are_replaced_only_on_request(integrate, write_input, tmp_path):
    path = write_input(lambda adata: adata.obs.insert(0, "vmm_cluster", "mine"))
    refused = integrate("--out", "out.h5ad", source=path)
    assert refused.exit_code == 2 and "obs/vmm_cluster" in refused.output
    assert not (tmp_path / "out.h5ad").exists()
    assert integrate("--out", "out.h5ad", "--overwrite", source=path).exit_code == 0
    assert set(anndata.read_h5ad(tmp_path / "out.h5ad").obs["vmm_cluster"]) != {"mine"}
