"""MultiVI's module with an interchangeable prior."""

from __future__ import annotations

from typing import Any

import torch
from scvi.distributions import NegativeBinomial, NegativeBinomialMixture, ZeroInflatedNegativeBinomial
from scvi.module import MULTIVAE
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, Poisson

from vmmscvi._upstream import mix_modalities
from vmmscvi.module._encoder_inputs import InputValues
from vmmscvi.module._prior_arguments import PriorArgumentsMixin
from vmmscvi.module._prior_loss import with_prior

ENCODERS = {
    "z_encoder_expression": "n_input_genes",
    "z_encoder_accessibility": "n_input_regions",
    "z_encoder_protein": "n_input_proteins",
}
"""Encoders in the order in which their posteriors are mixed, and the size of each one's input."""


class MULTIVMMVAE(PriorArgumentsMixin, MULTIVAE):
    """:class:`scvi.module.MULTIVAE` with a prior of :mod:`vmmscvi.priors` on the latent space.

    A centre has a pseudo-input for each modality, averaged over the cells that have the modality. Their
    posteriors are mixed like those of cells.

    Parameters
    ----------
    *args
        Arguments of :class:`scvi.module.MULTIVAE`.
    prior, n_components, inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.PriorConfig`.
    **kwargs
        Further arguments of :class:`scvi.module.MULTIVAE`.
    """

    region_factors: Any
    mod_weights: Any

    loss = with_prior(MULTIVAE.loss)

    def latent_encoders(self) -> dict[str, nn.Module]:
        """Return the encoders of the modalities in the data, by name."""
        return {name: getattr(self, name) for name, size in ENCODERS.items() if getattr(self, size) > 0}

    def posterior_of_encoders(self, outputs: dict[str, Any]) -> Distribution:
        """Mix the posteriors of the modalities; every pseudo-input has all of them."""
        some = next(iter(outputs.values()))[0]
        nothing = torch.zeros_like(some)
        means, variances, masks = [], [], []
        for name in ENCODERS:
            mean, variance, *_ = outputs.get(name, (nothing, torch.ones_like(some)))
            means.append(mean)
            variances.append(variance)
            masks.append(torch.full((len(some),), name in outputs, device=some.device))
        weights = self.mod_weights
        if weights.dim() > 1:  # weights differ by cell; pseudo-inputs use their mean
            weights = weights.mean(0)
        weights = weights.unsqueeze(0).expand(len(some), -1)
        mean = mix_modalities(tuple(means), tuple(masks), weights)
        variance = mix_modalities(tuple(variances), tuple(masks), weights, torch.sqrt)
        return Normal(mean, variance.sqrt())

    def capture_inputs(self, tensors: dict[str, Tensor]) -> tuple[Distribution, dict[str, InputValues]]:
        """Encode a minibatch, and mark the modalities of each cell; see :class:`PriorModuleMixin`."""
        posterior, inputs = super().capture_inputs(tensors)
        marked = {}
        for name, values in inputs.items():
            n_features = getattr(self, ENCODERS[name])
            marked[name] = values._replace(present=values.values[:, :n_features].sum(1) > 0)
        return posterior, marked

    def sample_observations(
        self, inference_outputs: dict[str, Any], generative_outputs: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Draw counts of genes, accessible peaks and counts of proteins, if the data have them."""
        samples = {}
        if self.n_input_genes:
            samples["genes"] = self._gene_distribution(generative_outputs).sample()
        if self.n_input_regions:
            factors = 1.0 if self.region_factors is None else torch.sigmoid(self.region_factors)
            probability = generative_outputs["p"] * inference_outputs["libsize_acc"] * factors
            samples["peaks"] = torch.bernoulli(probability)
        if self.n_input_proteins:
            py = generative_outputs["py_"]
            samples["protein"] = NegativeBinomialMixture(
                mu1=py["rate_back"], mu2=py["rate_fore"], theta1=py["r"], mixture_logits=py["mixing"]
            ).sample()
        return samples

    def _gene_distribution(self, outputs: dict[str, Any]) -> Any:
        rate, theta = outputs["px_rate"], outputs["px_r"]
        if self.gene_likelihood == "zinb":
            return ZeroInflatedNegativeBinomial(mu=rate, theta=theta, zi_logits=outputs["px_dropout"])
        return NegativeBinomial(mu=rate, theta=theta) if self.gene_likelihood == "nb" else Poisson(rate)
