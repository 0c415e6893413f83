"""PeakVI's module with an interchangeable prior and networks that see the number of open peaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module import PEAKVAE
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn

from vmmscvi.module._latent_maps import LatentMapsMixin, with_latent_maps
from vmmscvi.module._prior_arguments import PriorArgumentsMixin
from vmmscvi.module._prior_loss import corrected


class PEAKVMMVAE(LatentMapsMixin, PriorArgumentsMixin, PEAKVAE):
    """:class:`scvi.module.PEAKVAE` with a prior of :mod:`vmmscvi.priors` on the latent space.

    Parameters
    ----------
    *args, n_continuous_cov
        Arguments of :class:`scvi.module.PEAKVAE`.
    stock_loss
        Whether to weight the loss as in scvi-tools, which adds the sum of reconstruction errors to every
        cell's Kullback-Leibler term; in a minibatch of ``n`` cells the term then has the weight ``1/n``. By
        default (``False``) the loss is the negative ELBO.
    condition_on_depth
        Whether the decoder (and, with ``encode_covariates``, the encoder) receives the number of open peaks
        of a cell as a continuous covariate. scvi-tools multiplies the probability of every peak by one factor
        per cell. Peaks that are nearly always open do not follow this factor, so depth becomes the strongest
        direction of the embedding and clusters group cells by depth. ``False`` selects the module of
        scvi-tools. A ``forward`` pass without a loss, used for estimates of accessibility, decodes every cell
        at the mean depth of the data.
    **kwargs
        Further arguments of :class:`scvi.module.PEAKVAE`, and those of :class:`vmmscvi.priors.PriorConfig`.
    """

    region_factors: Any

    def __init__(
        self,
        *args: Any,
        n_continuous_cov: int = 0,
        stock_loss: bool = False,
        condition_on_depth: bool = True,
        **kwargs: Any,
    ) -> None:
        self.stock_loss = stock_loss
        self.condition_on_depth = condition_on_depth
        super().__init__(*args, n_continuous_cov=n_continuous_cov + condition_on_depth, **kwargs)
        # all minibatches have equal weight in the statistics; depth has mean 0 and variance 1
        self.standardized = nn.BatchNorm1d(1, affine=False, momentum=None) if condition_on_depth else None

    def forward(self, tensors: dict[str, Tensor], **options: Any) -> Any:
        """Encode, decode, and compute the loss if requested; without a loss, decode at the mean depth.

        Parameters
        ----------
        tensors
            A minibatch.
        **options
            As in :meth:`scvi.module.base.BaseModuleClass.forward`.
        """
        if self.condition_on_depth and not options.get("compute_loss", True):
            given = options.get("get_generative_input_kwargs") or {}
            options["get_generative_input_kwargs"] = {"at_mean_depth": True, **given}
        return super().forward(tensors, **options)

    @with_latent_maps
    @auto_move_data
    def inference(
        self,
        x: Tensor,
        batch_index: Tensor,
        cont_covs: Tensor | None,
        cat_covs: Tensor | None,
        n_samples: int = 1,
    ) -> dict[str, Any]:
        """Encode; depth is the last continuous covariate.

        Parameters
        ----------
        x, batch_index, cont_covs, cat_covs, n_samples
            As in :meth:`scvi.module.PEAKVAE.inference`.
        """
        if self.standardized is not None:
            depth = self.standardized(_log_depth(x).unsqueeze(-1))
            cont_covs = depth if cont_covs is None else torch.cat((cont_covs, depth), dim=-1)
        outputs: dict[str, Any] = super().inference(x, batch_index, cont_covs, cat_covs, n_samples)
        return {**outputs, "cont_covs": cont_covs}

    def _get_generative_input(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        transform_batch: Any = None,
        at_mean_depth: bool = False,
    ) -> dict[str, Any]:
        given: dict[str, Any] = super()._get_generative_input(tensors, inference_outputs, transform_batch)
        covariates = inference_outputs["cont_covs"]
        if at_mean_depth:
            covariates = torch.cat((covariates[..., :-1], torch.zeros_like(covariates[..., -1:])), dim=-1)
        return {**given, "cont_covs": covariates}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: Tensor | float = 1.0,
    ) -> LossOutput:
        """Compute the negative ELBO of a minibatch under the module's prior; see ``stock_loss``.

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

    def log_depth(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return the logarithm of the number of open peaks; cells with few lie closer to the centre."""
        return _log_depth(tensors[REGISTRY_KEYS.X_KEY])

    def kl_weights(
        self, tensors: dict[str, Tensor], kl_weight: Tensor | float, loss_kwargs: Mapping[str, Any]
    ) -> Tensor | float:
        """Return the weight of each cell's term in the mean over cells; the stock loss is a sum."""
        return kl_weight * len(tensors["X"]) if self.stock_loss else kl_weight

    def sample_observations(
        self, inference_outputs: dict[str, Any], generative_outputs: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Draw accessible peaks, as zeros and ones."""
        factors = 1.0 if self.region_factors is None else torch.sigmoid(self.region_factors)
        probability = generative_outputs["px"] * inference_outputs["d"] * factors
        return {"X": torch.bernoulli(probability)}


def _log_depth(x: Tensor) -> Tensor:
    return (x > 0).sum(-1).float().log1p()
