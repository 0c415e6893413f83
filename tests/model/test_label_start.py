"""A training with a prior initialised from known types, or from given cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]

LABELS = {"batch_key": "batch", "labels_key": "known_type"}


@pytest.fixture
def labelled(adata: AnnData) -> AnnData:
    """A third of the cells has no label."""
    adata.obs["known_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.iloc[::3, adata.obs.columns.get_loc("known_type")] = "unknown"
    return adata


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_unlabelled_cells_get_the_label_of_their_type(
    make_model: Make, labelled: AnnData, training: dict[str, Any], prior: str
) -> None:
    model = make_model(labelled, setup=LABELS, prior=prior)
    model.train(**training, start="labels", unlabeled_category="unknown")
    unlabelled = (labelled.obs["known_type"] == "unknown").to_numpy()
    truth = labelled.obs["cell_type"].astype(str).to_numpy()
    assert (model.predict_labels().astype(str) == truth)[unlabelled].mean() > 0.9
    assert adjusted_rand_score(model.predict()[unlabelled], truth[unlabelled]) > 0.8


def test_labels_are_kept_when_the_model_is_saved(
    make_model: Make, labelled: AnnData, quick_training: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(labelled, setup=LABELS)
    model.train(**quick_training, start="labels", unlabeled_category="unknown", label_noise=0.02)
    model.save(tmp_path / "model")
    loaded = SCVI_VMM.load(tmp_path / "model", adata=labelled)
    assert loaded.start_labels_ == model.start_labels_
    assert set(loaded.start_labels_) >= set(labelled.obs["cell_type"])
    pd.testing.assert_series_equal(loaded.predict_labels(), model.predict_labels())
    pd.testing.assert_series_equal(loaded.get_label_disagreement(), model.get_label_disagreement())
    loaded.train(**quick_training)  # continues, with its labels
    assert loaded.module.latent_prior.labels.noise == 0.02
    loaded.train(**quick_training, start="embedding")  # anew, without
    assert loaded.start_labels_ is None
    with pytest.raises(ValueError, match="The prior has no labels: register them"):
        loaded.predict_labels()


def test_registered_labels_are_used_only_with_start_labels(
    make_model: Make, labelled: AnnData, quick_training: dict[str, Any]
) -> None:
    states = []
    for setup in ({"batch_key": "batch"}, LABELS):
        scvi.settings.seed = 0
        model = make_model(labelled.copy(), setup=setup)
        model.train(**quick_training)
        states.append(model.module.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=0, equal_nan=True)


def test_priors_without_labels_are_refused(
    make_model: Make, labelled: AnnData, quick_training: dict[str, Any]
) -> None:
    start = {**quick_training, "start": "labels"}
    with pytest.raises(ValueError, match=r"needs labels: register them with `setup_anndata"):
        make_model(labelled).train(**start)
    with pytest.raises(ValueError, match="`unlabeled_category` must be one of the labels in 'known_type'"):
        make_model(labelled, setup=LABELS).train(**start, unlabeled_category="none")
    with pytest.raises(ValueError, match=r"\['start'\] would have no effect: the prior is a VampPrior"):
        make_model(labelled, setup=LABELS, prior="vampprior").train(**start)
    with pytest.raises(ValueError, match="`label_noise` must be at least 0 and less than 1, found 2"):
        make_model(labelled, setup=LABELS).train(**start, label_noise=2)
    labelled.obs["known_type"] = "unknown"
    with pytest.raises(ValueError, match="all cells have the label 'unknown'"):
        make_model(labelled, setup=LABELS).train(**start, unlabeled_category="unknown")


def test_pseudo_inputs_start_from_given_cells(
    make_model: Make, short_training: dict[str, Any], watch: Any
) -> None:
    cells = np.array([7, 3, 250, 12, 99, 100, 200, 1])
    model = make_model()
    model.train(**short_training, start_cells=cells, callbacks=[watch])
    log_expression = torch.nn.functional.softplus(watch.at_start[0]["pseudo_inputs.z_encoder.values"])
    expected = np.log1p(model.adata.X[cells].toarray())
    np.testing.assert_allclose(log_expression, expected, atol=0.011)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_cells": [1, 2]}, r"must have 8 positions of cells, .* found shape \(2,\)"),
        ({"start_cells": np.arange(8) / 2}, r"must have 8 positions of cells, .* of float64"),
        ({"start_cells": np.arange(293, 301)}, "must be positions from 0 to 299"),
        ({"start_cells": [3, 1, 2, 3, 4, 5, 6, 7]}, "expected different cells"),
    ],
)
def test_cells_that_pseudo_inputs_cannot_start_from_are_refused(
    make_model: Make, short_training: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_model().train(**{**short_training, **options})
