"""The comparison by modality trains missing runs, keeps existing ones, and reports its measurements."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "modalities"
MODULES = ("modality_data", "modality_models", "modality_runs", "modality_tables")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the scripts are not in the distribution")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(FOLDER))  # as where the folder is run
    return SimpleNamespace(**{name.removeprefix("modality_"): __import__(name) for name in MODULES})


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER), *arguments],
        capture_output=True, text=True, timeout=600, env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("modalities")
    options = ["--sets", "sim_tiny", "--methods", "stock", "--seeds", "0", "1", "--epochs", "2"]
    return out, call("--out", str(out), *options)


def test_every_run_leaves_a_result_and_an_embedding(finished) -> None:
    out, process = finished
    assert process.returncode == 0, process.stderr
    for model in ("TOTALVI", "SCVI"):
        for seed in (0, 1):
            path = out / "sim_tiny" / model / f"stock-seed{seed}.json"
            result = json.loads(path.read_text())
            assert result["n_epochs"] == 2 and result["own"] is None
            assert result["n_types"] == {"cell_type": 4}
            assert len(result["leiden"]) == 20
            assert result["elbo"] < 0 and result["train_seconds"] > 0
            arrays = np.load(path.with_suffix(".npz"))
            assert arrays["z"].shape == (120, result["n_latent"])
            assert len(np.unique(arrays["cell_type"])) == 4


def test_models_of_one_seed_have_the_same_validation_cells(finished) -> None:
    out, _ = finished
    hashes = {
        seed: {json.loads(path.read_text())["validation_hash"] for path in out.glob(f"*/*/*-seed{seed}.json")}
        for seed in (0, 1)
    }
    assert len(hashes[0]) == len(hashes[1]) == 1
    assert hashes[0] != hashes[1]


def test_tables_are_printed_and_written_with_a_section_for_the_modality(finished) -> None:
    out, process = finished
    assert process.stdout.startswith("## CITE-seq")
    assert process.stdout == (out / "tables.md").read_text()
    lines = process.stdout.splitlines()
    assert sum("| stock + Leiden, resolution 1 " in line for line in lines) == 2
    assert "Ours against stock's" not in process.stdout
    assert "[4/4] sim_tiny, SCVI, stock, seed 1" in process.stderr


def test_finished_runs_are_kept(finished, scripts: SimpleNamespace, caplog) -> None:
    out, _ = finished
    runs = scripts.runs.runs_of(scripts.data.chosen(["sim_tiny"]), ["SCVI"], ["stock"], [0, 1])
    before = {run.path(out): run.path(out).stat().st_mtime_ns for run in runs}
    with caplog.at_level(logging.INFO, logger="modalities"):
        assert scripts.runs.run_all(runs, out, out, 2) == 0
    assert caplog.text.count("done before") == 2
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_model_that_the_package_lacks_is_named(
    scripts: SimpleNamespace, tmp_path: Path, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = scripts.models.ModelSpec(object, "NOVI_VMM", scripts.models.setup_counts)
    monkeypatch.setattr(scripts.runs, "MODELS", {"SCVI": missing})
    runs = scripts.runs.runs_of(scripts.data.chosen(["sim_tiny"]), ["SCVI"], ["vmm"], [0])
    assert scripts.runs.run_all(runs, tmp_path, tmp_path, 2) == 1
    assert "skipped: vmmscvi.NOVI_VMM does not exist" in caplog.text
    assert not list(tmp_path.glob("**/*.json"))


def test_ours_is_scored_by_its_own_clusters(scripts: SimpleNamespace, tmp_path: Path) -> None:
    run = scripts.runs.Run(scripts.data.BY_NAME["sim_tiny"], "SCVI", "vmm", 0)
    result = scripts.runs.measure(run, run.data.load(tmp_path), tmp_path, 2)
    own = np.load(run.path(tmp_path).with_suffix(".npz"))["own"]
    assert len(own) == 120
    assert result["own"]["n_clusters"] == len(np.unique(own))


def test_the_error_for_a_missing_file_names_its_folder(
    scripts: SimpleNamespace, tmp_path: Path, caplog
) -> None:
    runs = scripts.runs.runs_of(scripts.data.chosen(["schep_scatac"]), ["PEAKVI"], ["stock"], [0])
    assert scripts.runs.run_all(runs, tmp_path, tmp_path, 2) == 1
    assert "schep_scatac.h5ad does not exist; --data is the folder" in caplog.text


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--sets", "pancreas", "--sets holds ['pancreas']; expected names among"),
        ("--models", "GIMVI", "--models holds ['GIMVI']; expected names among"),
    ],
)
def test_unknown_names_are_refused(option: str, name: str, message: str, tmp_path: Path) -> None:
    process = call("--out", str(tmp_path), option, name)
    assert process.returncode == 2
    assert message in process.stderr


# --- data sets ------------------------------------------------------------------------------------


def test_optional_sets_run_only_when_named(scripts: SimpleNamespace) -> None:
    default = {spec.name for spec in scripts.data.chosen(None)}
    assert "sim_peaks_20000" in default and "sim_peaks_100000" not in default
    assert [spec.name for spec in scripts.data.chosen(["sim_peaks_100000"])] == ["sim_peaks_100000"]


def test_a_third_of_the_cells_is_cut_to_each_modality(scripts: SimpleNamespace) -> None:
    from vmmscvi.data import simulate_multiome

    whole = scripts.data.split_features(simulate_multiome(n_cells=90, n_genes=100, n_peaks=200, n_types=2))
    assert whole.shape == (90, 100) and whole.obsm["peaks"].shape == (90, 200)
    cut = scripts.data.cut_to_thirds(whole.copy())
    has_genes, has_peaks = (np.asarray(x.sum(axis=1)).ravel() > 0 for x in (cut.X, cut.obsm["peaks"]))
    assert (has_genes & ~has_peaks).sum() == (~has_genes & has_peaks).sum() == 30
    np.testing.assert_array_equal(cut.obs["modality"] == "paired", has_genes & has_peaks)
    np.testing.assert_array_equal(cut.obs["modality"] == "expression", has_genes & ~has_peaks)
    again = scripts.data.cut_to_thirds(whole.copy())
    assert (again.X != cut.X).nnz == 0


def test_multivi_gets_every_modality_and_the_modality_as_batch_where_cells_are_cut(
    scripts: SimpleNamespace,
) -> None:
    from vmmscvi.data import simulate_cite, simulate_multiome

    stock = scripts.models.MODELS["MULTIVI"].stock
    whole = scripts.data.split_features(
        simulate_multiome(n_cells=90, n_genes=100, n_peaks=200, n_types=2, modalities=scripts.data.THIRDS)
    )
    model = stock(scripts.models.setup_multivi(stock, whole))
    assert (model.n_genes, model.n_regions, model.n_proteins) == (100, 200, 0)
    assert model.summary_stats["n_batch"] == 3
    cite = simulate_cite(n_cells=90, n_genes=100, n_types=2, n_batches=2, without_protein=["batch1"])
    model = stock(scripts.models.setup_multivi(stock, cite))
    assert (model.n_genes, model.n_regions, model.n_proteins) == (100, 0, 30)
    assert model.summary_stats["n_batch"] == 2


def test_cells_without_genes_are_left_out_of_models_of_genes_only(scripts: SimpleNamespace) -> None:
    from vmmscvi.data import simulate_multiome

    thirds = scripts.data.THIRDS
    adata = scripts.data.split_features(
        simulate_multiome(n_cells=90, n_genes=100, n_peaks=200, n_types=2, modalities=thirds)
    )
    assert scripts.models.cells_of("TOTALVI", adata).n_obs == 60
    assert scripts.models.cells_of("MULTIVI", adata).n_obs == 90


# --- tables ---------------------------------------------------------------------------------------


def a_result(method: str, seed: int, n_clusters: int, nmi: float, **changes: Any) -> dict[str, Any]:
    def found(n: int, nmi: float) -> dict[str, Any]:
        return {"n_clusters": n, "scores": {"cell_type": {"nmi": nmi, "ari": nmi / 2}}}

    return {
        "data": "set", "modality": "CITE-seq", "model": "TOTALVI", "method": method, "seed": seed,
        "n_cells": 100, "n_latent": 10, "n_types": {"cell_type": 4}, "validation_hash": f"{seed}",
        "n_epochs": 10, "train_seconds": 5.0, "train_cpu_seconds": 4.0, "elbo": -100.0,
        "own": found(n_clusters, nmi) if method == "vmm" else None,
        "leiden": [
            {"resolution": resolution, **found(n, score)}
            for resolution, n, score in ((0.5, 5, nmi + 0.1), (1.0, n_clusters, nmi), (2.0, 20, 0.1))
        ],
        **changes,
    }  # fmt: skip


def test_means_and_ranges_are_over_seeds_and_the_best_resolution_is_that_of_each(
    scripts: SimpleNamespace,
) -> None:
    results = [a_result("stock", 0, 8, 0.5), a_result("stock", 1, 10, 0.6)]
    table = scripts.tables.clusters_table(results).set_index("clusters of")
    assert table.loc["stock + Leiden, resolution 1", "clusters"] == "9.0 (8.0 to 10.0)"
    assert table.loc["stock + Leiden, resolution 1", "NMI"] == "0.550 (0.500 to 0.600)"
    assert table.loc["stock + Leiden, best resolution", "NMI"] == "0.650 (0.600 to 0.700)"
    assert table.loc["stock + Leiden, best resolution", "clusters"] == "5.0"
    assert "ours" not in table.index


def test_conclusions_use_only_seeds_of_both_methods(scripts: SimpleNamespace) -> None:
    results = [
        a_result("stock", 0, 8, 0.5),
        a_result("stock", 1, 8, 0.9),
        a_result("vmm", 0, 6, 0.55, elbo=-97.5, train_cpu_seconds=6.0, n_epochs=5),
    ]
    row = scripts.tables.criteria_table(results).iloc[0]
    assert row["seeds"] == 1
    assert (row["clusters / types"], row["within 0.7 to 2"]) == ("1.50", "yes")
    assert row["at least Leiden 1's"] == "NMI and ARI"
    assert row["at least the best's"] == "neither"
    assert row["ELBO, ours - stock's"] == "+2.5"
    assert row["CPU s per epoch, ours / stock's"] == "3.00"


def test_elbos_of_different_cells_are_not_compared(scripts: SimpleNamespace) -> None:
    results = [a_result("stock", 0, 8, 0.5), a_result("vmm", 0, 8, 0.5, validation_hash="other")]
    with pytest.raises(ValueError, match="validation cells of set, TOTALVI, seed 0 differ"):
        scripts.tables.criteria_table(results)


def test_proteins_are_compared_with_the_genes_alone(scripts: SimpleNamespace) -> None:
    results = [a_result("vmm", 0, 8, 0.5), a_result("vmm", 0, 8, 0.4, model="SCVI")]
    row = scripts.tables.proteins_table(results).iloc[0]
    assert (row["NMI, SCVI_VMM"], row["NMI, TOTALVI_VMM"]) == ("0.400", "0.500")
    assert (row["ARI, SCVI_VMM"], row["ARI, TOTALVI_VMM"]) == ("0.200", "0.250")
