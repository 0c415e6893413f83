"""A module's own loss, with N(0, I) replaced by its prior, whatever form its parts have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scvi.module import VAE
from scvi.module.base import LossOutput
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from vmmscvi import SCVI_VMM
from vmmscvi.module import PriorModuleMixin, with_prior
from vmmscvi.module._posteriors import as_posterior
from vmmscvi.module._prior_loss import corrected, log_mean_weight
from vmmscvi.priors import (
    ComponentLabels,
    GaussianMixturePrior,
    Prior,
    PriorState,
    StandardNormalPrior,
    VampPrior,
)

N, P = 6, 3


class Posterior(PriorModuleMixin):
    """A module of which nothing is known but what its inference returned."""

    pseudo_inputs = None
    training = True

    def __init__(self, prior: Prior, weights: Any = None) -> None:
        self.latent_prior, self.weights = prior, weights

    def kl_weights(self, tensors: Any, kl_weight: Any, loss_kwargs: Any) -> Any:
        return kl_weight if self.weights is None else self.weights * kl_weight


class Asking(PriorModuleMixin):
    """A module whose term of ``z`` has the usual weight."""

    pseudo_inputs = None

    def __init__(self, prior: Prior, training: bool) -> None:
        self.latent_prior, self.training = prior, training


@pytest.fixture
def outputs() -> dict[str, Any]:
    qz = Normal(torch.randn(N, P), torch.rand(N, P) + 0.2)
    return {"qz": qz, "z": qz.rsample()}


def stock_loss(kl_local: Any, weight: float = 1.0) -> LossOutput:
    """A loss as scvi-tools' modules compute it."""
    kl = sum(kl_local.values()) if isinstance(kl_local, dict) else kl_local
    reconstruction = torch.arange(float(N))
    return LossOutput(
        loss=(reconstruction + weight * kl).mean(), reconstruction_loss=reconstruction, kl_local=kl_local
    )


def standard_kl(outputs: dict[str, Any]) -> torch.Tensor:
    return kl_divergence(outputs["qz"], Normal(torch.zeros(P), torch.ones(P))).sum(-1)


@pytest.mark.parametrize("name", ["kl_divergence_z", "kl_div_z"])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_term_of_z_is_replaced_and_others_stay(outputs: dict[str, Any], name: str, weight: float) -> None:
    module = Posterior(GaussianMixturePrior(4, P))
    others = {"kl_divergence_l": torch.rand(N)}
    stock = stock_loss({name: standard_kl(outputs), **others}, weight)
    found = corrected(module, stock, {}, outputs, {"kl_weight": weight})
    kl = module.latent_prior.kl_divergence(outputs["qz"], outputs["z"])
    expected = stock_loss({name: kl, **others}, weight)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.kl_local, expected.kl_local)
    torch.testing.assert_close(found.reconstruction_loss, stock.reconstruction_loss)


def test_a_sum_of_all_terms_is_corrected_by_the_difference(outputs: dict[str, Any]) -> None:
    module = Posterior(GaussianMixturePrior(4, P))
    library = torch.rand(N)
    found = corrected(module, stock_loss(standard_kl(outputs) + library), {}, outputs, {})
    kl = module.latent_prior.kl_divergence(outputs["qz"], outputs["z"])
    (total,) = found.kl_local.values()
    torch.testing.assert_close(total, kl + library)
    torch.testing.assert_close(found.loss, stock_loss(kl + library).loss)


def test_each_cell_has_its_own_weight(outputs: dict[str, Any]) -> None:
    weights = torch.rand(N)
    module = Posterior(GaussianMixturePrior(4, P), weights)
    stock = stock_loss(standard_kl(outputs))
    found = corrected(module, stock, {}, outputs, {"kl_weight": 0.5})
    difference = module.latent_prior.kl_divergence(outputs["qz"], outputs["z"]) - standard_kl(outputs)
    torch.testing.assert_close(found.loss, stock.loss + (0.5 * weights * difference).mean())


def test_several_samples_are_averaged(outputs: dict[str, Any]) -> None:
    module = Posterior(GaussianMixturePrior(4, P))
    outputs["z"] = outputs["qz"].rsample((5,))
    found = corrected(module, stock_loss({"kl_divergence_z": standard_kl(outputs)}), {}, outputs, {})
    each = [module.latent_prior.kl_divergence(outputs["qz"], z) for z in outputs["z"]]
    torch.testing.assert_close(found.kl_local["kl_divergence_z"], torch.stack(each).mean(0))


@pytest.mark.parametrize("state", [PriorState.WARMING_UP, None])
def test_the_loss_is_the_modules_own_in_the_warm_up_and_under_the_standard_normal(
    outputs: dict[str, Any], state: PriorState | None
) -> None:
    prior = StandardNormalPrior(P) if state is None else GaussianMixturePrior(4, P)
    prior.state = PriorState.FITTED if state is None else state
    stock = stock_loss(standard_kl(outputs))
    assert corrected(Posterior(prior), stock, {}, outputs, {}) is stock


def test_the_gradient_is_that_of_the_prior_alone(outputs: dict[str, Any]) -> None:
    """The two terms under N(0, I) cancel, in the gradient as well."""
    loc, scale = torch.randn(N, P, requires_grad=True), torch.full((N, P), 0.5, requires_grad=True)
    noise, prior = torch.randn(N, P), GaussianMixturePrior(4, P)
    qz = Normal(loc, scale)
    outputs = {"qz": qz, "z": loc + scale * noise}
    found = corrected(Posterior(prior), stock_loss(standard_kl(outputs)), {}, outputs, {}).loss
    expected = prior.kl_divergence(qz, outputs["z"]).mean()
    for ours, theirs in zip(
        torch.autograd.grad(found, (loc, scale), retain_graph=True),
        torch.autograd.grad(expected, (loc, scale)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior"])
def test_the_loss_of_a_module_is_reconstruction_and_divergence_from_its_prior(
    make_model: Callable[..., SCVI_VMM], minibatch: Any, prior: str
) -> None:
    model = make_model(prior=prior)
    module = model.module.eval()
    outputs, _, loss = module(minibatch(model), loss_kwargs={"kl_weight": 0.4})
    kl = module.latent_prior.kl_divergence(outputs["qz"], outputs["z"], module.centers())
    reconstruction = loss.reconstruction_loss["reconstruction_loss"]
    torch.testing.assert_close(loss.kl_local["kl_divergence_z"], kl)
    torch.testing.assert_close(loss.loss, (reconstruction + 0.4 * kl).mean(), rtol=1e-4, atol=1e-3)


def test_the_signature_stays_that_of_the_module() -> None:
    import inspect

    assert inspect.signature(with_prior(VAE.loss)) == inspect.signature(VAE.loss)


# -- posteriors in all their forms ---------------------------------------------------------------------------

MEAN = torch.randn(N, P, generator=torch.Generator().manual_seed(0))
VARIANCE = torch.rand(N, P, generator=torch.Generator().manual_seed(1)) + 0.1
NORMAL = Normal(MEAN, VARIANCE.sqrt())


@pytest.mark.parametrize(
    "outputs",
    [
        NORMAL,
        {"qz": NORMAL, "z": MEAN},
        {"qz_m": MEAN, "qz_v": VARIANCE},
        {"qzm": MEAN, "qzv": VARIANCE},
        (NORMAL, MEAN),
        (MEAN, VARIANCE, MEAN),
        [MEAN, VARIANCE],
    ],
    ids=["distribution", "qz", "qz_m", "qzm", "tuple of a distribution", "tuple of moments", "list"],
)
def test_posteriors_are_read_from_every_form(outputs: Any) -> None:
    found = as_posterior(outputs)
    torch.testing.assert_close(found.mean, MEAN)
    torch.testing.assert_close(found.variance, VARIANCE)


def test_full_covariances_are_kept() -> None:
    full = MultivariateNormal(MEAN, torch.eye(P))
    assert as_posterior({"qz": full}) is full


@pytest.mark.parametrize(
    "outputs",
    [{"z": MEAN}, (), (MEAN,), None, {"qz": None}],
    ids=["no posterior", "empty", "one tensor", "None", "a posterior that is None"],
)
def test_outputs_without_a_posterior_are_refused(outputs: Any) -> None:
    with pytest.raises(ValueError, match="No posterior of `z`"):
        as_posterior(outputs)


# -- the module ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
@pytest.mark.parametrize("n_components", [3, 11])
def test_prior_and_pseudo_inputs_become_as_many_as_those_that_are_loaded(
    make_model: Callable[..., SCVI_VMM], prior: str, n_components: int
) -> None:
    module = make_model(prior=prior).module.eval()
    other = make_model(prior=prior, n_components=n_components).module.eval()
    other.cache_centers()
    module.load_state_dict(other.state_dict())
    z = torch.randn(5, 4)
    assert module.latent_prior.n_components == n_components
    assert torch.equal(module.latent_prior.log_prob(z), other.latent_prior.log_prob(z))
    assert torch.equal(module.latent_prior.log_hyperprior(), other.latent_prior.log_hyperprior())
    if prior == "vmm":
        assert torch.equal(module.encode_pseudo_inputs().loc, other.encode_pseudo_inputs().loc)


@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior"])
def test_weights_of_other_genes_or_another_dimension_are_refused(
    make_model: Callable[..., SCVI_VMM], adata: Any, prior: str
) -> None:
    module = make_model(prior=prior).module
    for other in (make_model(adata[:, :50].copy(), prior=prior), make_model(prior=prior, n_latent=5)):
        with pytest.raises(RuntimeError, match="size mismatch"):
            module.load_state_dict(other.module.state_dict())


def test_inputs_are_caught_without_a_trace(make_model: Callable[..., SCVI_VMM], minibatch: Any) -> None:
    model = make_model()
    module, tensors = model.module.train(), minibatch(model)
    before = {name: value.clone() for name, value in module.named_buffers()}
    posterior, inputs = module.capture_inputs(tensors)
    torch.testing.assert_close(inputs["z_encoder"].values, torch.log1p(tensors["X"]))
    assert posterior.mean.shape == (32, 4) and not posterior.mean.requires_grad
    for name, value in module.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert not module.z_encoder._forward_pre_hooks and all(m.training for m in module.modules())


def test_hooks_are_removed_after_an_error(make_model: Callable[..., SCVI_VMM], minibatch: Any) -> None:
    model = make_model()
    handle = model.module.z_encoder.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.module.capture_inputs(minibatch(model))
    handle.remove()
    assert not model.module.z_encoder._forward_pre_hooks


def test_a_module_without_an_encoder_is_named() -> None:
    with pytest.raises(ValueError, match="Posterior has neither `z_encoder` nor `encoder`"):
        Posterior(VampPrior(2, P)).latent_encoders()


@pytest.mark.parametrize("training", [True, False])
def test_a_loss_that_asks_for_the_divergence_is_given_that_with_the_labels_of_training_cells(
    outputs: dict[str, Any], training: bool
) -> None:
    def loss(self: Any, tensors: Any, inference_outputs: Any, generative_outputs: Any) -> LossOutput:
        asked = kl_divergence(inference_outputs["qz"], generative_outputs["pz"]).sum(-1)
        return stock_loss({"kl_divergence_z": asked})

    module: Any = Asking(GaussianMixturePrior(4, P), training)
    with torch.no_grad():
        module.latent_prior.pi_logits.normal_()
    module.latent_prior.labels = ComponentLabels(torch.tensor([0, 1, 1, 2]), 0.1)
    tensors = {"labels": torch.tensor([0, 1, 2, 1, 0, 2]).unsqueeze(1)}
    found = with_prior(loss)(module, tensors, outputs, {"pz": Normal(torch.zeros(N, P), torch.ones(N, P))})
    known = (module.label_log_likelihood(tensors),) if training else ()
    expected = module.latent_prior.kl_divergence(outputs["qz"], outputs["z"], None, *known)
    torch.testing.assert_close(found.kl_local["kl_divergence_z"], expected)
    torch.testing.assert_close(found.loss, stock_loss({"kl_divergence_z": expected}).loss)
    stock = stock_loss({"kl_divergence_z": standard_kl(outputs)})
    torch.testing.assert_close(found.loss, corrected(module, stock, tensors, outputs, {}).loss)


def test_samples_that_overflow_have_no_weight_and_cells_without_others_no_likelihood() -> None:
    nan = float("nan")
    weights = torch.tensor([[0.5, nan, nan], [1.5, 2.0, nan]])
    found = log_mean_weight(weights.log())
    torch.testing.assert_close(found[:2], torch.tensor([1.0, 1.0]).log())
    assert found[2].isnan()
