"""The base class of Bayesian Gaussian mixtures: parameters, initialisation and densities."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Self, get_args

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vmmscvi.priors import functional as F
from vmmscvi.priors._base import Centers, in_full_precision
from vmmscvi.priors._component_labels import ComponentLabels
from vmmscvi.priors._empirical_bayes import EmpiricalBayesMixin, Inference
from vmmscvi.priors._found_mixture import CoarsenedMixture
from vmmscvi.priors._labelled_mixture import LabelledMixturePrior
from vmmscvi.priors._mixture import ComponentDensity
from vmmscvi.priors._mixture_density import predictive_log_prob
from vmmscvi.priors._parameters import PositiveScalar, PrecisionCholesky
from vmmscvi.priors._state import PriorState
from vmmscvi.priors._wishart import WishartScale, wishart_scale_factor


class BayesianMixturePrior(EmpiricalBayesMixin, LabelledMixturePrior):
    r"""A mixture of Gaussians with full precisions and the hyper-priors of the paper.

    :math:`\alpha \sim InverseGamma(1, 1)`, :math:`\pi|\alpha \sim Dirichlet(\alpha/K, \ldots)`,
    :math:`\mu_j \sim N(0, I)`, :math:`\Lambda_j \sim Wishart(p + 2, c I)`.

    Parameters
    ----------
    n_components
        Number ``K`` of components, an upper bound: superfluous components lose their weight.
    n_latent
        Dimension ``p`` of the latent space.
    inference
        ``"MAP-DP"`` uses all hyper-priors and learns the concentration; ``"MAP"`` fixes it at one; ``"MLE"``
        drops the hyper-priors.
    responsibilities_in_gradient
        Whether the empirical-Bayes objective is differentiated through the responsibilities. Textbook EM
        holds them constant. In the gradient they add a penalty on the entropy of the assignments, which
        removes overlapping components. The default (``None``) is yes, except after :meth:`initialised_from`:
        the number of clusters is then determined, and the penalty would merge clusters with wide posteriors.
    wishart_scale
        Scale ``c`` of the Wishart: ``"half"``, ``"paper"``, ``"reference"`` or a positive number; see
        :func:`wishart_scale_factor`. With ``"learned"``, :meth:`initialised_from` replaces ``c I`` (until
        then that of ``"half"``) by the inverse of the average covariance of the clusters in the embedding,
        the mode of the prior. The degrees of freedom remain the paper's ``p + 2``: more of them would make
        small components as wide as the others, and they would die.
    """

    fitted_by_empirical_bayes = True

    def __init__(
        self,
        n_components: int,
        n_latent: int,
        inference: Inference = "MAP-DP",
        responsibilities_in_gradient: bool | None = None,
        wishart_scale: WishartScale = "paper",
    ) -> None:
        super().__init__(n_components, n_latent)
        if inference not in get_args(Inference):
            raise ValueError(f"`inference` must be one of {get_args(Inference)}, found {inference!r}.")
        self.inference = inference
        self.responsibilities_in_gradient = responsibilities_in_gradient
        self.wishart_scale = wishart_scale
        self.n_effective: float | None = None
        """Effective sample size; ``None`` if the components were initialised from random cells."""
        self.wishart_scatter_root: Tensor
        self.register_buffer("wishart_scatter_root", self._round_scatter_root(n_components, n_latent))
        self.pi_logits = nn.Parameter(torch.zeros(n_components))
        self.precision_cholesky = PrecisionCholesky(n_components, n_latent)
        self.inverse_alpha = PositiveScalar(1.0)
        self._hold_concentration()
        self._make_room_for_centers()

    def unfreeze(self) -> None:
        """Make the prior trainable again; its concentration only with ``inference="MAP-DP"``."""
        super().unfreeze()
        self._hold_concentration()

    def _hold_concentration(self) -> None:
        if self.inference != "MAP-DP":
            self.inverse_alpha.requires_grad_(False)

    @abstractmethod
    def _make_room_for_centers(self) -> None:
        """Register parameters or buffers for the centres; the last step of the constructor."""

    def with_components(self, n_components: int) -> Self:
        """Make an unfitted prior with the same hyper-priors; see :meth:`MixturePrior.with_components`."""
        with torch.random.fork_rng(devices=[]):  # the constructor draws centres that callers overwrite
            return type(self)(
                n_components,
                self.n_latent,
                self.inference,
                self.responsibilities_in_gradient,
                self.wishart_scale,
            )

    @torch.no_grad()
    def initialised_from(
        self, mixture: CoarsenedMixture, n_effective: float, latent_variance: Tensor
    ) -> Self:
        """Make a fitted prior from the components found in an embedding.

        Its precisions maximise the empirical-Bayes objective for the mixture's assignments.

        Parameters
        ----------
        mixture
            Result of :func:`vmmscvi.priors.fit_coarsened_mixture` for posterior means.
        n_effective
            Effective sample size.
        latent_variance
            Variance of the posteriors, averaged over each component's cells, shape ``(K, p)``. The objective
            includes it.

        Returns
        -------
        Self
            The fitted prior.
        """
        prior = self.with_components(len(mixture.weights))
        variance = torch.diag_embed(latent_variance.to(mixture.covariance))
        if prior.wishart_scale == "learned":
            within = mixture.covariance_within + torch.einsum("k,kij->ij", mixture.weights, variance)
            prior.wishart_scatter_root.copy_(torch.linalg.cholesky(within))
        root = prior.wishart_scatter_root.to(variance)
        covariance = mixture.most_probable_covariance(root, n_effective, variance)
        prior.pi_logits.copy_(mixture.weights.log())
        precision = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        prior.precision_cholesky.assign(torch.linalg.cholesky(precision))
        prior.inverse_alpha.load_state_dict(self.inverse_alpha.state_dict())
        prior.state = PriorState.FITTED
        prior.n_effective = n_effective
        if mixture.component_labels is not None:
            prior.labels = ComponentLabels(mixture.component_labels, mixture.label_noise or 0.0)
        return prior

    def get_extra_state(self) -> Tensor:
        """Return state of the fit, effective sample size (zero for ``None``) and labels, for saving."""
        n_effective = torch.tensor([self.n_effective or 0.0], dtype=torch.float64)
        # same length with or without labels: scvi-tools pads a query's tensors to the reference's lengths
        labels = ComponentLabels.no_state(self.n_components) if self.labels is None else self.labels.state()
        return torch.cat((super().get_extra_state(), n_effective, labels))

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the state returned by :meth:`get_extra_state`; older states have no labels."""
        super().set_extra_state(state)
        self.n_effective = float(state[1]) or None
        labels = ComponentLabels.from_state(state[2:])
        self.labels = None if labels is None else labels.to(self.pi_logits.device)

    def _round_scatter_root(self, n_components: int, n_latent: int) -> Tensor:
        """Return the root of the inverse of ``c I``, the Wishart's scale matrix."""
        scale_factor = wishart_scale_factor(self.wishart_scale, n_components, n_latent)
        return torch.eye(n_latent) / math.sqrt(scale_factor)

    @property
    def alpha(self) -> Tensor:
        """Concentration of the Dirichlet, a scalar; large values favour many components."""
        inverse_alpha: Tensor = self.inverse_alpha()
        return inverse_alpha.reciprocal()

    def _centers(self, centers: Centers | None) -> Centers:
        return self._cached_centers() if centers is None else centers

    @in_full_precision
    def component_log_prob(
        self, z: Tensor, centers: Centers | None = None, density: ComponentDensity = "predictive"
    ) -> Tensor:
        """Log-density of every component at ``z``; see :meth:`MixturePrior.component_log_prob`."""
        densities = {
            "predictive": F.predictive_component_log_prob,
            "expected": F.expected_component_log_prob,
        }
        if density not in densities:
            raise ValueError(f"`density` must be one of {tuple(densities)}, found {density!r}.")
        return densities[density](z, *self._centers(centers), self.precision_cholesky())

    @in_full_precision
    def log_prob(
        self, z: Tensor, centers: Centers | None = None, label_log_likelihood: Tensor | None = None
    ) -> Tensor:
        """Log-density of the predictive mixture; see :meth:`LabelledMixturePrior.log_prob`."""
        trained = (*self.precision_cholesky.parameters(), self.pi_logits)
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in trained):
            return super().log_prob(z, centers, label_log_likelihood)
        parameters = (*self._centers(centers), self.precision_cholesky(), self.pi_logits)
        return predictive_log_prob(z, *parameters, label_log_likelihood)

    @in_full_precision
    def component_distribution(self, centers: Centers | None = None) -> MultivariateNormal:
        r"""Return the components :math:`N(m_j, \Lambda_j^{-1} + S_j)`, a batch of ``K`` Gaussians."""
        loc, scale = self._centers(centers)
        covariance = torch.cholesky_inverse(self.precision_cholesky())
        if scale is not None:
            covariance = covariance + (
                torch.diag_embed(scale.square()) if scale.dim() == loc.dim() else scale @ scale.mT
            )
        return MultivariateNormal(loc, covariance)
