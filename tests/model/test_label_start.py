"""A training whose prior starts from known types, or from given cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
def test_clusters_are_the_types_and_unlabelled_cells_find_theirs(
    make_model: Make, labelled: AnnData, training: dict[str, Any], prior: str
) -> None:
    model = make_model(labelled, setup=LABELS, prior=prior)
    model.train(**training, start="labels", unlabeled_category="unknown")
    assert model.module.latent_prior.n_components == 4
    names = np.array(model.start_labels_)[model.predict().astype(int)]
    unlabelled = (labelled.obs["known_type"] == "unknown").to_numpy()
    truth = labelled.obs["cell_type"].astype(str).to_numpy()
    assert (names == truth)[unlabelled].mean() > 0.9
    assert adjusted_rand_score(names[unlabelled], truth[unlabelled]) > 0.8


def test_labels_are_remembered_when_the_model_is_saved(
    make_model: Make, labelled: AnnData, quick_training: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(labelled, setup=LABELS)
    model.train(**quick_training, start="labels")  # "unknown" is a label like any other
    assert model.start_labels_ == [*sorted(set(labelled.obs["cell_type"])), "unknown"]
    model.save(tmp_path / "model")
    loaded = SCVI_VMM.load(tmp_path / "model", adata=labelled)
    assert loaded.start_labels_ == model.start_labels_
    assert loaded.module.latent_prior.n_components == 5
    loaded.train(**quick_training, start="labels", unlabeled_category="unknown")  # anew
    assert loaded.start_labels_ == sorted(set(labelled.obs["cell_type"]))
    assert list(loaded.history["prior_loss"].index) == [1, 2, 3]


def test_what_has_no_labels_is_refused(
    make_model: Make, labelled: AnnData, quick_training: dict[str, Any]
) -> None:
    start = {**quick_training, "start": "labels"}
    with pytest.raises(ValueError, match=r"needs labels: name their column with `setup_anndata"):
        make_model(labelled).train(**start)
    with pytest.raises(ValueError, match="`unlabeled_category` must be one of the labels in 'known_type'"):
        make_model(labelled, setup=LABELS).train(**start, unlabeled_category="none")
    with pytest.raises(ValueError, match=r"\['start'\] would have no effect: the prior is a VampPrior"):
        make_model(labelled, setup=LABELS, prior="vampprior").train(**start)
    labelled.obs["known_type"] = "unknown"
    with pytest.raises(ValueError, match="all cells have the label 'unknown'"):
        make_model(labelled, setup=LABELS).train(**start, unlabeled_category="unknown")


def test_a_label_without_a_training_cell_is_refused_before_the_warm_up(
    make_model: Make, labelled: AnnData, quick_training: dict[str, Any]
) -> None:
    labelled.obs.iloc[299, labelled.obs.columns.get_loc("known_type")] = "rare"
    model = make_model(labelled, setup=LABELS)
    split = {"external_indexing": [np.arange(200), np.arange(200, 300)]}
    with pytest.raises(ValueError, match="none of the training cells has the label 'rare'"):
        model.train(**quick_training, start="labels", datasplitter_kwargs=split)
    assert not model.is_trained and not model.history


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
        ({"start_cells": [3, 1, 2, 3, 4, 5, 6, 7]}, "must be different cells"),
    ],
)
def test_cells_that_pseudo_inputs_cannot_start_from_are_refused(
    make_model: Make, short_training: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_model().train(**{**short_training, **options})
