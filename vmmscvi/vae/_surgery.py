r"""ELBO surgery: decomposition of the ELBO of a fitted model.

Follows Hoffman & Johnson (2016), as in Table 1 of Stirn & Knowles (arXiv 2402.04412). With
:math:`q(z) = \frac1N \sum_n q(z|x_n)`, the rate is the sum of the marginal divergence and the mutual
information between a latent position and the index of its observation,

.. math::
    \frac1N \sum_n KL(q(z|x_n) \| p(z)) = KL(q(z) \| p(z)) + I(z; n), \qquad 0 \le I(z; n) \le \log N.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vmmscvi.priors import entropy
from vmmscvi.priors import functional as F
from vmmscvi.vae._checks import require_integer
from vmmscvi.vae._data import in_chunks
from vmmscvi.vae._estimator import ArrayEstimator
from vmmscvi.vae._fitted import LARGEST_SEED
from vmmscvi.vae._module import ArrayVAE, posterior_sample

ROWS_AT_A_TIME = 256
VALUES_AT_A_TIME = 20_000_000
"""Number of whitened distances held in memory (80 MB)."""


class ElboSurgery(NamedTuple):
    r"""Parts of the ELBO: means over observations, in nats.

    Attributes
    ----------
    log_p_x_given_x
        :math:`\log E_{q(z|x)} p(x|z)`, the density of an observation given its own posterior.
    log_p_x
        :math:`\log p(x)`, by importance sampling with the posterior as the proposal.
    reconstruction
        :math:`E_{q(z|x)} \log p(x|z)`, minus the distortion.
    rate
        :math:`KL(q(z|x) \| p(z))`.
    marginal_kl
        :math:`KL(q(z) \| p(z))`.
    mutual_information
        :math:`I(z; n)`, at most the logarithm of the number of observations.
    """

    log_p_x_given_x: float
    log_p_x: float
    reconstruction: float
    rate: float
    marginal_kl: float
    mutual_information: float

    @property
    def elbo(self) -> float:
        """Reconstruction minus rate."""
        return self.reconstruction - self.rate


def elbo_surgery(
    model: ArrayEstimator,
    X: ArrayLike,
    n_samples: int = 100,
    n_rate_samples: int = 1,
    random_state: int | np.random.RandomState | None = 0,
) -> ElboSurgery:
    """Decompose the ELBO of a fitted model.

    Parameters
    ----------
    model
        A fitted :class:`vmmscvi.vae.VAE` or :class:`vmmscvi.vae.VaDE`.
    X
        Held-out observations, shape ``(n, n_features)``.
    n_samples
        Samples of each posterior for the likelihoods.
    n_rate_samples
        Samples of each posterior for rate, marginal divergence and mutual information. These need the density
        of every sample under every posterior, so time grows with ``n**2``.
    random_state
        Seed of the samples.

    Returns
    -------
    ElboSurgery
        The parts of the ELBO, in nats.

    Raises
    ------
    ValueError
        If the model has not been fitted, ``X`` does not fit it, or a number of samples is not positive.
    """
    check_is_fitted(model)
    require_integer("n_samples", n_samples)
    require_integer("n_rate_samples", n_rate_samples)
    x = model._checked(X)
    seed = int(check_random_state(random_state).randint(LARGEST_SEED))
    return surgery_of_module(model.module_, x, n_samples, n_rate_samples, seed)


@torch.no_grad()
def surgery_of_module(
    module: ArrayVAE, x: Tensor, n_samples: int, n_rate_samples: int, seed: int
) -> ElboSurgery:
    """Decompose the ELBO of a module; see :func:`elbo_surgery`.

    Parameters
    ----------
    module
        A trained module in evaluation mode with cached centres, on any device.
    x
        Observations, shape ``(n, n_features)``, on the same device.
    n_samples, n_rate_samples
        As in :func:`elbo_surgery`.
    seed
        Seed of the samples.

    Returns
    -------
    ElboSurgery
        The parts of the ELBO, in nats.
    """
    generator = torch.Generator(device=x.device).manual_seed(seed)
    p = module.latent_prior.n_latent

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, p, generator=generator, device=x.device)

    parts = [
        module.log_likelihoods(rows, noise(n_samples, len(rows))) for rows in in_chunks(x, ROWS_AT_A_TIME)
    ]
    log_p_x, log_p_x_given_x, reconstruction = (torch.cat(part).mean() for part in zip(*parts, strict=True))
    qz = module.encode(x)
    log_posterior, log_marginal, log_prior = [], [], []
    for _ in range(n_rate_samples):
        z = posterior_sample(qz, noise(len(x)))
        log_posterior.append(-entropy(qz).mean())  # the exact expectation under q(z|x)
        log_marginal.append(aggregate_log_prob(z, qz).mean())
        log_prior.append(module.latent_prior.log_prob(z).mean())
    posterior, marginal, prior = (float(sum(t) / len(t)) for t in (log_posterior, log_marginal, log_prior))
    return ElboSurgery(
        log_p_x_given_x=float(log_p_x_given_x),
        log_p_x=float(log_p_x),
        reconstruction=float(reconstruction),
        rate=posterior - prior,
        marginal_kl=marginal - prior,
        mutual_information=posterior - marginal,
    )


def aggregate_log_prob(z: Tensor, qz: Distribution) -> Tensor:
    r"""Log-density of the aggregate posterior :math:`q(z) = \frac1N \sum_n q(z|x_n)`.

    Parameters
    ----------
    z
        Latent positions, shape ``(m, p)``.
    qz
        The ``N`` posteriors.

    Returns
    -------
    Tensor
        Log-densities of shape ``(m,)``.
    """
    loc = qz.mean
    scale = qz.scale_tril if isinstance(qz, MultivariateNormal) else qz.stddev
    n_posteriors, p = loc.shape
    n_rows = max(1, VALUES_AT_A_TIME // (p * min(n_posteriors, ROWS_AT_A_TIME)))
    log_density = []
    for rows in in_chunks(z, n_rows):
        parts = [
            torch.logsumexp(F.center_component_log_prob(rows, m, s), dim=-1)
            for m, s in zip(in_chunks(loc, ROWS_AT_A_TIME), in_chunks(scale, ROWS_AT_A_TIME), strict=True)
        ]
        log_density.append(torch.logsumexp(torch.stack(parts), dim=0))
    return torch.cat(log_density) - math.log(n_posteriors)
