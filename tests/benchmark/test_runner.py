import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal

from vmmscvi.benchmark import BenchmarkRun, _methods, _schema, collect, load_config
from vmmscvi.benchmark._cells import cells_of
from vmmscvi.benchmark._data import load_dataset
from vmmscvi.benchmark._files import read_arrays, read_json, write_bytes
from vmmscvi.benchmark._worker import Task

RunTiny = Callable[..., BenchmarkRun]
PCA_ONLY: dict[str, Any] = {"methods": [{"name": "PCA", "kind": "pca", "model": {"n_components": 3}}]}


def cell_folder(out: Path, method: str = "vmm", seed: int = 0) -> Path:
    return out / _schema.CELLS_FOLDER / "tiny" / method / f"seed{seed}"


def test_a_run_leaves_everything_that_a_report_needs(
    run_tiny: RunTiny, inline: list[Task], tmp_path: Path
) -> None:
    done = run_tiny()
    assert (done.n_trained, done.n_scored, done.failed) == (2, 2, {})
    arrays = read_arrays(cell_folder(tmp_path) / _schema.EMBEDDING_FILE)
    assert arrays["z"].shape == (120, 3)
    assert arrays["z"].dtype == np.float32
    for name in ("clusters", "cluster_probability", "labels", "batch", "obs_names"):
        assert arrays[name].shape == (120,)
    assert set(arrays["labels"]) == {"type0", "type1", "type2"}
    decoded = read_arrays(cell_folder(tmp_path) / _schema.DECODED_FILE)
    assert set(decoded["clusters"]) == set(arrays["clusters"])
    assert (
        decoded["expression"].shape
        == (len(decoded["clusters"]), len(decoded["genes"]))
        == (
            len(set(arrays["clusters"])),
            60,
        )
    )
    np.testing.assert_allclose(decoded["expression"].sum(axis=1), 1, rtol=1e-4)
    history = pd.read_csv(cell_folder(tmp_path) / _schema.HISTORY_FILE, index_col=0)
    assert len(history) == 2
    assert "elbo_validation" in history

    record = read_json(cell_folder(tmp_path) / _schema.RUN_FILE)
    assert record is not None
    expected = {
        **{"dataset": "tiny", "method": "VMM", "kind": "scvi_vmm", "seed": 0, "status": "done"},
        **{"error": None, "n_obs": 120, "n_vars": 60, "n_batches": 2, "n_types": 3, "n_epochs": 2},
        "n_components": 6,
    }
    assert {key: record[key] for key in expected} == expected
    assert record["settings"]["method"]["train"]["max_epochs"] == 2
    assert {"vmmscvi", "scvi-tools", "torch"} <= set(record["versions"])
    assert record["train_cpu_seconds"] > 0
    assert record["train_seconds"] > 0
    assert record["peak_memory_mb"] > 50

    results = pd.read_csv(tmp_path / _schema.RESULTS_FILE, keep_default_na=False)
    assert tuple(results.columns) == _schema.COLUMNS
    assert done.results is not None
    assert len(results) == len(done.results)
    measures = results.groupby(["method", "clustering"]).measure.agg(set)
    assert measures["VMM", "own"] == set(_schema.CLUSTERING_MEASURES) - {_schema.RESOLUTION}
    assert measures["VMM", ""] == set(_schema.RUN_MEASURES)
    assert ("PCA", "own") not in measures
    assert set(results.clustering) == {"", "own", "own_merged", "leiden_1", "kmeans"}
    uses_labels = results.groupby("clustering").uses_labels.first()
    assert list(uses_labels.index[uses_labels]) == ["kmeans", "own_merged"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_finished_cell_is_not_computed_again(run_tiny: RunTiny, inline: list[Task]) -> None:
    run_tiny(PCA_ONLY)
    inline.clear()
    again = run_tiny(PCA_ONLY)
    assert inline == []
    assert (again.n_trained, again.n_finished_before) == (0, 1)
    assert again.results is not None
    assert len(again.results) > 0


def test_new_methods_and_seeds_are_added_to_what_is_there(run_tiny: RunTiny, inline: list[Task]) -> None:
    run_tiny(PCA_ONLY)
    inline.clear()
    more = run_tiny({"methods": [*PCA_ONLY["methods"], {"name": "PCA2", "kind": "pca"}]}, seeds=[0, 4])
    trained = {(task.cell.method.name, task.cell.seed) for task in inline if task.stage == "train"}
    assert trained == {("PCA", 4), ("PCA2", 0), ("PCA2", 4)}
    assert more.results is not None
    assert set(more.results.seed) == {0, 4}


def test_a_run_that_was_stopped_after_training_only_scores(
    run_tiny: RunTiny, inline: list[Task], tmp_path: Path
) -> None:
    run_tiny(PCA_ONLY)
    (cell_folder(tmp_path, "pca") / _schema.SCORES_FILE).unlink()
    inline.clear()
    run_tiny(PCA_ONLY)
    assert [task.stage for task in inline] == ["score"]


def test_other_settings_of_the_scores_only_score_again(run_tiny: RunTiny, inline: list[Task]) -> None:
    run_tiny(PCA_ONLY)
    inline.clear()
    done = run_tiny({**PCA_ONLY, "clusterings": ["leiden_1"]})
    assert [task.stage for task in inline] == ["score"]
    assert done.results is not None
    assert set(done.results.clustering) == {"", "leiden_1"}


def test_other_settings_are_refused_or_trained_again(run_tiny: RunTiny, inline: list[Task]) -> None:
    run_tiny(PCA_ONLY)
    inline.clear()
    changed = {"methods": [{"name": "PCA", "kind": "pca", "model": {"n_components": 4}}]}
    with pytest.raises(ValueError, match=r"method\.model\.n_components: 3 -> 4.*--recompute"):
        run_tiny(changed)
    assert inline == []
    run_tiny(changed, recompute=True)
    assert [task.stage for task in inline] == ["train", "score"]


def test_other_data_of_the_same_name_are_noticed(run_tiny: RunTiny, tmp_path: Path) -> None:
    spec = load_config().datasets[0]
    for seed in (0, 1):
        adata = load_dataset(spec)[: 100 + seed].copy()
        adata.write_h5ad(tmp_path / "file.h5ad")
        changes = {**PCA_ONLY, "datasets": [{"name": "file", "path": str(tmp_path / "file.h5ad")}]}
        if seed == 0:
            run_tiny(changes)
    with pytest.raises(ValueError, match=r"dataset\.file_sha256"):
        run_tiny(changes)


def test_a_failure_is_recorded_and_tried_again(
    run_tiny: RunTiny, inline: list[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"methods": [{"name": "bad", "kind": "harmony"}, *PCA_ONLY["methods"]]}

    def fail(*args: Any) -> Any:
        raise RuntimeError("no luck")

    from vmmscvi.benchmark import _linear_methods

    with monkeypatch.context() as patch:
        patch.setattr("vmmscvi.benchmark._checks.check_installed", lambda methods: None)
        patch.setattr(_methods, "REQUIRED_PACKAGE", {})
        patch.setitem(_linear_methods.EMBEDDINGS, "harmony", fail)
        done = run_tiny(both)
        assert done.failed == {"tiny, bad, seed 0": "train: RuntimeError: no luck"}
        assert done.n_scored == 1  # the other method
        record = read_json(cell_folder(tmp_path, "bad") / _schema.RUN_FILE)
        assert record is not None
        assert (record["status"], record["error"]) == ("failed", "RuntimeError: no luck")
        patch.setitem(_linear_methods.EMBEDDINGS, "harmony", _linear_methods.pca)
        inline.clear()
        assert run_tiny(both).failed == {}
        assert [task.stage for task in inline] == ["train", "score"]


def test_a_method_that_cannot_be_applied_is_skipped_once(
    run_tiny: RunTiny, inline: list[Task], tmp_path: Path
) -> None:
    one_batch = {
        "methods": [{"name": "SysVI", "kind": "sysvi"}],
        "datasets": [{"name": "one", "simulate": "single_type", "arguments": {"n_cells": 50, "n_genes": 20}}],
    }
    done = run_tiny(one_batch)
    assert done.skipped == {"one, SysVI, seed 0": "SysVI needs two batches or more."}
    assert done.failed == {}
    inline.clear()
    assert run_tiny(one_batch).n_finished_before == 1
    assert inline == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": [{"name": "a", "path": "missing.h5ad"}]}, "there is no file .*missing.h5ad"),
        ({"datasets": [{"name": "a", "path": __file__}]}, "is not an h5ad file"),
        ({"datasets": [{"name": "a", "simulate": "moon"}]}, "simulate is 'moon'; expected one of"),
        ({"datasets": [{"name": "a", "source": "moon"}]}, "source is 'moon'; expected one of"),
    ],
)
def test_data_are_checked_before_work_starts(
    run_tiny: RunTiny, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_tiny(changes)
    assert not (tmp_path / _schema.CONFIG_FILE).exists()


def test_columns_of_a_file_are_checked_before_work_starts(run_tiny: RunTiny, tmp_path: Path) -> None:
    file = tmp_path / "a.h5ad"
    load_dataset(load_config().datasets[0]).write_h5ad(file)
    with pytest.raises(ValueError, match=r"'donor' is no column of obs; there are .*'batch'"):
        run_tiny({"datasets": [{"name": "a", "path": str(file), "batch_key": "donor"}]})


def test_a_method_whose_package_is_missing_is_refused(
    run_tiny: RunTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_methods, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'H' needs harmonypy.*pip install harmonypy"):
        run_tiny({"methods": [{"name": "H", "kind": "harmony"}]})


def test_cells_of_a_dataset_are_next_to_each_other(tmp_path: Path) -> None:
    names = ("a", "b")
    config = load_config(
        {
            "datasets": [{"name": name, "simulate": "single_type"} for name in names],
            "methods": [{"name": "PCA", "kind": "pca"}, {"name": "N(0, I)", "kind": "scvi"}],
            "seeds": [0, 1],
        }
    )
    cells = list(cells_of(config, tmp_path))
    assert [cell.dataset.name for cell in cells] == ["a"] * 4 + ["b"] * 4
    assert cells[1].folder == tmp_path / "cells" / "a" / "n-0-i" / "seed0"


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "file", b"old")

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_results_are_gathered_from_folders_alone(run_tiny: RunTiny, tmp_path: Path) -> None:
    done = run_tiny(PCA_ONLY)
    (tmp_path / _schema.RESULTS_FILE).unlink()
    pd.testing.assert_frame_equal(collect(tmp_path), done.results)
    assert yaml.safe_load((tmp_path / _schema.CONFIG_FILE).read_text())["methods"] == PCA_ONLY["methods"]


@pytest.mark.slow
def test_ray_finds_what_this_process_finds(run_tiny: RunTiny, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs ray")
    here = run_tiny().results
    shutil.rmtree(tmp_path / _schema.CELLS_FOLDER)
    done = run_tiny(ray=True, jobs=2, threads=1)
    assert (done.n_trained, done.n_scored, done.n_finished_before, done.failed) == (2, 2, 0, {})
    of_the_run = [_schema.TRAIN_SECONDS, _schema.TRAIN_CPU_SECONDS, _schema.PEAK_MEMORY_MB]
    found, expected = (
        table[~table["measure"].isin(of_the_run)].reset_index(drop=True) for table in (done.results, here)
    )
    assert len(expected) > 10
    assert_frame_equal(found, expected, rtol=1e-3)
    finished = run_tiny(ray=True)  # nothing is left: Ray is not started
    assert (finished.n_trained, finished.n_finished_before) == (0, 2)
