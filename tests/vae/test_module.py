"""The module: one pass for rows and pseudo-inputs, the ELBO, and which step moves what."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from vmmscvi.module import InputValues
from vmmscvi.priors import StandardNormalPrior, VampPriorMixture
from vmmscvi.vae._likelihoods import LOG_SCALE_SPEED, BernoulliLikelihood, GaussianLikelihood
from vmmscvi.vae._module import ArrayVAE
from vmmscvi.vae._networks import GaussianHead, cnn_decoder, cnn_encoder, mlp_decoder, mlp_encoder

N_FEATURES = 5


def vmm_module(encoder: nn.Module | None = None) -> ArrayVAE:
    torch.manual_seed(0)
    module = ArrayVAE(
        encoder or mlp_encoder(N_FEATURES, (8,)),
        mlp_decoder(2, N_FEATURES, (8,)),
        VampPriorMixture(4, 2),
        GaussianLikelihood(0.7),
        N_FEATURES,
    )
    return filled(module, torch.randn(4, N_FEATURES))


def filled(module: ArrayVAE, rows: torch.Tensor) -> ArrayVAE:
    """Let pseudo-inputs start from rows, of which there may be another number."""
    module.install_empty_prior(len(rows))
    inputs = module.pseudo_inputs["z_encoder"].initialised_from(InputValues(rows), 0)
    module.install_prior(module.latent_prior, nn.ModuleDict({"z_encoder": inputs}))
    return module


def test_one_pass_gives_the_same_as_two_passes() -> None:
    module, x = vmm_module(), torch.randn(6, N_FEATURES)
    qz, centers = module._encode_with_centers(x)
    torch.testing.assert_close(qz.mean, module.encode(x).mean)
    torch.testing.assert_close(qz.scale_tril, module.encode(x).scale_tril)
    torch.testing.assert_close(centers.loc, module.centers().loc)
    torch.testing.assert_close(centers.scale, module.centers().scale)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(8)], ids=["dropout", "batch norm"])
def test_centres_are_encoded_in_evaluation_mode_where_rows_depend_on_the_mode(layer: nn.Module) -> None:
    module = vmm_module(nn.Sequential(nn.Linear(N_FEATURES, 8), layer))
    module.train()
    _, centers = module._encode_with_centers(torch.randn(6, N_FEATURES))
    expected = module.eval().encode(*module.pseudo_inputs["z_encoder"]())
    torch.testing.assert_close(centers.loc, expected.mean)


def test_the_loss_is_the_negative_elbo_of_the_sample() -> None:
    module, x = vmm_module(), torch.randn(6, N_FEATURES)
    torch.manual_seed(3)
    outputs, _, loss = module({"X": x})
    qz, z = outputs["qz"], outputs["z"]
    with torch.no_grad():
        decoded = module.decoder(z)
        log_likelihood = norm(decoded, 0.7).logpdf(x).sum(1)
        prior = module.latent_prior
        gaussians = prior.component_distribution(module.centers())
        densities = np.stack(
            [
                multivariate_normal(m, c).pdf(z)
                for m, c in zip(gaussians.loc, gaussians.covariance_matrix, strict=True)
            ]
        )
        log_prior = np.log(prior.weights.numpy() @ densities)
        entropy = [
            multivariate_normal(m, c).entropy() for m, c in zip(qz.loc, qz.covariance_matrix, strict=True)
        ]
    elbo = log_likelihood + log_prior + np.array(entropy)
    torch.testing.assert_close(loss.loss.detach().double(), torch.tensor(-elbo.mean()), rtol=1e-4, atol=1e-4)


def test_the_gradient_of_the_elbo_reaches_the_encoder_through_the_centres() -> None:
    module, x = vmm_module(), torch.randn(6, N_FEATURES)
    qz, centers = module._encode_with_centers(x)
    log_prob = module.latent_prior.log_prob(qz.mean.detach(), centers).sum()
    gradient = torch.autograd.grad(log_prob, next(module.z_encoder.parameters()))[0]
    assert gradient.abs().sum() > 0


def test_empirical_bayes_moves_prior_and_pseudo_inputs_alone() -> None:
    module, x = vmm_module(), torch.randn(6, N_FEATURES)
    loss, assigned = module.empirical_bayes_loss({"X": x})
    names = {id(p) for p in module.prior_parameters()}
    assert {n.split(".")[0] for n, p in module.named_parameters() if id(p) in names} == {
        "latent_prior",
        "pseudo_inputs",
    }
    gradients = torch.autograd.grad(loss.loss, module.prior_parameters(), allow_unused=False)
    assert all(g.abs().sum() > 0 for g in gradients)
    assert assigned.shape == (6,)


def test_full_covariances_agree_with_the_closed_divergence_from_n_0_i() -> None:
    prior = StandardNormalPrior(2)
    qz = MultivariateNormal(
        torch.randn(3, 2), scale_tril=torch.linalg.cholesky(torch.eye(2) * 0.3).expand(3, 2, 2)
    )
    expected = torch.distributions.kl_divergence(qz, MultivariateNormal(torch.zeros(2), torch.eye(2)))
    torch.testing.assert_close(prior.kl_divergence(qz, torch.full((3, 2), 9.0)), expected)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_scale_of_a_head_can_be_set(covariance) -> None:
    head = GaussianHead(4, 3, covariance)
    head.reset_scale(torch.tensor([0.1, 1.0, 3.0]))
    qz = head(torch.randn(5, 4))
    torch.testing.assert_close(qz.stddev, torch.tensor([0.1, 1.0, 3.0]).expand(5, 3), rtol=1e-3, atol=1e-4)
    assert isinstance(qz, MultivariateNormal if covariance == "full" else Normal)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 9, 7)])
def test_a_cnn_decodes_to_the_shape_it_encodes(shape) -> None:
    x = torch.randn(2, math.prod(shape))
    hidden = cnn_encoder(shape)(x)
    assert hidden.dim() == 2
    assert cnn_decoder(4, shape)(torch.randn(2, 4)).shape == x.shape


def test_likelihoods_are_scipys() -> None:
    x, decoded = torch.rand(4, 3), torch.randn(4, 3)
    gaussian = GaussianLikelihood(0.3)
    expected = torch.tensor(norm(decoded, 0.3).logpdf(x).sum(1)).float()
    torch.testing.assert_close(gaussian.log_prob(x, decoded).detach(), expected, rtol=1e-5, atol=1e-5)
    bits = (x > 0.5).float()
    expected = torch.distributions.Bernoulli(logits=decoded).log_prob(bits).sum(-1)
    torch.testing.assert_close(BernoulliLikelihood().log_prob(bits, decoded), expected)
    assert float(gaussian.sample(torch.zeros(20_000)).std().detach()) == pytest.approx(0.3, abs=0.01)


def test_the_noise_moves_faster_than_other_parameters() -> None:
    likelihood = GaussianLikelihood(1.0)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=1e-3)
    likelihood.log_prob(torch.zeros(1, 1), torch.zeros(1, 1)).sum().neg().backward()
    optimizer.step()
    assert float(likelihood.log_scale.detach()) == pytest.approx(-LOG_SCALE_SPEED * 1e-3, rel=1e-3)


def test_prior_and_pseudo_inputs_become_as_many_as_those_that_are_loaded() -> None:
    module, other = vmm_module(), filled(vmm_module(), torch.ones(7, N_FEATURES))
    module.load_state_dict(other.state_dict())
    assert module.latent_prior.n_components == 7
    torch.testing.assert_close(module.pseudo_inputs["z_encoder"]()[0], torch.ones(7, N_FEATURES))
    torch.testing.assert_close(module.centers().loc, other.centers().loc)
