"""A mixture whose components may have labels: the joint density of positions and labels."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from vmmscvi.priors import functional as F
from vmmscvi.priors._base import Centers, entropy, in_full_precision
from vmmscvi.priors._component_labels import ComponentLabels
from vmmscvi.priors._mixture import MixturePrior


class LabelledMixturePrior(MixturePrior):
    """A mixture prior with labels, ``None`` unless the prior was initialised from labels.

    Parameters
    ----------
    n_components, n_latent
        See :class:`MixturePrior`.
    """

    labels: ComponentLabels | None

    def __init__(self, n_components: int, n_latent: int) -> None:
        super().__init__(n_components, n_latent)
        self.register_module("labels", None)

    def label_log_likelihood(self, codes: Tensor | None) -> Tensor | None:
        """Log-probability of cells' labels given each component, ``None`` if there are no labels.

        Parameters
        ----------
        codes
            Code of every cell's label, shape ``(n,)`` or ``(n, 1)``.

        Returns
        -------
        Tensor | None
            Log-likelihoods of shape ``(n, K)``.
        """
        return None if self.labels is None or codes is None else self.labels(codes)

    @in_full_precision
    def log_prob(
        self, z: Tensor, centers: Centers | None = None, label_log_likelihood: Tensor | None = None
    ) -> Tensor:
        r"""Log-density of the predictive mixture, of positions or of positions and labels.

        :math:`\log \sum_k \pi_k N(z; m_k, \Lambda_k^{-1} + S_k)\, p(y | k)`.

        Parameters
        ----------
        z
            Latent positions, shape ``(..., n, p)``.
        centers
            Distribution of the centres; the cached one by default.
        label_log_likelihood
            :math:`\log p(y | k)`, shape ``(n, K)``. Without it, the density of positions is returned.

        Returns
        -------
        Tensor
            Log-densities of shape ``(..., n)``.
        """
        if label_log_likelihood is None:
            return super().log_prob(z, centers)
        return F.mixture_log_prob(self.component_log_prob(z, centers) + label_log_likelihood, self.pi_logits)

    @in_full_precision
    def kl_divergence(
        self,
        qz: Distribution,
        z: Tensor,
        centers: Centers | None = None,
        label_log_likelihood: Tensor | None = None,
    ) -> Tensor:
        r"""Estimate the Kullback-Leibler divergence; see :meth:`vmmscvi.priors.Prior.kl_divergence`.

        Parameters
        ----------
        qz, z, centers
            As in :meth:`vmmscvi.priors.Prior.kl_divergence`.
        label_log_likelihood
            :math:`\log p(y | k)`, shape ``(n, K)``. If given, the prior's density is that of positions and
            labels.

        Returns
        -------
        Tensor
            Divergences of shape ``(n,)`` or ``(n_samples, n)``, in nats.
        """
        return -entropy(qz) - self.log_prob(z, centers, label_log_likelihood)
