"""A small experiment that has been through all steps, in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from vmmscvi.data import simulate_counts

ORDER = ["two batches", "one batch"], ["VMM", "PCA"]


@pytest.fixture(scope="module")
def scores(steps: Any, tiny: Path) -> pd.DataFrame:
    return steps.results.read_scores(tiny, *ORDER)


def test_an_embedding_has_clusters_probabilities_and_settings(tiny: Path) -> None:
    found = read_h5ad(tiny / "two-batches" / "vmm" / "seed1" / "embedding.h5ad")
    assert found.obsm["X_emb"].shape == (150, 3)
    assert {"batch", "cell_type", "cluster", "cluster_probability"} <= set(found.obs)
    assert json.loads(found.uns["method"])["seed"] == 1
    assert "scvi-tools" in found.uns["versions"]
    assert len(found.uns["history"]["elbo_validation"]) == found.uns["run"]["n_epochs"] == 3
    decoded = found.uns["decoded"]
    assert list(decoded.index) == sorted(found.obs["cluster"].unique())
    np.testing.assert_allclose(decoded.sum(axis=1), 1, rtol=1e-5)


def test_seeds_are_repeatable_and_differ(steps: Any, tiny: Path) -> None:
    counts = read_h5ad(tiny / "two-batches" / "counts.h5ad")
    stored = {seed: read_h5ad(tiny / f"two-batches/vmm/seed{seed}/embedding.h5ad") for seed in (0, 1)}
    again = steps.train.train(counts, json.loads(stored[1].uns["method"]), 1)
    np.testing.assert_array_equal(again.obsm["X_emb"], stored[1].obsm["X_emb"])
    assert np.abs(stored[0].obsm["X_emb"] - stored[1].obsm["X_emb"]).max() > 1e-3


def test_scores_are_those_of_the_stored_clusters(scores: pd.DataFrame, steps: Any, tiny: Path) -> None:
    clusters = pd.read_csv(tiny / "one-batch" / "pca" / "seed0" / "clusters.csv.gz", index_col=0, dtype=str)
    assert list(clusters) == ["leiden_1", "leiden_best", "kmeans", "cell_type"]
    types = clusters.pop("cell_type")
    for name, column in clusters.items():
        for measure, score in (("nmi", normalized_mutual_info_score), ("ari", adjusted_rand_score)):
            found = steps.results.trials(scores, name, measure)["one batch", "PCA", 0]
            assert found == pytest.approx(score(types, column))
    assert (
        steps.results.trials(scores, "leiden_best", "nmi")
        .ge(steps.results.trials(scores, "leiden_1", "nmi") - 1e-12)
        .all()
    )


def test_choices_made_with_labels_are_marked(scores: pd.DataFrame) -> None:
    marked = scores[scores["uses_labels"]]["clustering"].unique()
    assert set(marked) == {"own_merged", "leiden_best", "kmeans"}


def test_tables_have_means_over_seeds_in_the_order_that_is_asked_for(
    steps: Any, scores: pd.DataFrame, tmp_path: Path
) -> None:
    table = steps.tables.summary(scores, steps.tables.TABLE3)
    assert list(table["dataset"]) == ["two batches", "one batch"]
    nmi = steps.results.trials(scores, "own", "nmi")["one batch", "VMM"]
    assert table.loc[1, "NMI"] == f"{nmi.mean():.3f} ± {nmi.std():.3f}"
    all_clusterings = steps.tables.clusterings_table(scores)
    assert len(all_clusterings) == 2 * (4 + 3)
    daggers = all_clusterings["clustering"].str.contains("†")
    assert not all_clusterings.loc[daggers, "NMI"].str.contains("*", regex=False).any()
    assert all_clusterings.loc[~daggers, "NMI"].str.contains("*", regex=False).any()
    steps.tables.write(scores, tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "paper's Table 3" in text and "Agreement of clusters between seeds" in text
    assert r"\textbf{" in (tmp_path / "clusterings.tex").read_text()
    assert len(pd.read_csv(tmp_path / "scores.csv")) == len(scores)


def test_the_papers_rows_stand_below_ours(steps: Any, scores: pd.DataFrame, tmp_path: Path) -> None:
    columns = "dataset,prior,cell_types,utilized_clusters,accuracy,nmi_merged,nmi_unmerged"
    (tmp_path / "table3.csv").write_text(f"{columns}\ncortex,VMM,7,15.9±2.23,0.8,0.7,0.6\n")
    ours = steps.tables.summary(scores, steps.tables.TABLE3)
    table = steps.tables.with_paper(ours, steps.tables.TABLE3, tmp_path, "table3*.csv")
    assert len(table) == len(ours) + 1
    assert dict(table.iloc[-1])["clusters"] == "15.9±2.23"
    assert dict(table.iloc[-1])["method"] == "paper: VMM"
    with pytest.raises(ValueError, match="has no file table4"):
        steps.tables.with_paper(ours, steps.tables.TABLE4, tmp_path, "table4*.csv")


def test_own_clusters_are_compared_with_leidens_over_all_seeds(steps: Any, scores: pd.DataFrame) -> None:
    row = steps.compare.against_leiden(scores, "VMM", "PCA").iloc[0]
    own = {
        name: steps.results.trials(scores, "own", name)["two batches", "VMM"]
        for name in ("n_clusters", "nmi", "ari")
    }
    numbers = "-".join(f"{n:.0f}" for n in sorted({own["n_clusters"].min(), own["n_clusters"].max()}))
    assert row["data (types)"] == "two batches (3)"
    assert row["VMM: clusters, NMI, ARI"] == f"{numbers}, {own['nmi'].mean():.3f}, {own['ari'].mean():.3f}"
    assert row["between seeds: VMM"].endswith("(1 pairs)")
    differences = steps.compare.differences(scores, "VMM", ["PCA"])
    nmi = differences[(differences["dataset"] == "two batches") & (differences["measure"] == "NMI")].iloc[0]
    leiden = steps.results.trials(scores, "leiden_1", "nmi")["two batches", "PCA"]
    assert nmi["difference"] == pytest.approx((own["nmi"] - leiden).mean(), abs=1e-3)
    assert nmi["pairs"] == 2
    rare = steps.compare.rare(scores, "VMM", ["one batch"])
    assert list(rare["seed"]) == [0, 1] and rare["share in one cluster"].between(0.3, 1).all()


def test_every_figure_with_data_is_drawn(steps: Any, scores: pd.DataFrame, tiny: Path) -> None:
    drawn = {name: figure is not None for name, figure in steps.figures.figures(tiny, scores)}
    steps.figures.mpl.pyplot.close("all")
    assert drawn == {
        "clusterings_nmi": True,
        "clusterings_ari": True,
        "clusters_found": True,
        "integration": False,  # no scIB here
        "embedding_two-batches": True,
        "centers_two-batches_vmm": True,
        "embedding_one-batch": True,
        "centers_one-batch_vmm": True,
    }


def test_a_folder_without_scores_is_refused(steps: Any, tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(ValueError, match="holds no scores"):
        steps.results.read_scores(tmp_path, None, None)
    with pytest.raises(ValueError, match="has no scores of"):
        steps.results.read_scores(tiny, ["nope"], None)


def test_time_and_memory_are_snakemakes(steps: Any, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one-batch" / "pca" / "seed0"
    folder.mkdir(parents=True)
    (folder / "scores.csv").write_bytes((tiny / "one-batch/pca/seed0/scores.csv").read_bytes())
    (folder / "train.tsv").write_text("s\th:m:s\tmax_rss\tcpu_time\n3.5\t0:00:03\t512.0\t2.5\n")
    scores = steps.results.read_scores(tmp_path, None, None)
    for measure, value in (("seconds", 3.5), ("cpu_seconds", 2.5), ("peak_memory_mb", 512)):
        assert steps.results.trials(scores, "", measure)["one batch", "PCA", 0] == value


@pytest.mark.slow
def test_scibs_measures_are_between_0_and_1_and_the_total_is_their_weighted_mean(
    steps: Any, tiny: Path
) -> None:
    embedding = read_h5ad(tiny / "two-batches/pca/seed0/embedding.h5ad")
    embedding.obsm["X_pca"] = read_h5ad(tiny / "two-batches/counts.h5ad").obsm["X_pca"]
    found = steps.score.scib_measures(embedding)
    assert set(steps.tables.BIO) | set(steps.tables.BATCH_CORRECTION) <= set(found)
    assert all(-1e-6 <= value <= 1 + 1e-6 for value in found.values())
    assert found["Total"] == pytest.approx(0.6 * found["Bio conservation"] + 0.4 * found["Batch correction"])


# -- data ------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> AnnData:
    adata = simulate_counts(n_cells=200, n_genes=80, n_types=3, n_batches=2, seed=0)
    adata.obs["donor"], adata.obs["type"] = adata.obs["batch"], adata.obs["cell_type"].astype(object)
    adata.obs.loc[adata.obs_names[:10], "type"] = None
    adata.layers["raw"] = adata.X.copy()
    adata.X = np.log1p(adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X) - 1
    return adata[:, :].copy()


def test_columns_and_layers_of_a_file_get_fixed_names(steps: Any, file: AnnData, tmp_path: Path) -> None:
    file.obs["type"] = file.obs["type"].astype("category")
    file.write_h5ad(tmp_path / "file.h5ad")
    spec = {"path": "file.h5ad", "batch_key": "donor", "label_key": "type", "layer": "raw"}
    found = steps.data.load({**spec, "n_top_genes": 30, "subsample": 100}, tmp_path)
    assert found.shape == (100, 30) and found.X.dtype == np.float32
    assert set(found.obs) == {"batch", "cell_type"} and found.obs["batch"].nunique() == 2
    assert not set(found.obs_names) & set(file.obs_names[:10])  # without a type
    again = steps.data.load({**spec, "n_top_genes": 30, "subsample": 100}, tmp_path)
    assert list(found.obs_names) == list(again.obs_names)
    with pytest.raises(ValueError, match="expected raw counts"):
        steps.data.load({**spec, "layer": None}, tmp_path)
    with pytest.raises(ValueError, match="'nope' is no column"):
        steps.data.load({**spec, "batch_key": "nope"}, tmp_path)
    assert steps.data.load({**spec, "batch_key": None}, tmp_path).obs["batch"].nunique() == 1


def test_the_papers_sets_have_its_genes_and_cells(
    steps: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adata = simulate_counts(n_cells=200, n_genes=80, n_types=3, n_batches=2, seed=0)
    monkeypatch.setitem(steps.data.SOURCES, "pbmc", (lambda folder: adata, {"n_top_genes": 40}))
    found = steps.data.load({"source": "pbmc"}, tmp_path)
    assert found.n_vars <= 40 and np.asarray(found.X.sum(axis=1)).min() >= 3
    assert steps.data.load({"source": "pbmc", "n_top_genes": 20}, tmp_path).n_vars <= 20


@pytest.mark.parametrize("kind", ["harmony", "scanorama"])
def test_rivals_mix_batches_and_with_one_batch_are_principal_components(
    steps: Any, tiny: Path, kind: str
) -> None:
    one = read_h5ad(tiny / "one-batch" / "counts.h5ad")
    alone = steps.methods.fit(one, 0, kind, {}, {})
    np.testing.assert_array_equal(alone.z, one.obsm["X_pca"])
    pytest.importorskip({"harmony": "harmonypy"}.get(kind, kind))
    two = read_h5ad(tiny / "two-batches" / "counts.h5ad")
    found = steps.methods.fit(two, 0, kind, {}, {})
    assert found.z.shape[0] == two.n_obs and np.isfinite(found.z).all()
    batch, types = (two.obs[key].to_numpy(str) for key in ("batch", "cell_type"))
    of_batches = [
        steps.score.batch_variance(z, batch, types)["variance: batches within types"]
        for z in (found.z, two.obsm["X_pca"])
    ]
    assert of_batches[0] < of_batches[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scvi", "sysvi"])
def test_models_of_scvi_tools_are_trained_as_they_are(steps: Any, tiny: Path, kind: str) -> None:
    two = read_h5ad(tiny / "two-batches" / "counts.h5ad")
    found = steps.methods.fit(two, 0, kind, {"n_latent": 4}, {"max_epochs": 2})
    assert found.z.shape == (150, 4) and found.run["n_epochs"] == 2 and not found.obs
    assert ("elbo_validation" in found.run) is (kind == "scvi")  # SysVI's is of normalised values
