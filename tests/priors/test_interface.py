"""What modules and training plans rely on: precision, state, freezing, errors."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from vmmscvi.priors import (
    Centers,
    GaussianMixturePrior,
    MixturePrior,
    Prior,
    StandardNormalPrior,
    VampPrior,
    VampPriorMixture,
    entropy,
    wishart_scale_factor,
)

K, P = 4, 3
MIXTURES = [GaussianMixturePrior, VampPrior, VampPriorMixture]


def trained(prior_class: type[MixturePrior], draw_mixture: Callable, spread: str = "diagonal") -> tuple:
    mixture = draw_mixture(K, P, spread, dtype=torch.float32)
    prior = prior_class(K, P)
    prior.cache_centers(mixture.centers)
    with torch.no_grad():
        prior.pi_logits.copy_(mixture.pi_logits)
        if prior_class is not VampPrior:
            prior.precision_cholesky.assign(mixture.precision_cholesky)
    return prior, mixture


def evaluations(prior: MixturePrior, z: Tensor, centers: Centers | None, qz: Normal) -> dict[str, Tensor]:
    results = {
        "log_prob": prior.log_prob(z=z, centers=centers),
        "responsibilities": prior.responsibilities(z, centers),
        "component_log_prob": prior.component_log_prob(z, centers),
        "kl_divergence": prior.kl_divergence(qz, z, centers),
        "scale_tril": prior.component_distribution(centers).scale_tril,
        "sample": prior.sample(5, torch.Generator().manual_seed(0), centers=centers),
    }
    if not isinstance(prior, VampPrior):
        results["loss"] = prior.empirical_bayes_loss(z, centers).loss
        results["log_hyperprior"] = prior.log_hyperprior(centers)
    return results


@pytest.mark.parametrize("prior_class", MIXTURES)
@pytest.mark.parametrize("spread", ["diagonal", "full"])
def test_autocast_changes_nothing_and_half_precision_inputs_are_computed_in_float32(
    draw_mixture: Callable, prior_class: type, spread: str
) -> None:
    prior, mixture = trained(prior_class, draw_mixture, spread)
    half = [None if t is None else t.bfloat16() for t in (mixture.z, mixture.loc, mixture.scale)]
    single = [None if t is None else t.float() for t in half]
    spreads = torch.rand(7, P, generator=torch.Generator().manual_seed(0)).bfloat16() + 0.1
    inputs = [
        (
            z,
            None if prior_class is GaussianMixturePrior else Centers(loc, scale),
            Normal(z, spreads.to(z.dtype)),
        )
        for z, loc, scale in (half, single)
    ]
    expected = evaluations(prior, *inputs[1])
    with torch.autocast("cpu", torch.bfloat16):
        actual = evaluations(prior, *inputs[0])
    for name, value in actual.items():
        assert value.dtype == torch.float32, name
        assert torch.equal(value, expected[name]), name


def test_standard_normal_computes_in_float32_under_autocast() -> None:
    z = torch.randn(7, P, generator=torch.Generator().manual_seed(0)).bfloat16()
    qz = Normal(z, torch.full_like(z, 0.3))
    prior = StandardNormalPrior(P)
    with torch.autocast("cpu", torch.bfloat16):
        results = prior.log_prob(z), prior.kl_divergence(qz, z)
    single = Normal(z.float(), qz.scale.float())
    expected = prior.log_prob(z.float()), prior.kl_divergence(single, z.float())
    assert all(r.dtype == torch.float32 and torch.equal(r, e) for r, e in zip(results, expected, strict=True))


@pytest.mark.parametrize("prior_class", MIXTURES)
@pytest.mark.parametrize("spread", ["diagonal", "full"])
def test_state_dict_round_trip_keeps_parameters_and_cached_centres(
    draw_mixture: Callable, prior_class: type, spread: str
) -> None:
    prior, mixture = trained(prior_class, draw_mixture, spread)
    file = io.BytesIO()
    torch.save(prior.state_dict(), file)
    file.seek(0)
    restored = prior_class(K, P)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(restored.log_prob(mixture.z), prior.log_prob(mixture.z))
    assert torch.equal(restored.responsibilities(mixture.z), prior.responsibilities(mixture.z))


@pytest.mark.parametrize("prior_class", MIXTURES)
@pytest.mark.parametrize("n_components", [K, K + 1])
def test_a_state_of_another_dimension_is_refused(prior_class: type, n_components: int) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        prior_class(K, P).load_state_dict(prior_class(n_components, P + 1).state_dict())


@pytest.mark.parametrize("prior_class", MIXTURES)
def test_a_state_with_another_number_of_components_is_refused(prior_class: type) -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        prior_class(K, P).load_state_dict(prior_class(K + 1, P).state_dict())


def test_cached_centres_are_detached_float32_copies(draw_mixture: Callable) -> None:
    mixture = draw_mixture(K, P, dtype=torch.float32)
    prior = VampPriorMixture(K, P)
    loc = mixture.loc.clone().requires_grad_()
    prior.cache_centers(Centers(loc, mixture.scale.bfloat16()))
    before = prior.log_prob(mixture.z)
    with torch.no_grad():
        loc.add_(1.0)
    assert torch.equal(prior.log_prob(mixture.z), before)
    assert {buffer.dtype for buffer in prior.buffers()} == {torch.float32}
    assert not any(buffer.requires_grad for buffer in prior.buffers())


@pytest.mark.parametrize(
    ("prior", "fitted_by_empirical_bayes", "uses_pseudo_inputs"),
    [(StandardNormalPrior(P), False, False), (VampPrior(K, P), False, True),
     (GaussianMixturePrior(K, P), True, False), (VampPriorMixture(K, P), True, True)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_priors_say_how_they_are_fitted(
    prior: Prior, fitted_by_empirical_bayes: bool, uses_pseudo_inputs: bool
) -> None:
    assert prior.fitted_by_empirical_bayes is fitted_by_empirical_bayes
    assert prior.uses_pseudo_inputs is uses_pseudo_inputs


@pytest.mark.parametrize("n_samples", [(), (5,)], ids=str)
def test_kl_has_one_value_for_each_sample_and_cell(
    draw_mixture: Callable, n_samples: tuple[int, ...]
) -> None:
    prior, mixture = trained(VampPriorMixture, draw_mixture)
    for qz in (Normal(mixture.loc, mixture.scale), MultivariateNormal(mixture.loc, torch.eye(P))):
        z = qz.sample(n_samples)
        assert prior.kl_divergence(qz, z).shape == (*n_samples, K)


def test_entropy_and_centres_are_read_from_either_kind_of_posterior(draw_mixture: Callable) -> None:
    mixture = draw_mixture(K, P)
    normal = Normal(mixture.loc, mixture.scale)
    full = MultivariateNormal(mixture.loc, scale_tril=torch.diag_embed(mixture.scale))
    for posterior in (normal, Independent(normal, 1)):
        torch.testing.assert_close(entropy(posterior), full.entropy())
        assert all(map(torch.equal, Centers.from_distribution(posterior), mixture.centers))
    assert torch.equal(Centers.from_distribution(full).scale, torch.diag_embed(mixture.scale))


POINTS = Centers(torch.zeros(K, P), None)
BAD_CALLS = {
    "n_latent": lambda: StandardNormalPrior(0),
    "n_components": lambda: GaussianMixturePrior(0, P),
    "inference": lambda: VampPriorMixture(K, P, inference="VB"),
    "density": lambda: GaussianMixturePrior(K, P).component_log_prob(torch.zeros(1, P), density="exact"),
    "component": lambda: GaussianMixturePrior(K, P).sample(1, component=K),
    "centers": lambda: VampPriorMixture(K, P).log_prob(torch.zeros(1, P)),
    "centers.scale": lambda: VampPrior(K, P).log_prob(torch.zeros(1, P), POINTS),
    "hyperprior_n_obs": lambda: GaussianMixturePrior(K, P).empirical_bayes_loss(
        torch.zeros(1, P), hyperprior_n_obs=0
    ),
}


@pytest.mark.parametrize("argument", BAD_CALLS)
def test_bad_arguments_are_named(argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}`"):
        BAD_CALLS[argument]()


def test_a_point_cannot_be_cached_as_an_encoded_pseudo_input() -> None:
    with pytest.raises(ValueError, match=r"`centers.scale`"):
        VampPriorMixture(K, P).cache_centers(POINTS)


@pytest.mark.parametrize("scale", ["papers", 0.0, -1.0, float("nan"), float("inf")])
def test_bad_wishart_scales_are_refused(scale: str | float) -> None:
    with pytest.raises(
        ValueError, match="`wishart_scale` must be 'learned', 'half', 'paper', 'reference' or a"
    ):
        wishart_scale_factor(scale, K, P)


@pytest.mark.parametrize("p", [2, 10])
def test_the_scale_of_the_wishart_is_that_of_its_documented_mean(p: int) -> None:
    """The mean of a Wishart with p + 2 degrees of freedom and scale matrix c I is (p + 2) c I."""
    expected = {"half": 4.0, "learned": 4.0, "paper": 50 ** (1 / p), "reference": 50 ** (2 / p)}
    for name, precision in expected.items():
        assert (p + 2) * wishart_scale_factor(name, 50, p) == pytest.approx(precision)
    assert wishart_scale_factor(0.3, 50, p) == 0.3
