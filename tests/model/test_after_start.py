"""The model after a training with initialisation from the embedding, however it ends, and its further use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from pandas.testing import assert_frame_equal
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.train import NonFiniteTrainingError

Make = Callable[..., SCVI_VMM]
Training = dict[str, Any]
State = dict[str, Tensor]

MIXTURES = ("vmm", "gmm")
PRIOR_METRICS = ("prior_loss", "n_utilized_clusters", "alpha")
N_WARMUP = 5


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def epochs_of(model: SCVI_VMM, key: str) -> list[int]:
    return list(model.history[key].index)


@pytest.mark.parametrize("prior", MIXTURES)
def test_an_epoch_of_the_warm_up_is_never_the_best(
    make_model: Make, training: Training, watch: Any, prior: str
) -> None:
    model = make_model(prior=prior)
    # the largest loss is that of the first epoch
    model.train(**training, early_stopping_mode="max", callbacks=[watch])
    scores = model.history["elbo_validation"].to_numpy(dtype=float).ravel()
    assert scores.argmax() < N_WARMUP
    best = N_WARMUP + int(scores[N_WARMUP:].argmax())
    assert_same(watch.copied(model.module), watch.at_validation[best])
    assert model.module.latent_prior.is_fitted


def test_patience_counts_from_the_start_of_the_prior(make_model: Make, training: Training) -> None:
    model = make_model()
    patience = {"early_stopping_patience": 2, "early_stopping_min_delta": 1e6}
    model.train(**{**training, "max_epochs": 20}, n_warmup_epochs=N_WARMUP, **patience)
    assert epochs_of(model, "elbo_validation") == list(range(N_WARMUP + 3))
    assert epochs_of(model, "prior_loss") == list(range(N_WARMUP, N_WARMUP + 3))


@pytest.mark.parametrize("prior", MIXTURES)
@pytest.mark.parametrize("max_epochs", [1, 2, 3])
def test_the_shortest_trainings_have_clusters(
    make_model: Make, training: Training, prior: str, max_epochs: int
) -> None:
    model = make_model(prior=prior)
    model.train(**{**training, "max_epochs": max_epochs})
    assert epochs_of(model, "prior_loss") == list(range(max_epochs // 2, max_epochs))
    assert model.get_cluster_weights().sum() == pytest.approx(1, rel=1e-5)
    assert len(model.predict()) == 300


@pytest.mark.parametrize("reloaded", [False, True], ids=["at once", "after loading"])
@pytest.mark.parametrize("prior", MIXTURES)
def test_a_second_training_continues_without_another_warm_up(
    make_model: Make, training: Training, watch: Any, tmp_path: Path, prior: str, reloaded: bool
) -> None:
    model = make_model(prior=prior, n_components=20)
    model.train(**training)
    ended = watch.copied(model.module)
    if reloaded:
        model.save(tmp_path / "model")
        model = SCVI_VMM.load(tmp_path / "model", adata=model.adata)
    model.train(**{**training, "max_epochs": 2}, callbacks=[watch])
    assert_same(watch.at_start[0], ended)
    assert epochs_of(model, "elbo_train") == list(range(12))
    for key in PRIOR_METRICS:
        assert epochs_of(model, key) == list(range(N_WARMUP, 12)), key
    model.train(**{**training, "max_epochs": 1})
    assert epochs_of(model, "prior_loss") == list(range(N_WARMUP, 13))


@pytest.mark.parametrize("prior", MIXTURES)
def test_save_and_load_keep_the_components_that_were_found(embedded: Any, tmp_path: Path, prior: str) -> None:
    model, _ = embedded(prior)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = SCVI_VMM.load(tmp_path / "model")
    assert_same(dict(loaded.module.state_dict()), dict(model.module.state_dict()))
    assert loaded.module.latent_prior.n_components == 4 and loaded.module.latent_prior.is_fitted
    for method in ("get_cluster_probabilities", "get_cluster_centers"):
        assert_frame_equal(getattr(loaded, method)(), getattr(model, method)(), check_exact=True)


@pytest.mark.parametrize("prior", MIXTURES)
def test_a_training_that_ends_in_its_warm_up_initialises_the_prior(
    make_model: Make, training: Training, prior: str
) -> None:
    model = make_model(prior=prior, n_components=20)
    model.train(**training, max_steps=20)  # nine minibatches are an epoch
    assert epochs_of(model, "elbo_train") == [0, 1, 2] and "prior_loss" not in model.history
    assert model.module.latent_prior.is_fitted
    assert len(model.predict()) == 300
    weights = model.get_cluster_weights()
    model.train(**{**training, "max_epochs": 2})
    assert len(model.get_cluster_weights()) == len(weights)
    assert not np.array_equal(model.get_cluster_weights(), weights)


@pytest.mark.parametrize("start", ["embedding", "cells"])
@pytest.mark.parametrize("prior", MIXTURES)
def test_an_interrupted_warm_up_leaves_an_untrained_model_that_can_be_trained(
    make_model: Make, training: Training, prior: str, start: str
) -> None:
    class Interrupt(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    model = make_model(prior=prior)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        model.train(**training, callbacks=[Interrupt()])
    assert not model.is_trained
    with pytest.raises(RuntimeError, match="has not been trained"):
        model.predict()
    model.train(**{**training, "max_epochs": 2}, start=start)
    assert epochs_of(model, "prior_loss") == ([1] if start == "embedding" else [0, 1])
    assert len(model.predict()) == 300


def test_nan_in_the_warm_up_is_explained_and_no_epoch_of_it_is_kept(
    make_model: Make, training: Training
) -> None:
    class Corrupt(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                pl_module.module.px_r.data.fill_(torch.nan)

    model = make_model()
    with pytest.raises(NonFiniteTrainingError, match="not finite: px_r"):
        model.train(**training, callbacks=[Corrupt()])
    assert not model.is_trained


def test_a_training_that_fails_after_initialisation_can_be_used_and_continued(
    make_model: Make, training: Training
) -> None:
    class Corrupt(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 7:
                pl_module.module.px_r.data.fill_(torch.nan)

    model = make_model(n_components=20)
    with pytest.raises(NonFiniteTrainingError):
        model.train(**training, callbacks=[Corrupt()])
    n_components = model.module.latent_prior.n_components
    assert model.is_trained and model.get_cluster_probabilities().shape == (300, n_components)
    model.train(**{**training, "max_epochs": 2})
    assert epochs_of(model, "elbo_train") == list(range(9))
    assert epochs_of(model, "prior_loss") == [5, 6, 7, 8]
    assert model.module.latent_prior.n_components == n_components


def test_without_early_stopping_the_last_epoch_stays(
    make_model: Make, training: Training, watch: Any
) -> None:
    model = make_model()
    model.train(**training, early_stopping=False, callbacks=[watch])
    assert_same(watch.copied(model.module), watch.at_end[-1])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_second_training_that_blows_up_leaves_the_model_as_it_was(
    make_model: Make, training: Training, early_stopping: bool
) -> None:
    model = make_model(n_components=20)
    model.train(**training)
    expected = model.get_cluster_probabilities()
    with pytest.raises(NonFiniteTrainingError):
        model.train(**{**training, "max_epochs": 3, "lr": 1e30}, early_stopping=early_stopping)
    assert_frame_equal(model.get_cluster_probabilities(), expected, check_exact=True)
    model.train(**{**training, "max_epochs": 1})
    assert model.is_trained and len(model.predict()) == 300
