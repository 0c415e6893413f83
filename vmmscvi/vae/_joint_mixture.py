"""The prior of VaDE: a mixture of Gaussians fitted with the ELBO, jointly with the networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from vmmscvi.priors import Centers, MixturePrior, entropy
from vmmscvi.priors import functional as F
from vmmscvi.priors._base import in_full_precision
from vmmscvi.priors._mixture import ComponentDensity
from vmmscvi.priors._parameters import PrecisionCholesky


class JointGaussianMixture(MixturePrior):
    r"""A mixture of ``K`` Gaussians without hyper-priors, fitted by the gradient of the ELBO.

    The rate is that of Jiang et al. (2017), with the assignment as a second latent variable:
    :math:`KL(q(z|x) q(c|x) \| p(z|c) p(c))`, where :math:`q(c|x) = p(c|z)` by Bayes' rule at the decoded
    sample. Expectations under :math:`q(z|x)` are exact.

    Parameters
    ----------
    n_components
        Number ``K`` of components.
    n_latent
        Dimension ``p`` of the latent space.
    """

    def __init__(self, n_components: int, n_latent: int) -> None:
        super().__init__(n_components, n_latent)
        self.pi_logits = nn.Parameter(torch.zeros(n_components))
        self.loc = nn.Parameter(torch.randn(n_components, n_latent))
        self.precision_cholesky = PrecisionCholesky(n_components, n_latent)

    @torch.no_grad()
    def assign_parameters(self, weights: Tensor, loc: Tensor, precision_cholesky: Tensor) -> None:
        """Set the parameters of the mixture.

        Parameters
        ----------
        weights
            Mixing weights, shape ``(K,)``.
        loc
            Means, shape ``(K, p)``.
        precision_cholesky
            Cholesky factors of the precisions, shape ``(K, p, p)``.
        """
        self.pi_logits.copy_(weights.log())
        self.loc.copy_(loc)
        self.precision_cholesky.assign(precision_cholesky)

    @in_full_precision
    def component_log_prob(
        self, z: Tensor, centers: Centers | None = None, density: ComponentDensity = "predictive"
    ) -> Tensor:
        """Log-density of every component at ``z``; the same for both densities, as the centres are points."""
        return F.expected_component_log_prob(z, self.loc, None, self.precision_cholesky())

    @in_full_precision
    def component_distribution(self, centers: Centers | None = None) -> MultivariateNormal:
        """Return the components, a batch of ``K`` Gaussians."""
        return MultivariateNormal(self.loc, torch.cholesky_inverse(self.precision_cholesky()))

    @in_full_precision
    def kl_divergence(self, qz: Distribution, z: Tensor, centers: Centers | None = None) -> Tensor:
        r"""Compute the rate of every observation with its assignment; at least the rate without it.

        :math:`-H(q(z|x)) - \sum_c \gamma_c (E_q \log N(z; \mu_c, \Sigma_c) + \log \pi_c - \log \gamma_c)`.

        Parameters
        ----------
        qz
            Approximate posteriors of ``n`` observations.
        z
            A sample of each, shape ``(n, p)``.
        centers
            Not used.

        Returns
        -------
        Tensor
            Divergences of shape ``(n,)``.
        """
        log_gamma = torch.log_softmax(
            F.component_log_joint(self.component_log_prob(z), self.pi_logits), dim=-1
        )
        gamma = log_gamma.exp()
        # 0 log 0 is zero, and so is its gradient
        log_gamma = log_gamma.masked_fill(gamma == 0, 0.0)
        log_joint = self.expected_log_prob(qz) + torch.log_softmax(self.pi_logits, dim=-1)
        return -entropy(qz) - (gamma * (log_joint - log_gamma)).sum(-1)

    def expected_log_prob(self, qz: Distribution) -> Tensor:
        r"""Compute the negative cross-entropies :math:`E_{q(z|x)} \log N(z; \mu_c, \Sigma_c)`.

        Parameters
        ----------
        qz
            Approximate posteriors of ``n`` observations.

        Returns
        -------
        Tensor
            Values of shape ``(n, K)``, in nats.
        """
        cholesky = self.precision_cholesky()
        at_mean = F.expected_component_log_prob(qz.mean, self.loc, None, cholesky)
        if isinstance(qz, MultivariateNormal):
            precision, covariance = cholesky @ cholesky.mT, qz.scale_tril @ qz.scale_tril.mT
            trace = covariance.flatten(1) @ precision.flatten(1).mT
        else:
            trace = qz.variance @ cholesky.square().sum(-1).mT
        log_prob: Tensor = at_mean - 0.5 * trace
        return log_prob
