"""The empirical-Bayes objective of a Bayesian mixture: the paper's M-step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from vmmscvi.priors import hyperpriors
from vmmscvi.priors._base import Centers, in_full_precision
from vmmscvi.priors._closed_form import EmpiricalBayesLoss, EmpiricalBayesObjective, Hyperpriors
from vmmscvi.priors._parameters import PositiveScalar, PrecisionCholesky

Inference = Literal["MAP-DP", "MAP", "MLE"]


class EmpiricalBayesMixin:
    """Hyper-priors and objective of a :class:`BayesianMixturePrior`, evaluated on minibatches."""

    inference: Inference
    responsibilities_in_gradient: bool | None
    n_effective: float | None
    pi_logits: Tensor
    precision_cholesky: PrecisionCholesky
    inverse_alpha: PositiveScalar
    wishart_scatter_root: Tensor
    _largest_minibatch: int = 0

    if TYPE_CHECKING:

        def _centers(self, centers: Centers | None) -> Centers: ...

    def default_hyperprior_n_obs(self, minibatch_size: int) -> float:
        """Return the default number of cells that oppose the hyper-priors.

        This is the effective sample size of :meth:`initialised_from`, or else the size of a full minibatch,
        as in the paper. A minibatch gives the hyper-priors N/M times the weight of a fit to all data. A
        smaller last minibatch of an epoch is treated as full; a remainder of a few cells would otherwise
        give them a hundred times the weight.

        Parameters
        ----------
        minibatch_size
            Number of cells in this minibatch, of all processes together.

        Returns
        -------
        float
            Number of cells.
        """
        if self.n_effective is not None:
            return self.n_effective
        self._largest_minibatch = max(self._largest_minibatch, minibatch_size)
        return self._largest_minibatch

    @in_full_precision
    def log_hyperprior(self, centers: Centers | None = None) -> Tensor:
        """Log-density of the hyper-priors at the current parameters.

        Parameters
        ----------
        centers
            Distribution of the centres; the cached one by default.

        Returns
        -------
        Tensor
            A scalar; zero for ``inference="MLE"``.
        """
        if self.inference == "MLE":
            return self.pi_logits.new_zeros(())
        return hyperpriors.log_hyperprior(
            *self._centers(centers),
            self.precision_cholesky(),
            self.pi_logits,
            self.inverse_alpha(),
            self.wishart_scatter_root,
            self.inference == "MAP-DP",
        )

    @in_full_precision
    def empirical_bayes_loss(
        self,
        z: Tensor,
        centers: Centers | None = None,
        hyperprior_n_obs: float | None = None,
        label_log_likelihood: Tensor | None = None,
        assign_at: Tensor | None = None,
    ) -> EmpiricalBayesLoss:
        r"""Evaluate the objective of the empirical-Bayes step, to be minimised (the paper's M-step).

        :math:`-\frac1M [\sum_{ij} r_{ij} (l_{ij} + \log \pi_j)] - \frac1n \log p(\alpha, \pi, \mu, \Lambda)`.

        Parameters
        ----------
        z
            Latent positions of a minibatch, shape ``(M, p)``: samples of the posteriors, which are detached.
        centers
            Distribution of the centres, with a gradient to the pseudo-inputs; the cached one by default.
        hyperprior_n_obs
            Number ``n > 0`` of cells that oppose the hyper-priors; by default the result of
            :meth:`default_hyperprior_n_obs` for ``M`` cells.
        label_log_likelihood
            Result of :meth:`label_log_likelihood` for the cells of the minibatch; a part of :math:`l_{ij}`.
        assign_at
            Further positions to assign to components, shape ``(n, p)``; labels are not used for them.

        Returns
        -------
        EmpiricalBayesLoss
            The objective, its two parts, and the assignments of ``assign_at``.
        """
        n_obs = self.default_hyperprior_n_obs(z.shape[0]) if hyperprior_n_obs is None else hyperprior_n_obs
        if not n_obs > 0:
            raise ValueError(f"`hyperprior_n_obs` must be a positive number, found {hyperprior_n_obs}.")
        weighed = Hyperpriors(n_obs, self.wishart_scatter_root, self.inference == "MAP-DP")
        return EmpiricalBayesLoss(*EmpiricalBayesObjective.apply(
            z.detach(),
            *self._centers(centers),
            self.precision_cholesky(),
            self.pi_logits,
            self.inverse_alpha(),
            None if self.inference == "MLE" else weighed,
            self._differentiates_responsibilities,
            label_log_likelihood,
            None if assign_at is None else assign_at.detach().to(z.dtype),
        ))  # type: ignore[no-untyped-call]  # fmt: skip

    @property
    def is_initialised_with_clusters(self) -> bool:
        """Whether the prior was initialised with clusters, by :meth:`initialised_from`."""
        return self.n_effective is not None

    @property
    def _differentiates_responsibilities(self) -> bool:
        if self.responsibilities_in_gradient is None:
            return not self.is_initialised_with_clusters
        return self.responsibilities_in_gradient
