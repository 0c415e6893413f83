"""The prior starts from the embedding: what the warm-up is, what the start changes, and what it leaves."""

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
from vmmscvi.model._start import StartFromEmbedding
from vmmscvi.train._start import default_n_warmup_epochs

from vmmscvi import SCVI_VMM
from vmmscvi.model import _start

Make = Callable[..., SCVI_VMM]
Training = dict[str, Any]
State = dict[str, Tensor]

MIXTURES = ("vmm", "gmm")
N_WARMUP = 5


def networks(state: State) -> State:
    return {n: v for n, v in state.items() if not n.startswith(("prior.", "pseudo_inputs."))}


def of_prior(state: State) -> State:
    return {n: v for n, v in state.items() if n.startswith(("prior.", "pseudo_inputs."))}


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
    model.module.latent_prior.is_started = False
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
    assert default_n_warmup_epochs(n_train=20_000, batch_size=200, max_epochs=400) == 10
    assert default_n_warmup_epochs(n_train=20_001, batch_size=200, max_epochs=400) == 10  # of 101 minibatches
    assert default_n_warmup_epochs(n_train=1_000_000, batch_size=200, max_epochs=400) == 5
    assert default_n_warmup_epochs(n_train=200, batch_size=200, max_epochs=400) == 200
    halves = [default_n_warmup_epochs(10_000, 100, n) for n in (0, 1, 2, 3, 19, 20, 21)]
    assert halves == [0, 0, 1, 1, 9, 10, 10]
    assert default_n_warmup_epochs(n_train=0, batch_size=200, max_epochs=30) == 15


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
    assert module.pseudo_inputs is None or module.pseudo_inputs.n_components == 4
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
    assert after["prior.pi_logits"].shape != before["prior.pi_logits"].shape


def test_the_start_leaves_random_states_alone(
    make_model: Make, quick_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[Tensor, np.ndarray]] = []
    start = StartFromEmbedding._start

    def watched(self: StartFromEmbedding, *args: Any) -> None:
        states.append((torch.get_rng_state(), np.random.get_state()[1].copy()))  # noqa: NPY002
        start(self, *args)
        states.append((torch.get_rng_state(), np.random.get_state()[1].copy()))  # noqa: NPY002

    monkeypatch.setattr(StartFromEmbedding, "_start", watched)
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


def test_n_effective_decides_what_is_split_and_how_hyper_priors_are_weighed(
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
    assert model.trainer.lightning_module.hyperprior_n_obs == 50


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
    for start in ("embedding", "cells"):
        scvi.settings.seed = 0
        model = make_model(prior=prior)
        model.train(**quick_training, start=start)
        weights.append(dict(model.module.state_dict()))
        assert getattr(model.module.latent_prior, "n_components", 8) == 8
    assert_same(*weights)


def test_cells_are_sampled_where_there_are_many(
    make_model: Make, quick_training: Training, found_mixtures: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_start, "SMALLEST_SAMPLE", 50)
    for limit, value, expected in (
        ("LARGEST_SAMPLE", 100, 100),
        ("LARGEST_MATRIX", 8000, 80),  # of 100 genes
        ("LARGEST_MATRIX", 800, 50),
    ):
        with monkeypatch.context() as limited:
            limited.setattr(_start, limit, value)
            make_model().train(**quick_training)
        assert len(found_mixtures[-1][0]) == expected
        assert len(torch.unique(found_mixtures[-1][0], dim=0)) == expected, "a cell was drawn twice"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": "clusters"}, r"`start` must be one of \('embedding', 'cells', .*\), found 'clusters'"),
        ({"n_effective": 0}, "`n_effective` must be positive, found 0"),
        ({"n_effective": -5.0}, "`n_effective` must be positive, found -5.0"),
        ({"n_effective": float("nan")}, "`n_effective` must be positive, found nan"),
        (
            {"n_warmup_epochs": -1},
            r"`n_warmup_epochs` must be at least 0 and less than `max_epochs` \(2\), found -1",
        ),
        ({"n_warmup_epochs": 2}, r"`n_warmup_epochs` must be .* less than `max_epochs` \(2\), found 2"),
        ({"n_warmup_epochs": 400, "max_epochs": None}, r"less than `max_epochs` \(400\), found 400"),
    ],
)
def test_arguments_that_cannot_work_are_refused_before_training(
    make_model: Make, quick_training: Training, watch: Any, arguments: dict[str, Any], message: str
) -> None:
    model = make_model()
    before = watch.copied(model.module)
    with pytest.raises(ValueError, match=message):
        model.train(**{**quick_training, **arguments}, callbacks=[watch])
    assert not model.is_trained and model.history is None and not watch.at_start
    assert_same(watch.copied(model.module), before)


def test_callbacks_of_the_user_come_before_the_start(make_model: Make, quick_training: Training) -> None:
    class SeesTheWarmUp(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            assert not pl_module.module.latent_prior.is_started

    make_model().train(**quick_training, callbacks=[SeesTheWarmUp()])
