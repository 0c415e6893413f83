"""PeakVI's module with an interchangeable prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from scvi.module import PEAKVAE
from scvi.module.base import LossOutput
from torch import Tensor

from vmmscvi.module._latent_maps import LatentMapsMixin, with_latent_maps
from vmmscvi.module._prior_arguments import PriorArgumentsMixin
from vmmscvi.module._prior_loss import corrected


class PEAKVMMVAE(LatentMapsMixin, PriorArgumentsMixin, PEAKVAE):
    """:class:`scvi.module.PEAKVAE` whose prior on the latent space is one of :mod:`vmmscvi.priors`.

    Parameters
    ----------
    *args, **kwargs
        Arguments of :class:`scvi.module.PEAKVAE` and of the prior.
    stock_loss
        Whether the loss is weighed as in scvi-tools, which adds the sum of reconstruction errors to every
        cell's Kullback-Leibler term: of a minibatch of ``n`` cells the term counts ``1/n``. ``False``
        (default): the negative ELBO.
    """

    region_factors: Any

    inference = with_latent_maps(PEAKVAE.inference)

    def __init__(self, *args: Any, stock_loss: bool = False, **kwargs: Any) -> None:
        self.stock_loss = stock_loss
        super().__init__(*args, **kwargs)

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: Tensor | float = 1.0,
    ) -> LossOutput:
        """Negative ELBO of a minibatch under the module's prior; see ``stock_loss``.

        Parameters
        ----------
        tensors, inference_outputs, generative_outputs
            As in :meth:`scvi.module.PEAKVAE.loss`.
        kl_weight
            Weight of the Kullback-Leibler term.
        """
        stock: LossOutput = super().loss(tensors, inference_outputs, generative_outputs, kl_weight)
        if not self.stock_loss:
            (error,), (kl,) = stock.reconstruction_loss.values(), stock.kl_local.values()
            stock = replace(stock, loss=torch.mean(error + kl_weight * kl))
        return corrected(self, stock, tensors, inference_outputs, {"kl_weight": kl_weight})

    def kl_weights(
        self, tensors: dict[str, Tensor], kl_weight: Tensor | float, loss_kwargs: Mapping[str, Any]
    ) -> Tensor | float:
        """Weight of each cell's term in the mean over cells; the stock loss is a sum."""
        return kl_weight * len(tensors["X"]) if self.stock_loss else kl_weight

    def sample_observations(
        self, inference_outputs: dict[str, Any], generative_outputs: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Draw which peaks are accessible."""
        factors = 1.0 if self.region_factors is None else torch.sigmoid(self.region_factors)
        probability = generative_outputs["px"] * inference_outputs["d"] * factors
        return {"X": torch.bernoulli(probability)}
