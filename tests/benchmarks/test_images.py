"""The image experiments on a few digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

SETTINGS = {
    "dataset": "digits",
    "max_epochs": 2,
    "batch_size": 64,
    "n_components": 6,
    "n_images": 200,
    "n_test": 40,
}


@pytest.fixture(scope="module")
def results(steps: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods; of one two seeds and two batch sizes."""
    out = tmp_path_factory.mktemp("images")
    cells = [("vmm", 64, 0), ("vmm", 64, 1), ("vmm", 128, 0), ("vade", 64, 0), ("standard_normal", 64, 0)]
    data = steps.images.load_images("digits", Path(), 200, 40)
    for method, batch_size, seed in cells:
        settings = {
            **steps.images.DEFAULTS,
            **SETTINGS,
            "method": method,
            "batch_size": batch_size,
            "seed": seed,
        }
        settings |= {"n_likelihood_samples": 5, "accelerator": "cpu"}
        result, arrays = steps.images.run(settings, data)
        folder = out / method / f"batch{batch_size}" / f"seed{seed}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result, default=float))
        np.savez(folder / "arrays.npz", **arrays)
    return out


def test_a_result_has_the_parts_of_the_elbo_and_scores_of_clusters(results: Path) -> None:
    result = json.loads((results / "vmm" / "batch64" / "seed0" / "result.json").read_text())
    assert result["reconstruction"] - result["rate"] == pytest.approx(
        result["reconstruction"] - result["marginal_kl"] - result["mutual_information"]
    )
    assert result["nmi_merged"] >= result["nmi"] - 1e-9 or result["n_clusters"] >= 1
    assert 0 <= result["accuracy"] <= 1
    normal = json.loads((results / "standard_normal" / "batch64" / "seed0" / "result.json").read_text())
    assert "n_clusters" not in normal and "rate" in normal


def test_clusters_are_shown_by_samples_and_their_most_probable_image(results: Path, steps: Any) -> None:
    with np.load(results / "vmm" / "batch64" / "seed0" / "arrays.npz") as arrays:
        n = len(np.unique(arrays["clusters"]))
        assert arrays["images"].shape == (n, steps.images.N_DRAWS, 64)
        assert arrays["most_probable"].shape == (n, 64)
        assert (np.diff(arrays["weights"]) <= 0).all()


def test_the_report_has_both_tables_means_over_seeds_and_the_papers_values(
    steps: Any, results: Path, tmp_path: Path
) -> None:
    (tmp_path / "table2.csv").write_text(
        "dataset,method,K,utilized_clusters,accuracy,nmi_merged,nmi_unmerged\ndigits,VMM,100,13.9±2.13,0.96,0.9,0.899\n"
    )
    steps.images_report.write(results, tmp_path / "report", tmp_path)
    table = pd.read_csv(tmp_path / "report" / "table2_clusters.csv", dtype=str, keep_default_na=False)
    assert list(table["method"]) == ["VMM", "VMM", "VaDE", "VMM", "VMM"]
    assert list(table["from"]) == ["ours", "paper", "ours", "ours", "paper"]
    assert table.loc[0, "seeds"] == "2" and "±" in table.loc[0, "nmi"]
    assert table.loc[1, "n_clusters"] == "13.9±2.13"
    assert "N(0, I)" in (tmp_path / "report" / "table1_elbo_surgery.csv").read_text()
    assert {path.name for path in (tmp_path / "report").glob("*.png")} == {
        "batch_size.png", "clusters_vmm_batch64.png", "clusters_vmm_batch128.png",
        "clusters_vade_batch64.png",
    }  # fmt: skip


def test_labels_can_choose_the_epoch_as_in_the_paper_but_not_without_clusters(steps: Any) -> None:
    data = steps.images.load_images("digits", Path(), 200, 40)
    settings = {**steps.images.DEFAULTS, **SETTINGS, "method": "vmm", "stop_on": "nmi", "accelerator": "cpu"}
    model = steps.images.build_estimator(settings, 64, data.y_train).fit(data.x_train)
    assert model.history_["nmi_validation"].between(0, 1).all()
    with pytest.raises(ValueError, match="stop_on"):
        steps.images.build_estimator({**settings, "method": "standard_normal"}, 64, data.y_train)


def test_images_of_a_file_are_scaled_and_always_the_same_ones(steps: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 4, 4), dtype=np.uint8), rng.integers(0, 10, 50)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    found = steps.images.load_images("mnist", tmp_path, 20)
    again = steps.images.load_images("mnist", tmp_path, 20)
    assert found.x_train.shape == (20, 16) and found.x_test.shape == (10, 16)
    assert found.x_train.min() >= -1 and found.x_train.max() <= 1
    np.testing.assert_allclose(found.x_test, x[:10].reshape(10, 16) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(found.y_train, again.y_train)
