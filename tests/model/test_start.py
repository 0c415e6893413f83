"""Initialisation of the prior from the embedding: the warm-up, the changes, and the resulting state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from pandas.testing import assert_frame_equal
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vmmscvi import SCVI_VMM
from vmmscvi.model._pace import Warmup
from vmmscvi.priors import PriorState
from vmmscvi.starts import InitialisePrior

Make = Callable[..., SCVI_VMM]
Training = dict[str, Any]
State = dict[str, Tensor]

MIXTURES = ("vmm", "gmm")
N_WARMUP = 5


def networks(state: State) -> State:
    return {n: v for n, v in state.items() if not n.startswith(("latent_prior.", "pseudo_inputs."))}


def of_prior(state: State) -> State:
    return {n: v for n, v in state.items() if n.startswith(("latent_prior.", "pseudo_inputs."))}


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("prior", MIXTURES)
def test_the_warm_up_is_a_training_under_the_standard_normal(embedded: Any, prior: str) -> None:
    model, watch = embedded(prior)
    plain, plain_watch = embedded("standard_normal")
    for key in ("train_loss", "elbo_train", "kl_local_train", "elbo_validation", "kl_local_validation"):
        np.testing.assert_array_equal(model.history[key][:N_WARMUP], plain.history[key][:N_WARMUP])
    for epoch in range(N_WARMUP):
        assert_same(networks(watch.at_end[epoch]), networks(plain_watch.at_end[epoch]))
    found, other = (m.history["kl_local_train"][N_WARMUP:].to_numpy() for m in (model, plain))
    assert (found != other).all()


def test_the_divergence_before_the_start_is_scvis_closed_form(make_model: Make, minibatch: Any) -> None:
    model = make_model()
    model.module.latent_prior.state = PriorState.WARMING_UP
    outputs, generated, loss = model.module(minibatch(model))
    qz = outputs["qz"]
    standard = Normal(torch.zeros_like(qz.loc), torch.ones_like(qz.scale))
    torch.testing.assert_close(loss.kl_local["kl_divergence_z"], kl_divergence(qz, standard).sum(-1))
    expected = standard.log_prob(outputs["z"]).sum(-1)
    torch.testing.assert_close(generated["pz"].log_prob(outputs["z"]), expected)


@pytest.mark.parametrize("prior", MIXTURES)
def test_no_prior_step_is_made_in_the_warm_up(embedded: Any, prior: str) -> None:
    model, watch = embedded(prior)
    for states in (watch.at_start[:N_WARMUP], watch.at_end[:N_WARMUP]):
        for state in states:
            assert_same(of_prior(state), of_prior(watch.at_start[0]))
    assert watch.n_components[:N_WARMUP] == [20] * N_WARMUP
    for key in ("prior_loss", "n_utilized_clusters", "alpha"):
        assert list(model.history[key].index) == list(range(N_WARMUP, 2 * N_WARMUP)), key


def test_the_warm_up_takes_a_thousand_minibatches_but_five_epochs_at_least_and_half_of_all_at_most() -> None:
    def n_epochs(n_train: int, batch_size: int, max_epochs: int) -> int:
        return Warmup.default(n_train, batch_size, max_epochs, smallest_batch=1).n_epochs

    assert n_epochs(20_000, 200, 400) == 10
    assert n_epochs(20_001, 200, 400) == 10  # of 101 minibatches
    assert n_epochs(1_000_000, 200, 400) == 5
    assert n_epochs(200, 200, 400) == 200
    assert [n_epochs(10_000, 100, n) for n in (0, 1, 2, 3, 19, 20, 21)] == [0, 0, 1, 1, 9, 10, 10]
    assert n_epochs(0, 200, 30) == 15


@pytest.mark.parametrize("n_warmup_epochs", [0, 3])
def test_the_length_of_the_warm_up_can_be_given(
    make_model: Make, training: Training, n_warmup_epochs: int
) -> None:
    model = make_model()
    model.train(**{**training, "max_epochs": 4}, n_warmup_epochs=n_warmup_epochs)
    assert list(model.history["prior_loss"].index) == list(range(n_warmup_epochs, 4))


@pytest.mark.parametrize("prior", MIXTURES)
def test_the_number_of_components_becomes_that_of_the_clusters(embedded: Any, prior: str) -> None:
    model, watch = embedded(prior)
    assert watch.n_components[N_WARMUP:] == [4] * N_WARMUP
    module = model.module
    assert module.latent_prior.n_components == len(module.latent_prior.weights) == 4
    assert module.pseudo_inputs is None or module.pseudo_inputs["z_encoder"].n_components == 4
    assert model.init_params_["non_kwargs"]["n_components"] == 4
    assert model.get_cluster_probabilities().shape == (300, 4)
    weights = model.get_cluster_weights()
    assert weights.sum() == pytest.approx(1, rel=1e-5) and weights.min() > 0.1
    assert model.get_cluster_centers().shape == (4, 4)
    assert adjusted_rand_score(model.adata.obs["cell_type"], model.predict()) > 0.95


@pytest.mark.parametrize("prior", MIXTURES)
def test_the_start_leaves_networks_statistics_and_modes_alone(embedded: Any, prior: str) -> None:
    _, watch = embedded(prior)
    before, after = watch.at_end[N_WARMUP - 1], watch.at_start[N_WARMUP]
    assert_same(networks(after), networks(before))
    assert watch.all_in_training_mode
    assert after["latent_prior.pi_logits"].shape != before["latent_prior.pi_logits"].shape


def test_the_start_leaves_random_states_alone(
    make_model: Make, quick_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[Tensor, np.ndarray]] = []
    start = InitialisePrior._initialise

    def watched(self: InitialisePrior, *args: Any) -> None:
        states.append((torch.get_rng_state(), np.random.get_state()[1].copy()))  # noqa: NPY002
        start(self, *args)
        states.append((torch.get_rng_state(), np.random.get_state()[1].copy()))  # noqa: NPY002

    monkeypatch.setattr(InitialisePrior, "_initialise", watched)
    make_model().train(**quick_training)
    (torch_before, numpy_before), (torch_after, numpy_after) = states
    assert torch.equal(torch_before, torch_after)
    np.testing.assert_array_equal(numpy_before, numpy_after)


@pytest.mark.parametrize("prior", MIXTURES)
def test_the_same_seed_gives_the_same_clusters(
    embedded: Any, make_model: Make, training: Training, prior: str
) -> None:
    model, _ = embedded(prior)
    again = make_model(prior=prior, n_components=20)
    torch.manual_seed(1)
    again.train(**training)
    assert_frame_equal(again.get_cluster_probabilities(), model.get_cluster_probabilities(), check_exact=True)
    assert_frame_equal(again.history["elbo_train"], model.history["elbo_train"], check_exact=True)


def test_the_number_of_components_is_a_bound(make_model: Make, training: Training) -> None:
    model = make_model(n_components=2)
    model.train(**training)
    assert model.module.latent_prior.n_components == 2


def test_n_effective_sets_the_granularity_and_the_weight_of_hyper_priors(
    make_model: Make, training: Training
) -> None:
    found = []
    for n_effective in (10.0, 2000.0):
        scvi.settings.seed = 0
        model = make_model(n_components=20)
        model.train(**training, n_effective=n_effective)
        found.append(model.module.latent_prior.n_components)
        n_counted = min(n_effective, len(model.train_indices))
        assert model.module.latent_prior.n_effective == n_counted
        assert model.trainer.lightning_module.hyperprior_n_obs is None  # the prior's own
    assert found[0] < found[1] == 4
    model.train(**training, n_effective=50.0)  # goes on, told anew
    assert model.module.latent_prior.n_effective == 50 and model.module.latent_prior.n_components == 4


def test_started_from_cells_it_is_the_papers_procedure(make_model: Make, quick_training: Training) -> None:
    model = make_model()
    model.train(**quick_training, start="cells")
    assert model.trainer.lightning_module.hyperprior_n_obs is None
    assert len(model.history["prior_loss"]) == 2 and model.module.latent_prior.n_components == 8


@pytest.mark.parametrize("prior", ["vampprior", "standard_normal"])
def test_priors_that_are_fitted_with_the_elbo_need_no_warm_up(
    make_model: Make, quick_training: Training, prior: str
) -> None:
    weights = []
    for start in (None, "cells"):
        scvi.settings.seed = 0
        model = make_model(prior=prior)
        model.train(**quick_training, start=start)
        weights.append(dict(model.module.state_dict()))
        assert getattr(model.module.latent_prior, "n_components", 8) == 8
    assert_same(*weights)


def test_a_fitted_prior_is_initialised_again_if_start_is_given(make_model: Make, training: Training) -> None:
    model = make_model(n_components=20)
    model.train(**training)
    first = model.module.latent_prior
    model.train(**{**training, "max_epochs": 2}, start="embedding", n_effective=10.0)
    again = model.module.latent_prior
    assert again is not first and again.n_components >= 1
    assert again.n_effective == 10
    assert list(model.history["prior_loss"].index) == list(range(N_WARMUP, 12)), "no second warm-up"
    assert model.init_params_["non_kwargs"]["n_components"] == again.n_components
    assert len(model.get_cluster_weights()) == again.n_components


def test_a_later_search_may_find_more_clusters_than_the_first(make_model: Make, training: Training) -> None:
    model = make_model(n_components=20)
    model.train(**training, n_effective=2.0)
    few = model.module.latent_prior.n_components
    model.train(**{**training, "max_epochs": 2}, start="embedding", n_effective=200.0)
    assert few < model.module.latent_prior.n_components <= model.max_components_ == 20


def test_impossible_trainings_are_refused_and_change_nothing(
    make_model: Make, quick_training: Training, watch: Any
) -> None:
    model = make_model()
    before = watch.copied(model.module)
    with pytest.raises(ValueError, match="`n_effective` must be positive, found 0"):
        model.train(**quick_training, n_effective=0, callbacks=[watch])
    assert not model.is_trained and model.history is None and not watch.at_start
    assert_same(watch.copied(model.module), before)


def test_callbacks_of_the_user_come_before_the_start(make_model: Make, quick_training: Training) -> None:
    class SeesTheWarmUp(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            assert pl_module.module.latent_prior.state is PriorState.WARMING_UP

    make_model().train(**quick_training, callbacks=[SeesTheWarmUp()])
