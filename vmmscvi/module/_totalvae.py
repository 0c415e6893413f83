"""totalVI's module with an interchangeable prior."""

from __future__ import annotations

from typing import Any

import torch
from scvi.distributions import NegativeBinomial, NegativeBinomialMixture, ZeroInflatedNegativeBinomial
from scvi.module import TOTALVAE
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import linear, one_hot

from vmmscvi.module._latent_maps import LatentMapsMixin, with_latent_maps
from vmmscvi.module._prior_arguments import PriorArgumentsMixin
from vmmscvi.module._prior_loss import log_prior_ratio, marginal_log_likelihood, with_prior


class TOTALVMMVAE(LatentMapsMixin, PriorArgumentsMixin, TOTALVAE):
    """:class:`scvi.module.TOTALVAE` with a prior of :mod:`vmmscvi.priors` on the latent space.

    Parameters
    ----------
    *args
        Arguments of :class:`scvi.module.TOTALVAE`.
    prior, n_components, inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.PriorConfig`.
    **kwargs
        Further arguments of :class:`scvi.module.TOTALVAE`.
    """

    library_log_means: Any
    library_log_vars: Any

    loss = with_prior(TOTALVAE.loss)
    _regular_inference = with_latent_maps(TOTALVAE._regular_inference)

    @auto_move_data
    def marginal_ll(
        self, tensors: dict[str, Tensor], n_mc_samples: int, return_mean: bool = True
    ) -> Tensor | float:
        r"""Estimate :math:`\log p(x, y)` under the model's own prior by importance sampling.

        Parameters
        ----------
        tensors
            The minibatch.
        n_mc_samples
            Number of samples for each cell.
        return_mean
            Whether to return the mean over cells, a number.

        Returns
        -------
        Tensor | float
            Log-likelihoods of shape ``(n,)``, or their mean, in nats.
        """
        log_likelihood = marginal_log_likelihood(self, tensors, n_mc_samples, self._log_weight)
        return log_likelihood.mean().item() if return_mean else log_likelihood

    def _log_weight(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        losses: LossOutput,
    ) -> Tensor:
        """Log-ratio of joint density and proposal for ``z``, background and, if latent, library size."""
        py, background = generative_outputs["py_"], generative_outputs["log_pro_back_mean"]
        log_weight: Tensor = -LossOutput.dict_sum(losses.reconstruction_loss)
        log_weight = log_weight + log_prior_ratio(self, inference_outputs)
        q_background: Any = Normal(py["back_alpha"], py["back_beta"])
        p_background = inference_outputs["back_mean_prior"]
        log_ratio = p_background.log_prob(background) - q_background.log_prob(background)
        log_weight = log_weight + log_ratio.sum(-1)
        if not self.use_observed_lib_size:
            library, batch = inference_outputs["untran_l"], tensors["batch"].ravel().long()
            batches = one_hot(batch, self.library_log_means.shape[1]).float()
            means, variances = (linear(batches, t) for t in (self.library_log_means, self.library_log_vars))
            p_library: Any = Normal(means, variances.sqrt())
            log_ratio = p_library.log_prob(library) - inference_outputs["ql"].log_prob(library)
            log_weight = log_weight + log_ratio.sum(-1)
        return log_weight

    def sample_observations(
        self, inference_outputs: dict[str, Any], generative_outputs: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Draw counts of genes and proteins."""
        px, py = generative_outputs["px_"], generative_outputs["py_norm_"]
        genes: torch.distributions.Distribution
        if self.gene_likelihood == "zinb":
            genes = ZeroInflatedNegativeBinomial(mu=px["rate"], theta=px["r"], zi_logits=px["dropout"])
        else:
            genes = NegativeBinomial(mu=px["rate"], theta=px["r"])
        proteins = NegativeBinomialMixture(
            mu1=py["rate_back"], mu2=py["rate_fore"], theta1=py["r"], mixture_logits=py["mixing"]
        )
        return {"X": genes.sample(), "protein": proteins.sample()}
