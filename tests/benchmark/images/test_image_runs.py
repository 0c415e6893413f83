"""Cells are run once, written whole, and reported with the paper's values beside ours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from vmmscvi.benchmark.images import CellSettings, load_images, run_cells, write_report
from vmmscvi.benchmark.images import _runner as runner
from vmmscvi.benchmark.images._cell import ARRAYS_FILE, read_record
from vmmscvi.benchmark.images._methods import build_estimator
from vmmscvi.benchmark.images._scores import score_clusters
from vmmscvi.benchmark.images._settings import TITLES
from vmmscvi.benchmark.images._tables import comparison_table, read_cells, read_reference
from vmmscvi.cli._benchmark_images import app
from vmmscvi.train import NonFiniteTrainingError

QUICK: dict[str, Any] = {
    "max_epochs": 2,
    "batch_size": 64,
    "n_components": 5,
    "n_images": 200,
    "n_test": 30,
    "n_likelihood_samples": 2,
}


def cell(method: str, **kwargs: Any) -> CellSettings:
    return CellSettings("digits", method, **{**QUICK, **kwargs})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("images")
    cells = [cell(method) for method in TITLES] + [cell("vmm", seed=1), cell("vmm", batch_size=32)]
    done = run_cells(cells, out, accelerator="cpu")
    assert (done.n_run, done.n_kept, done.n_failed) == (8, 0, 0)
    return out


def test_every_method_is_written_with_scores_samples_and_history(results: Path) -> None:
    for method in TITLES:
        folder = cell(method).folder(results)
        record = read_record(folder)
        assert record is not None and record["n_epochs"] == 2 and record["n_test"] == 30
        assert record["surgery"]["rate"] == pytest.approx(
            record["surgery"]["marginal_kl"] + record["surgery"]["mutual_information"]
        )
        assert ("clusters" in record) == (method != "standard_normal")
        assert len(pd.read_csv(folder / "history.csv")) == 2
        with np.load(folder / ARRAYS_FILE) as arrays:
            assert arrays["z"].shape == (200, 10)
            if method != "standard_normal":
                assert record["clusters"]["n_clusters"] == len(np.unique(arrays["clusters"]))
                assert (np.diff(arrays["weights"]) <= 0).all()
                assert arrays["images"].shape[1:] == (10, 64)


def test_the_most_probable_image_belongs_to_its_cluster(results: Path) -> None:
    data = load_images("digits", None, 200, 30)
    with np.load(cell("vmm").folder(results) / ARRAYS_FILE) as arrays:
        for component, image in zip(arrays["components"], arrays["most_probable"], strict=True):
            rows = np.flatnonzero((data.x_train == image).all(1))
            assert component in arrays["clusters"][rows]


def test_complete_cells_are_kept_and_incomplete_ones_are_run_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[str] = []
    monkeypatch.setattr(runner, "run_cell", lambda settings, *_: run.append(settings.method))
    (cell("gmm").folder(results) / "run.json").rename(cell("gmm").folder(results) / "moved")
    done = run_cells([cell("vmm"), cell("gmm"), cell("vade")], results)
    (cell("gmm").folder(results) / "moved").rename(cell("gmm").folder(results) / "run.json")
    assert run == ["gmm"] and (done.n_run, done.n_kept) == (1, 2)


def test_other_settings_are_not_mixed_into_a_folder(results: Path) -> None:
    with pytest.raises(ValueError, match=r"vmm.*other settings \(lr 0.0001 -> 0.1\)"):
        run_cells([cell("vmm", lr=0.1)], results)
    run_cells([cell("vade", n_components=7, prior_lr_ratio=3.0)], results)  # which VaDE does not use


def test_a_failed_cell_is_counted_and_the_others_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: CellSettings, *_: Any) -> None:
        if settings.method == "vmm":
            raise NonFiniteTrainingError("the loss became NaN")

    monkeypatch.setattr(runner, "run_cell", fail)
    lines: list[str] = []
    done = run_cells([cell("vmm"), cell("gmm")], tmp_path, report=lines.append)
    assert (done.n_run, done.n_failed) == (1, 1)
    assert any("has failed: the loss became NaN" in line for line in lines)


def test_all_methods_of_a_seed_start_from_the_same_networks_and_split() -> None:
    data = load_images("digits", None, 200, 30)
    fitted = [
        build_estimator(cell(m, max_epochs=2, lr=1e-12), 64, data.y_train, "cpu").fit(data.x_train)
        for m in ("vmm", "vampprior", "standard_normal")
    ]
    for model in fitted[1:]:
        np.testing.assert_array_equal(model.train_indices_, fitted[0].train_indices_)
        np.testing.assert_allclose(model.transform(data.x_test), fitted[0].transform(data.x_test), atol=1e-5)


def test_labels_choose_the_epoch_only_when_asked_to() -> None:
    data = load_images("digits", None, 200, 30)
    by_labels = build_estimator(cell("vmm", stop_on="nmi"), 64, data.y_train, "cpu").fit(data.x_train)
    assert by_labels.history_["nmi_validation"].between(0, 1).all()
    assert (
        "nmi_validation"
        not in build_estimator(cell("vmm"), 64, data.y_train, "cpu").fit(data.x_train).history_
    )
    with pytest.raises(ValueError, match="`stop_on` must be 'elbo' for 'standard_normal'"):
        build_estimator(cell("standard_normal", stop_on="nmi"), 64, data.y_train)
    with pytest.raises(ValueError, match="`method` must be one of"):
        build_estimator(cell("flow"), 64, data.y_train)


def test_scores_are_those_of_known_clusterings() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    split = score_clusters(labels, np.array([0, 0, 5, 7, 7, 7]))
    assert split.n_clusters == 3 and split.accuracy == split.nmi_merged == split.ari_merged == 1.0
    assert 0 < split.nmi < 1 and 0 < split.ari < 1
    assert score_clusters(labels, np.array([0, 0, 1, 1, 1, 1])).accuracy == pytest.approx(5 / 6)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / "table2_image_clustering.csv").write_text(
        "dataset,latent_dim,method,K,utilized_clusters,accuracy,nmi_merged,nmi_unmerged\n"
        "digits,10,VMM,100,13.9±2.13,0.960±0.01,0.907±0.01,0.899±0.01\n"
    )
    (folder / "table1_vae_elbo_surgery_fashion_mnist.csv").write_text(
        'prior,log_p_x_given_x,log_p_x,E_q_log_p_x_given_z,KL_qzx_pz,KL_qz_pz,I_z_n\n"N(0,I)",73.7±2.6,46,59,28,18,9\n'
    )
    return folder


def test_tables_average_over_seeds_and_show_the_papers_values(results: Path, reference: Path) -> None:
    cells = read_cells(results)
    table = comparison_table(cells, ("nmi", "n_clusters"), read_reference(reference))
    ours = table[(table["from"] == "ours") & (table["method"] == "VMM")]
    assert ours["seeds"].tolist() == ["1", "2"] and ours["batch"].tolist() == ["32", "64"]
    both = cells[(cells["method"] == "vmm") & (cells["batch_size"] == 64)]["nmi"]
    assert ours["nmi"].tolist()[1] == f"{both.mean():.3f} ± {both.std(ddof=1):.3f}"
    paper = table[table["from"] == "paper"]
    assert paper["method"].tolist() == ["VMM"] and paper["nmi"].tolist() == ["0.899±0.01"]
    assert "N(0, I)" not in set(table["method"])  # it has no clusters


def test_the_papers_values_stand_beside_every_dataset_whatever_its_batch_size(
    reference: Path,
) -> None:
    row = {
        "dataset": "digits",
        "method": "vmm",
        "batch_size": 64,
        "nmi": 0.5,
        "n_epochs": 1,
        "cpu_seconds": 1.0,
    }
    other = {**row, "dataset": "mnist", "batch_size": 256}
    path = reference / "table2_image_clustering.csv"
    path.write_text(path.read_text() + "mnist,10,VMM,100,1±0,0.2±0.0,0.3±0.0,0.4±0.0\n")
    table = comparison_table(pd.DataFrame([row, row, other]), ("nmi",), read_reference(reference))
    assert table["from"].tolist() == ["ours", "paper", "ours", "paper"]


def test_the_report_has_tables_and_figures(results: Path, reference: Path, tmp_path: Path) -> None:
    files = write_report(results, tmp_path / "report", reference)
    names = {file.name for file in files}
    assert {"table1_elbo_surgery.md", "table2_clusters.csv", "batch_size_digits.png"} <= names
    assert {f"clusters_digits_{m}_batch64.png" for m in TITLES if m != "standard_normal"} <= names
    assert all(file.stat().st_size > 0 for file in files)
    with pytest.raises(ValueError, match="holds no complete cell"):
        write_report(tmp_path, tmp_path / "report")
    with pytest.raises(ValueError, match="`reference` must hold"):
        write_report(results, tmp_path / "report", tmp_path)


def test_the_command_line_runs_and_reports(tmp_path: Path) -> None:
    invoke = CliRunner().invoke
    options = [
        "--n-images",
        "200",
        "--n-test",
        "30",
        "--n-samples",
        "2",
        "--epochs",
        "2",
        "--accelerator",
        "cpu",
    ]
    command = ["run", "--method", "gmm", "--n-components", "5", *options, "--quiet", "--out", str(tmp_path)]
    first, again = invoke(app, command), invoke(app, command)
    assert first.exit_code == again.exit_code == 0, first.output
    assert "1 run, 0 kept" in first.output and "0 run, 1 kept" in again.output
    written = json.loads((tmp_path / "digits/gmm/batch256/seed0/run.json").read_text())
    assert written["settings"]["n_images"] == 200
    assert written["settings"] == dataclasses.replace(cell("gmm"), batch_size=256).as_dict()
    reported = invoke(app, ["report", str(tmp_path)])
    assert reported.exit_code == 0 and "table2_clusters.md" in reported.output
    missing = invoke(app, ["run", "--dataset", "mnist", "--out", str(tmp_path)])
    assert missing.exit_code == 2 and "`data` must name the folder" in missing.output
