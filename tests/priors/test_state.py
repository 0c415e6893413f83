"""The state of the fit of a prior: who changes it, and how it is saved."""

from __future__ import annotations

import pytest
import torch

from vmmscvi.priors import (
    BayesianMixturePrior,
    CoarsenedMixture,
    GaussianMixturePrior,
    Prior,
    PriorConfig,
    PriorState,
    StandardNormalPrior,
    VampPriorMixture,
)

K, P = 4, 3
NAMES = ["vmm", "gmm", "vampprior", "standard_normal"]
MIXTURES = [GaussianMixturePrior, VampPriorMixture]


def make(name: str) -> Prior:
    return PriorConfig(name, K).build(P)


@pytest.fixture
def clusters() -> CoarsenedMixture:
    """Two clusters, one of them three times as large."""
    return CoarsenedMixture(
        responsibilities=torch.empty(0, 2, dtype=torch.float64),
        weights=torch.tensor([0.75, 0.25], dtype=torch.float64),
        loc=torch.eye(2, P, dtype=torch.float64),
        covariance=0.5 * torch.eye(P, dtype=torch.float64).expand(2, P, P),
    )


def test_numbers_of_states_are_those_of_saved_models() -> None:
    assert {s.name: int(s) for s in PriorState} == {
        "UNFITTED": 0, "WARMING_UP": 1, "FITTED": 2, "FROZEN": 3,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_new_prior_is_unfitted(name: str) -> None:
    prior = make(name)
    assert prior.state is PriorState.UNFITTED and not prior.is_fitted and not prior.is_frozen


@pytest.mark.parametrize(
    ("state", "is_fitted", "is_frozen"),
    [
        (PriorState.UNFITTED, False, False),
        (PriorState.WARMING_UP, False, False),
        (PriorState.FITTED, True, False),
        (PriorState.FROZEN, True, True),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_the_state_survives_a_state_dict(
    name: str, state: PriorState, is_fitted: bool, is_frozen: bool
) -> None:
    prior, fresh = make(name), make(name)
    prior.state = state
    fresh.load_state_dict(prior.state_dict())
    assert fresh.state is state
    assert (fresh.is_fitted, fresh.is_frozen) == (is_fitted, is_frozen)
    assert all(parameter.requires_grad is not is_frozen for parameter in fresh.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_freezing_stops_training_and_survives_a_state_dict(name: str) -> None:
    prior, fresh = make(name), make(name)
    prior.freeze()
    fresh.load_state_dict(prior.state_dict())
    for frozen in (prior, fresh):
        assert frozen.state is PriorState.FROZEN
        assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("inference", ["MAP-DP", "MAP", "MLE"])
def test_unfreezing_trains_on_but_never_a_concentration_that_is_not_inferred(inference: str) -> None:
    prior = GaussianMixturePrior(K, P, inference)
    expected = {name: p.requires_grad for name, p in prior.named_parameters()}
    prior.freeze()
    prior.unfreeze()
    assert prior.state is PriorState.FITTED
    assert {name: p.requires_grad for name, p in prior.named_parameters()} == expected
    assert all(p.requires_grad is (inference == "MAP-DP") for p in prior.inverse_alpha.parameters())


@pytest.mark.parametrize("prior_class", MIXTURES)
def test_initialising_makes_a_fitted_prior_and_leaves_the_other_as_it_was(
    prior_class: type[BayesianMixturePrior], clusters: CoarsenedMixture
) -> None:
    prior = prior_class(K, P)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    random_state = torch.get_rng_state()
    found = prior.initialised_from(clusters, 200.0, torch.ones(2, P))
    assert found.state is PriorState.FITTED and found.n_components == 2 and found.n_effective == 200.0
    assert prior.state is PriorState.UNFITTED and prior.n_components == K and prior.n_effective is None
    for name, value in prior.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("prior_class", MIXTURES)
def test_a_learned_concentration_is_kept_when_the_prior_is_initialised_again(
    prior_class: type[BayesianMixturePrior], clusters: CoarsenedMixture
) -> None:
    prior = prior_class(K, P)
    with torch.no_grad():
        for parameter in prior.inverse_alpha.parameters():
            parameter.add_(1.0)
    assert float(prior.alpha.detach()) != pytest.approx(1.0, rel=0.1)
    assert torch.equal(prior.initialised_from(clusters, 200.0, torch.ones(2, P)).alpha, prior.alpha)


@pytest.mark.parametrize("prior_class", MIXTURES)
def test_number_of_effective_cells_survives_a_state_dict(
    prior_class: type[BayesianMixturePrior], clusters: CoarsenedMixture
) -> None:
    prior = prior_class(K, P)
    loaded = prior_class(2, P)
    loaded.load_state_dict(prior.initialised_from(clusters, 200.0, torch.ones(2, P)).state_dict())
    assert loaded.n_effective == 200.0 == loaded.default_hyperprior_n_obs(64)
    prior.load_state_dict(prior_class(K, P).state_dict())
    assert prior.n_effective is None and prior.default_hyperprior_n_obs(64) == 64


@pytest.mark.parametrize("prior_class", MIXTURES)
def test_another_number_of_components_keeps_the_hyperpriors_and_forgets_the_fit(
    prior_class: type[BayesianMixturePrior], clusters: CoarsenedMixture
) -> None:
    arguments = {"inference": "MAP", "responsibilities_in_gradient": True, "wishart_scale": "learned"}
    fitted = prior_class(K, P, **arguments).initialised_from(clusters, 200.0, torch.ones(2, P))
    other = fitted.with_components(7)
    assert other.n_components == 7 and other.weights.shape == (7,)
    assert {name: getattr(other, name) for name in arguments} == arguments
    assert other.state is PriorState.UNFITTED and other.n_effective is None
    assert not other.inverse_alpha().requires_grad


@pytest.mark.parametrize(
    ("config", "message"),
    [({"prior": "vae"}, "`prior` must be one of .* found 'vae'"),
     ({"inference": "VB"}, "`inference` must be one of .* found 'VB'")],
)  # fmt: skip
def test_a_configuration_with_an_unknown_name_is_refused(config: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorConfig(**config)


def test_a_configuration_builds_the_prior_that_it_names() -> None:
    config = PriorConfig("gmm", 5, "MLE", False, "half")
    prior = config.build(P)
    assert isinstance(prior, GaussianMixturePrior) and (prior.n_components, prior.n_latent) == (5, P)
    found = prior.inference, prior.responsibilities_in_gradient, prior.wishart_scale
    assert found == ("MLE", False, "half")
    assert isinstance(make("standard_normal"), StandardNormalPrior)
