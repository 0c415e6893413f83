"""Training from the user's side: reproducible, comparable between priors, resumable, saved as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from pandas.testing import assert_frame_equal, assert_series_equal
from torch import Tensor

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]
Trained = Callable[..., SCVI_VMM]
PRIORS = ("vmm", "gmm", "vampprior", "standard_normal")


class AtStart(Callback):
    """State of the module and the split when the first minibatch is about to come."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.state = {n: v.clone() for n, v in pl_module.module.state_dict().items()}
        self.training = pl_module.module.training and pl_module.module.z_encoder.training
        self.train_idx = np.asarray(trainer.datamodule.train_idx)
        self.random_state = torch.get_rng_state()
        inputs = pl_module.module.pseudo_inputs
        self.inputs = None if inputs is None else inputs["z_encoder"]()[0].detach()

    @property
    def cells(self) -> np.ndarray:
        """Counts of the pseudo-inputs."""
        return np.expm1(self.inputs[:, :100].numpy())

    def networks(self) -> dict[str, Tensor]:
        return {n: v for n, v in self.state.items() if not n.startswith(("latent_prior.", "pseudo_inputs."))}

    def pseudo_inputs(self) -> dict[str, Tensor]:
        return {n: v for n, v in self.state.items() if n.startswith("pseudo_inputs.")}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior"])
def test_the_same_seed_gives_the_same_clusters(trained: Trained, make_model: Make, prior: str) -> None:
    again = make_model(prior=prior)
    again.train(max_epochs=3, start="cells", batch_size=64, accelerator="cpu", enable_progress_bar=False)
    assert_frame_equal(
        again.get_cluster_probabilities(), trained(prior).get_cluster_probabilities(), check_exact=True
    )
    assert_series_equal(again.predict(), trained(prior).predict())


def test_another_seed_gives_another_model(
    trained: Trained, make_model: Make, short_training: dict[str, Any]
) -> None:
    scvi.settings.seed = 1
    other = make_model()
    other.train(**short_training)
    assert not np.array_equal(other.get_cluster_probabilities(), trained().get_cluster_probabilities())
    assert not np.array_equal(other.train_indices, trained().train_indices)


def test_initial_weights_and_split_are_the_same_for_all_priors(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    starts = []
    for prior in PRIORS:
        scvi.settings.seed = 5
        start = AtStart()
        make_model(prior=prior).train(**{**short_training, "max_epochs": 1}, callbacks=[start])
        starts.append(start)
    for start in starts[1:]:
        assert_same(start.networks(), starts[0].networks())
        np.testing.assert_array_equal(start.train_idx, starts[0].train_idx)


def test_filling_pseudo_inputs_does_not_consume_the_global_random_state(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    states = []
    for prior in ("vampprior", "standard_normal"):  # neither draws anything when it is made
        scvi.settings.seed = 5
        start = AtStart()
        make_model(prior=prior).train(**{**short_training, "max_epochs": 1}, callbacks=[start])
        states.append(start.random_state)
    assert torch.equal(*states)


@pytest.mark.parametrize("space", ["log1p", "counts"])
@pytest.mark.parametrize("prior", ["vmm", "vampprior"])
def test_pseudo_inputs_start_as_different_training_cells(
    make_model: Make, short_training: dict[str, Any], prior: str, space: str
) -> None:
    model, start = make_model(prior=prior, pseudo_input_space=space), AtStart()
    model.train(**{**short_training, "max_epochs": 1}, train_size=0.05, callbacks=[start])  # 15 cells
    cells = np.round(start.cells)
    matches = [np.flatnonzero((model.adata.X.toarray() == cell).all(axis=1)) for cell in cells]
    assert all(len(match) == 1 for match in matches)
    chosen = np.concatenate(matches)
    assert len(set(chosen)) == 8
    assert set(chosen) <= set(model.train_indices)
    assert not set(chosen) & set(model.validation_indices)


def test_pseudo_inputs_start_with_the_continuous_covariates_of_their_cells(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model(setup={"batch_key": "batch", "continuous_covariate_keys": ["stress"]})
    start = AtStart()
    model.train(**{**short_training, "max_epochs": 1}, callbacks=[start])
    X = model.adata.X.toarray()
    for cell, stress in zip(np.round(start.cells), start.inputs[:, 100], strict=True):
        row = int(np.flatnonzero((X == cell).all(axis=1))[0])
        assert float(stress) == pytest.approx(model.adata.obs["stress"].iloc[row], rel=1e-5)


@pytest.mark.parametrize("reloaded", [False, True], ids=["at once", "after loading"])
@pytest.mark.parametrize("prior", PRIORS)
def test_a_second_training_continues_where_the_first_ended(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path, prior: str, reloaded: bool
) -> None:
    model = make_model(prior=prior)
    model.train(**short_training)
    history = {key: table.copy() for key, table in model.history.items()}
    if reloaded:
        model.save(tmp_path / "model")
        model = SCVI_VMM.load(tmp_path / "model", adata=model.adata)
    ended = {n: v.clone() for n, v in model.module.state_dict().items()}
    start = AtStart()
    del short_training["start"]
    model.train(**{**short_training, "max_epochs": 3}, callbacks=[start])
    assert_same(start.state, ended)
    assert start.training, (
        "a second training has to use dropout and update batch-norm statistics as the first"
    )
    assert model.history.keys() == history.keys()
    for key in set(history) - {"kl_weight"}:
        assert len(model.history[key]) == 5, key
        np.testing.assert_array_equal(model.history[key].astype(float).iloc[:2], history[key].astype(float))
    assert list(model.history["elbo_train"].index) == list(range(5))
    assert not model.module.training


@pytest.mark.parametrize("prior", PRIORS)
def test_save_and_load_keep_everything(trained: Trained, tmp_path: Path, prior: str) -> None:
    model = trained(prior)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = SCVI_VMM.load(tmp_path / "model")
    assert_same(dict(loaded.module.state_dict()), dict(model.module.state_dict()))
    assert not loaded.module.training
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    assert_series_equal(loaded.get_prior_log_density(), model.get_prior_log_density(), check_exact=True)
    generated, expected = loaded.sample_prior(30), model.sample_prior(30)
    assert (generated.X != expected.X).nnz == 0
    assert_frame_equal(generated.obs, expected.obs)
    assert loaded.history.keys() == model.history.keys()
    for name in ("train_indices", "validation_indices"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
    if prior != "standard_normal":
        for method in ("get_cluster_probabilities", "get_cluster_centers"):
            assert_frame_equal(getattr(loaded, method)(), getattr(model, method)(), check_exact=True)
        assert_series_equal(loaded.predict(), model.predict())
        assert_series_equal(loaded.get_cluster_weights(), model.get_cluster_weights(), check_exact=True)


def test_an_untrained_model_can_be_saved_and_loaded(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(n_components=5, inference="MLE", wishart_scale=0.7, responsibilities_in_gradient=False)
    model.save(tmp_path / "model")
    loaded = SCVI_VMM.load(tmp_path / "model", adata=model.adata)
    prior = loaded.module.latent_prior
    assert (prior.n_components, prior.inference, prior.wishart_scale) == (5, "MLE", 0.7)
    assert not prior.responsibilities_in_gradient
    loaded.train(**short_training)
    assert loaded.get_cluster_probabilities().shape == (300, 5)


def test_a_model_loaded_without_its_data_needs_them_to_generate(trained: Trained, tmp_path: Path) -> None:
    trained().save(tmp_path / "model")
    model = SCVI_VMM.load(tmp_path / "model", adata=False)
    assert len(model.get_cluster_weights()) == 8
    with pytest.raises(ValueError, match="`sample_prior` needs the training data"):
        model.sample_prior(3)


def test_max_epochs_follows_scvi_tools_by_default(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    model.train(**{**short_training, "max_epochs": None}, max_steps=1, early_stopping=False)
    assert model.trainer.max_epochs == 400


def test_callbacks_of_the_user_are_not_changed(make_model: Make, short_training: dict[str, Any]) -> None:
    callbacks: list[Callback] = []
    make_model().train(**{**short_training, "max_epochs": 1}, callbacks=callbacks)
    assert callbacks == []
