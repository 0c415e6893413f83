"""Commands that use the clusters: markers, a page, other levels, other cells."""

from __future__ import annotations

import re

import anndata
import numpy as np
import pandas as pd
import pytest

from vmmscvi.cli import _report
from vmmscvi.cli._map_panels import map_panels
from vmmscvi.priors import ClusterTree

SEVERAL = ("--prior", "vampprior")
"""A prior that has several clusters after two epochs."""


def test_markers_and_page_are_written_and_the_map_is_kept(integrate, no_umap, tmp_path):
    result = integrate(
        "--out", "out.h5ad", "--markers", "markers.csv", "--report", "report.html", "--hvg", 40, *SEVERAL
    )
    assert result.exit_code == 0, result.output
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(out.obsm["X_umap"], out.obsm["X_vmm"][:, :2])
    table = pd.read_csv(tmp_path / "markers.csv", dtype={"cluster": str})
    assert (table["cluster"].value_counts() == 20).all()
    assert set(table["cluster"]) == set(out.obs["vmm_cluster"])
    assert set(table["gene"]) - set(out.uns["vmmscvi"]["settings"]["genes"])  # all genes of the file
    page = (tmp_path / "report.html").read_text()
    headings = re.findall("<h2>(.*?)</h2>", page)
    expected = {"Clusters", "Markers", "Composition", "Training", "Settings", "Versions"}
    assert expected <= set(headings)
    assert page.count("data:image/png;base64,") >= 4 and 'src="http' not in page  # nothing is fetched
    assert table["gene"][0] in page


def test_page_and_table_of_markers_are_for_the_same_clusters(integrate, no_umap, tmp_path):
    result = integrate(
        "--out", "out.h5ad", "--markers", "markers.csv", "--report", "report.html", "--min-size", 50, *SEVERAL
    )
    assert result.exit_code == 0, result.output
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    cut = out.obs["vmm_cut"]
    assert cut.nunique() < out.obs["vmm_cluster"].nunique()
    table = pd.read_csv(tmp_path / "markers.csv", dtype={"cluster": str})
    page = (tmp_path / "report.html").read_text()
    _, listed = page.split("markers, best first")
    for name in cut.cat.categories:
        best = table.loc[(table["cluster"] == name) & (table["rank"] <= 8), "gene"]
        assert f"<td>{name}</td><td>{', '.join(best)}</td>" in listed
    assert f"Merged into {cut.nunique()} clusters of at least {cut.value_counts().min()} cells" in page


def test_a_column_of_another_cut_is_neither_replaced_nor_marked(integrate, write_input, no_umap, tmp_path):
    path = write_input(lambda adata: adata.obs.insert(0, "vmm_cut", np.arange(adata.n_obs) % 2))
    refused = integrate("--out", "out.h5ad", "--min-size", 5, source=path)
    assert refused.exit_code == 2 and "obs/vmm_cut" in refused.output
    assert integrate("--out", "out.h5ad", "--markers", "markers.csv", *SEVERAL, source=path).exit_code == 0
    table = pd.read_csv(tmp_path / "markers.csv", dtype={"cluster": str})
    assert set(table["cluster"]) == set(anndata.read_h5ad(tmp_path / "out.h5ad").obs["vmm_cluster"])


def test_a_map_of_somebody_else_is_kept(integrate, write_input, no_umap, tmp_path):
    def add_map(adata):
        adata.obsm["X_umap"] = np.ones((adata.n_obs, 2))

    path = write_input(add_map)
    assert integrate("--out", "out.h5ad", "--figure", "map.png", source=path).exit_code == 0
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert (out.obsm["X_umap"] == 1).all() and "X_umap_vmm" in out.obsm


def test_cut_adds_a_level_that_belongs_to_the_results(integrate, run, tmp_path):
    assert integrate("--out", "out.h5ad", "--min-size", 30, *SEVERAL).exit_code == 0
    out = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert out.obs["vmm_cut"].value_counts().min() >= 30
    result = run("cut", "out.h5ad", "--n-clusters", 2, "--out", "out.h5ad", "--overwrite")
    assert result.exit_code == 0, result.output
    assert "vmm_cut, 2 clusters" in result.output
    again = anndata.read_h5ad(tmp_path / "out.h5ad")
    expected = ClusterTree.from_anndata(out).cut(n_clusters=2)
    assert (again.obs["vmm_cut"].astype(str) == expected.astype(str)).all()
    assert list(again.obs).count("vmm_cut") == 1 and set(again.obs) == set(out.obs)


def test_cuts_that_cannot_be_had_are_refused_in_one_line(integrate, run, source, tmp_path):
    assert integrate("--out", "out.h5ad", *SEVERAL).exit_code == 0
    for arguments, message in (
        ((source, "--n-clusters", 2), "no `uns\\['vmmscvi'\\]"),
        (("out.h5ad", "--n-clusters", 10_000), ": --n-clusters must be from 1 to"),
        (("out.h5ad", "--min-size", 10_000), ": --min-size must be from 1 to"),
        (
            ("out.h5ad", "--n-clusters", 2, "--n-effective", 9),
            "--n-clusters and --n-effective exclude each other",
        ),
        (("out.h5ad", "--key", "text"), "--key text is already a column"),
        (("absent.h5ad",), "does not exist"),
    ):
        result = run("cut", *arguments, "--out", "cut.h5ad")
        assert result.exit_code == 2 and re.search(message, result.output), result.output
        assert result.output.count("\n") == 1 and not (tmp_path / "cut.h5ad").exists()


def test_a_query_is_mapped_with_the_clusters_of_the_reference(integrate, run, write_input, tmp_path):
    assert integrate("--out", "out.h5ad", "--save-model", "model", "--hvg", 40).exit_code == 0
    clusters = set(anndata.read_h5ad(tmp_path / "out.h5ad").uns["vmmscvi"]["weights"])

    def as_query(adata):
        adata.obs["batch"] = "new"
        del adata.raw
        adata._inplace_subset_obs(np.arange(50))
        adata._inplace_subset_var(np.arange(70))  # lacks some genes

    query = write_input(as_query)
    result = run("map", query, "--model", "model", "--max-epochs", 1, "--accelerator", "cpu", "--quiet")
    assert result.exit_code == 0, result.output
    mapped = anndata.read_h5ad(tmp_path / "changed_vmm.h5ad")
    assert mapped.shape == (50, 70) and mapped.obs["vmm_novelty"].between(0, 1).all()
    names = {str(i) for i in range(10)}
    assert set(mapped.obs["vmm_cluster"]) <= names and clusters <= names
    told = run("map", query, "--model", "model", "--max-epochs", 1, "--accelerator", "cpu", "--overwrite")
    genes = set(anndata.read_h5ad(tmp_path / "out.h5ad").uns["vmmscvi"]["settings"]["genes"])
    n_lacking = len(genes - set(mapped.var_names))
    assert n_lacking and f"lacks {n_lacking} of the model's 40 genes" in told.output
    others = write_input(lambda adata: setattr(adata, "var_names", [f"ENSG{i}" for i in range(80)]))
    refused = run("map", others, "--model", "model", "--out", "x.h5ad")
    assert refused.exit_code == 2 and "has none of the model's 40 genes" in refused.output
    no_model = run("map", query, "--model", ".", "--out", "x.h5ad")
    assert no_model.exit_code == 2 and "has no model.pt" in no_model.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--markers", "markers.xlsx"), "ends in .csv or .tsv"),
        (("--report", "report.pdf"), "ends in .html or .htm"),
        (("--markers", "out.csv", "--report", "out.csv"), "ends in .html"),
        (("--prior", "standard_normal", "--min-size", 5), "the prior standard_normal does not have"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_training(integrate, no_training, options, message):
    result = integrate("--out", "o.h5ad", *options)
    assert result.exit_code == 2 and message in result.output


def test_progress_in_a_file_is_a_line_now_and_then(run, source, caplog, capfd):
    caplog.set_level("INFO", logger="vmmscvi")
    result = run(
        "integrate", source, "--batch-key", "batch", "--max-epochs", 20, "--n-latent", 4,
        "--accelerator", "cpu", "--out", "out.h5ad",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert caplog.text.count(" of at most 20") == 10
    assert "train for more epochs (--max-epochs)" in caplog.text and "`max_epochs`" not in caplog.text
    everything = result.output + "".join(capfd.readouterr())
    assert "\r" not in everything and "it/s" not in everything


def test_a_page_of_one_batch_does_not_compare_batches(input_data, no_umap, integrate, tmp_path):
    result = integrate("--out", "out.h5ad", "--report", "report.html", *SEVERAL)
    assert result.exit_code == 0, result.output
    adata = anndata.read_h5ad(tmp_path / "out.h5ad")
    adata.obs["batch"] = "a"
    options = {"title": "page", "basis": "X_umap", "batch_key": "batch", "layer": None}
    page = _report.report_page(adata, None, **options)
    assert "Composition" not in page and "batches" not in page
    assert map_panels(adata, "batch", ())[0] == ["vmm_cluster", "vmm_cluster_probability"]
