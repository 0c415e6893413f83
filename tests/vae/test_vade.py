"""VaDE's rate, by enumeration and Monte Carlo, and its three stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from scipy.stats import multivariate_normal
from sklearn.metrics import normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from torch.distributions import MultivariateNormal, Normal

from vmmscvi.vae import JointGaussianMixture

N_LATENT, K, N_OBS = 2, 3, 4


def mixture() -> JointGaussianMixture:
    generator = torch.Generator().manual_seed(0)
    prior = JointGaussianMixture(K, N_LATENT)
    factors = torch.randn(K, N_LATENT, 5, generator=generator)
    prior.assign_parameters(
        torch.tensor([0.5, 0.3, 0.2]),
        1.5 * torch.randn(K, N_LATENT, generator=generator),
        torch.linalg.cholesky(factors @ factors.mT / 2),
    )
    return prior


def posteriors(covariance: str) -> MultivariateNormal | Normal:
    generator = torch.Generator().manual_seed(1)
    loc = torch.randn(N_OBS, N_LATENT, generator=generator)
    if covariance == "diagonal":
        return Normal(loc, 0.2 + torch.rand(N_OBS, N_LATENT, generator=generator))
    factors = torch.randn(N_OBS, N_LATENT, 4, generator=generator)
    return MultivariateNormal(loc, factors @ factors.mT / 8)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@torch.no_grad()
def test_the_rate_is_the_divergence_of_position_and_assignment(covariance: str) -> None:
    prior, qz = mixture(), posteriors(covariance)
    z = qz.sample()
    components = MultivariateNormal(prior.loc, precision_matrix=_precision(prior))
    log_joint = components.log_prob(z.unsqueeze(1)) + prior.weights.log()
    gamma = torch.softmax(log_joint, dim=-1)  # Bayes' rule
    draws = qz.sample(torch.Size([200_000]))
    log_q = qz.log_prob(draws) if covariance == "full" else qz.log_prob(draws).sum(-1)
    log_p = components.log_prob(draws.unsqueeze(-2)) + prior.weights.log()
    # all assignments enumerated, positions by Monte Carlo
    expected = ((log_q.unsqueeze(-1) + gamma.log() - log_p) * gamma).sum(-1).mean(0)
    torch.testing.assert_close(prior.kl_divergence(qz, z), expected, rtol=0.01, atol=0.01)


@torch.no_grad()
def test_on_average_the_rate_is_not_less_than_that_of_the_mixture() -> None:
    prior, qz = mixture(), posteriors("full")
    draws = qz.sample(torch.Size([2000]))
    rates = torch.stack([prior.kl_divergence(qz, z) for z in draws]).mean(0)
    exact = (qz.log_prob(draws) - prior.log_prob(draws)).mean(0)
    assert (rates >= exact - 0.05).all()


def test_the_gradient_is_finite_where_assignments_are_certain() -> None:
    prior = JointGaussianMixture(2, 1)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([[-50.0], [50.0]]))
    loc = torch.tensor([[50.0]], requires_grad=True)
    rate = prior.kl_divergence(Normal(loc, 0.1), loc)
    rate.sum().backward()
    assert torch.isfinite(loc.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in prior.parameters())


@torch.no_grad()
def test_density_and_responsibilities_are_scikit_learns() -> None:
    prior = mixture()
    reference = GaussianMixture(K)
    reference.weights_, reference.means_ = prior.weights.numpy(), prior.loc.numpy()
    reference.precisions_cholesky_ = prior.precision_cholesky().numpy()
    z = torch.randn(9, N_LATENT)
    np.testing.assert_allclose(prior.log_prob(z), reference.score_samples(z.numpy()), rtol=1e-4)
    np.testing.assert_allclose(prior.responsibilities(z), reference.predict_proba(z.numpy()), atol=1e-5)
    gaussians = prior.component_distribution()
    expected = multivariate_normal(gaussians.loc[1], torch.linalg.inv(_precision(prior))[1]).logpdf(z)
    np.testing.assert_allclose(gaussians.log_prob(z.unsqueeze(1))[:, 1], expected, rtol=1e-4)


class Stages(Callback):
    """Whether the prior is left out, the weights and the rate, at the end of every epoch."""

    seen: list[tuple[bool, torch.Tensor, float]] = []  # noqa: RUF012  (callbacks are copied)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        module = pl_module.module
        rate = float(trainer.callback_metrics["kl_local_train"])
        self.seen.append((module.trains_autoencoder, module.latent_prior.loc.detach().clone(), rate))


def test_the_mixture_is_initialised_in_the_embedding_of_the_trained_autoencoder(make_vade, blobs) -> None:
    Stages.seen.clear()
    model = make_vade(n_pretrain_epochs=2, max_epochs=4, callbacks=[Stages()]).fit(blobs.x)
    left_out, locations, rates = zip(*Stages.seen, strict=True)
    assert left_out == (True, True, False, False)
    assert rates[:2] == (0.0, 0.0) and min(rates[2:]) > 0
    assert torch.equal(locations[0], locations[1]) and not torch.equal(locations[1], locations[2])
    assert not model.module_.trains_autoencoder


def test_blobs_are_found(make_vade, blobs) -> None:
    model = make_vade(n_pretrain_epochs=30, max_epochs=60, lr=5e-3)
    assert normalized_mutual_info_score(blobs.labels, model.fit_predict(blobs.x)) > 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_pretrain_epochs": 3}, "`n_pretrain_epochs` must be at least 0 and less than `max_epochs`"),
        ({"n_components": 1000}, "`n_components` must not exceed the number of training rows"),
    ],
)
def test_errors_name_unusable_input(make_vade, blobs, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_vade(**arguments).fit(blobs.x)


def _precision(prior: JointGaussianMixture) -> torch.Tensor:
    cholesky = prior.precision_cholesky()
    return cholesky @ cholesky.mT
