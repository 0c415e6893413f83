"""The mixture as a classifier: labels, new types, wrong labels, calibration; training is short and shared."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from vmmscvi import SCVI_VMM
from vmmscvi._label_calibration import LabelCalibration, fit_temperature, tempered
from vmmscvi.data import simulate_counts

NEW = "type1"


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Five types; half of the cells are labelled, one label in ten is wrong, one type has no label."""
    adata = simulate_counts(n_cells=600, n_genes=100, n_types=5, n_batches=2, seed=0)
    rng = np.random.default_rng(0)
    truth = adata.obs["cell_type"].to_numpy(str)
    known = np.where((rng.random(600) < 0.5) & (truth != NEW), truth, "unknown").astype(object)
    labelled = np.flatnonzero(known != "unknown")
    for cell in rng.choice(labelled, len(labelled) // 10, replace=False):
        known[cell] = rng.choice([t for t in np.unique(truth) if t not in (truth[cell], NEW)])
    adata.obs["known"] = known.astype(str)
    return adata


@pytest.fixture(scope="module")
def model(cells: AnnData) -> SCVI_VMM:
    scvi.settings.seed = 0
    SCVI_VMM.setup_anndata(cells, batch_key="batch", labels_key="known")
    model = SCVI_VMM(cells, n_components=30, n_hidden=32, n_latent=4)
    training = {"batch_size": 32, "lr": 4e-3, "accelerator": "cpu", "enable_progress_bar": False}
    model.train(start="labels", unlabeled_category="unknown", max_epochs=24, n_warmup_epochs=16, **training)
    return model


def truth_of(cells: AnnData) -> np.ndarray:
    return cells.obs["cell_type"].to_numpy(str)


def test_probabilities_are_sums_of_responsibilities(model: SCVI_VMM, cells: AnnData) -> None:
    soft = model.predict_labels(soft=True, calibrated=False)
    np.testing.assert_allclose(soft.sum(1), 1.0, rtol=1e-5)
    assert list(soft.index) == list(cells.obs_names)
    r = model.get_cluster_probabilities()
    expected = r.T.groupby(np.array(model.start_labels_)).sum().T
    np.testing.assert_allclose(soft[expected.columns], expected, atol=1e-5)
    hard = model.predict_labels()
    assert (soft.idxmax(axis=1) == hard.astype(str)).all() and hard.name == "vmm_label"
    some = model.predict_labels(indices=[3, 5, 8])
    assert some.astype(str).tolist() == hard.astype(str).iloc[[3, 5, 8]].tolist()


def test_calibrated_probabilities_are_those_at_the_temperature_of_held_out_labels(
    model: SCVI_VMM, cells: AnnData
) -> None:
    soft, calibrated = (model.predict_labels(soft=True, calibrated=c) for c in (False, True))
    assert model.label_temperature_ != 1.0
    np.testing.assert_allclose(calibrated, tempered(soft.to_numpy(), model.label_temperature_), rtol=1e-5)
    np.testing.assert_allclose(calibrated.sum(1), 1.0, rtol=1e-5)
    # the labelled validation cells are too few: all labelled cells are used
    known = cells.obs["known"].to_numpy(str)
    labelled = np.flatnonzero(known != "unknown")
    given = soft.columns.get_indexer(known[labelled])
    noise, n_labels = model.module.latent_prior.labels.noise, len(np.unique(known[labelled]))
    expected = fit_temperature(soft.to_numpy()[labelled], given, noise, n_labels)
    assert model.label_temperature_ == pytest.approx(expected, rel=1e-3)


def test_known_types_are_named_and_the_type_without_labels_has_a_component_of_its_own(
    model: SCVI_VMM, cells: AnnData
) -> None:
    truth, predicted = truth_of(cells), model.predict_labels().to_numpy(str)
    is_new = np.char.startswith(predicted, "new ")
    assert adjusted_rand_score(truth == NEW, is_new) > 0.8
    unlabelled = (cells.obs["known"] == "unknown").to_numpy() & (truth != NEW)
    assert (predicted == truth)[unlabelled].mean() > 0.9


def test_wrong_labels_are_the_doubted_ones(model: SCVI_VMM, cells: AnnData) -> None:
    doubt, known = model.get_label_disagreement(), cells.obs["known"].to_numpy()
    assert (doubt.isna() == (known == "unknown")).all()
    labelled = known != "unknown"
    assert roc_auc_score((known != truth_of(cells))[labelled], doubt[labelled]) > 0.9
    assert model.module.latent_prior.labels.noise == pytest.approx(0.1, abs=0.05)
    some = model.get_label_disagreement(indices=[0, 1, 2])
    np.testing.assert_allclose(some, doubt.iloc[:3], atol=1e-5)


def test_a_cells_own_label_is_not_used_for_its_prediction(model: SCVI_VMM, cells: AnnData) -> None:
    other = cells.copy()
    other.obs["known"] = "unknown"
    pd.testing.assert_frame_equal(model.predict_labels(other, soft=True), model.predict_labels(soft=True))
    assert model.get_label_disagreement(other).isna().all()


def test_calibration_is_that_of_labelled_validation_cells(model: SCVI_VMM, cells: AnnData) -> None:
    found = model.get_label_calibration(n_bins=5)
    validation = np.sort(model.validation_indices)
    validation = validation[(cells.obs["known"].iloc[validation] != "unknown").to_numpy()]
    assert found.n_cells == len(validation) == found.bins["n_cells"].sum()
    right = model.predict_labels(indices=validation).to_numpy(str) == cells.obs["known"].iloc[validation]
    assert found.accuracy == pytest.approx(right.mean())
    assert abs(found.mean_probability - found.accuracy) <= found.expected_error + 1e-9


def test_the_calibration_error_is_the_mean_over_cells_of_the_difference_in_their_bin() -> None:
    probability, correct = np.array([0.1, 0.15, 0.9, 0.8, 1.0]), np.array([0, 1, 1, 1, 0])
    found = LabelCalibration.of(probability, correct, n_bins=2)
    expected = (2 * abs(0.125 - 0.5) + 3 * abs(0.9 - 2 / 3)) / 5
    assert found.expected_error == pytest.approx(expected)
    assert found.bins["n_cells"].tolist() == [2, 3] and found.accuracy == pytest.approx(0.6)


def test_annotations_have_the_labels(model: SCVI_VMM, cells: AnnData) -> None:
    adata = cells.copy()
    model.annotate(adata, tree=False)
    soft = model.predict_labels(soft=True)
    assert (adata.obs["vmm_label"].astype(str) == soft.idxmax(axis=1)).all()
    np.testing.assert_allclose(adata.obs["vmm_label_probability"], soft.max(axis=1), rtol=1e-5)


def test_names_of_free_components_are_those_that_they_were_given(model: SCVI_VMM) -> None:
    model = deepcopy(model)
    free = [i for i, name in enumerate(model.start_labels_) if name.startswith("new ")]
    model.rename_clusters({str(i): "Platelets" for i in free})
    columns = list(model.predict_labels(soft=True))
    assert columns[-1] == "Platelets" and not any(name.startswith("new ") for name in columns)


def test_queries_have_the_references_labels(model: SCVI_VMM, cells: AnnData, tmp_path: Path) -> None:
    query = cells[:100].copy()
    query.obs["batch"], query.obs["known"] = "later", "not looked at yet"
    mapped = SCVI_VMM.load_query_data(query, model)
    mapped.train(max_epochs=2, batch_size=50, accelerator="cpu", enable_progress_bar=False)
    assert mapped.module.latent_prior.is_frozen
    assert list(mapped.predict_labels(soft=True)) == list(model.predict_labels(soft=True))
    agree = mapped.predict_labels().astype(str) == model.predict_labels().iloc[:100].astype(str)
    assert agree.mean() > 0.8
    mapped.save(tmp_path / "query")
    loaded = SCVI_VMM.load(tmp_path / "query", adata=query)
    assert loaded.label_temperature_ == mapped.label_temperature_ == model.label_temperature_
    assert (loaded.predict_labels().astype(str) == mapped.predict_labels().astype(str)).all()


def test_minified_data_have_the_same_labels(model: SCVI_VMM) -> None:
    model = deepcopy(model)
    expected = model.predict_labels().astype(str)
    mean, variance = model.get_latent_representation(return_dist=True)
    model.adata.obsm["mean"], model.adata.obsm["variance"] = mean, variance
    model.minify_adata(use_latent_qzm_key="mean", use_latent_qzv_key="variance")
    assert (model.predict_labels().astype(str) == expected).all()


def test_doubt_of_a_label_is_bayes_rule_over_components(model: SCVI_VMM, cells: AnnData) -> None:
    model = deepcopy(model)
    model.label_temperature_ = 1.0
    labels: Any = model.module.latent_prior.labels
    r = torch.as_tensor(model.get_cluster_probabilities().to_numpy(), dtype=torch.float64)
    codes = torch.as_tensor(model._given_codes(None, None))
    joint = r * labels(codes).double().exp()
    is_other = codes.unsqueeze(1) != labels.of_components
    expected = (joint * is_other).sum(1) / joint.sum(1)
    doubt = model.get_label_disagreement()
    known = doubt.notna().to_numpy()
    np.testing.assert_allclose(doubt[known], expected.numpy()[known], rtol=1e-4, atol=1e-6)


def test_labels_that_are_never_wrong_cannot_be_doubted(model: SCVI_VMM) -> None:
    model = deepcopy(model)
    labels: Any = model.module.latent_prior.labels
    model.module.latent_prior.labels = type(labels)(labels.of_components, 0.0)
    with pytest.raises(ValueError, match="`label_noise=0`, which rules out wrong labels"):
        model.get_label_disagreement()
