"""Terms that depend on p(z) in scvi-tools' modules of counts, beside the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import auto_move_data
from torch import Tensor
from torch.distributions import Distribution

from vmmscvi._upstream import MODULE_KEYS
from vmmscvi.module._prior_distribution import PriorDistribution
from vmmscvi.module._prior_loss import log_mean_weight, log_prior_ratio

if TYPE_CHECKING:
    from scvi.module import VAE as Base
else:
    Base = object  # a mixin for VAEs


class CountsModuleMixin(Base):
    """Prior density, marginal likelihood and generation, for :class:`scvi.module.VAE` and similar modules."""

    def generative(
        self,
        z: Tensor,
        library: Tensor,
        batch_index: Tensor,
        cont_covs: Tensor | None = None,
        cat_covs: Tensor | None = None,
        size_factor: Tensor | None = None,
        y: Tensor | None = None,
        transform_batch: Tensor | None = None,
    ) -> dict[str, Distribution | None]:
        """Run the generative process; ``pz`` is the model's own prior.

        Parameters
        ----------
        z, library, batch_index, cont_covs, cat_covs, size_factor, y, transform_batch
            As in :meth:`scvi.module.VAE.generative`.
        """
        # spelt out, not **kwargs, because scvi-tools looks for `transform_batch` in this signature
        outputs: dict[str, Distribution | None] = super().generative(
            z, library, batch_index, cont_covs, cat_covs, size_factor, y, transform_batch
        )
        module: Any = self
        outputs[MODULE_KEYS.PZ_KEY] = PriorDistribution(module.prior_in_use, module.centers)
        return outputs

    @torch.inference_mode()
    @auto_move_data
    def marginal_ll(
        self,
        tensors: dict[str, Tensor],
        n_mc_samples: int,
        return_mean: bool = False,
        n_mc_samples_per_pass: int = 1,
    ) -> Tensor | float:
        r"""Estimate :math:`\log p(x)` under the model's own prior by importance sampling.

        The posterior is the proposal distribution.

        Parameters
        ----------
        tensors
            The minibatch.
        n_mc_samples
            Number of samples for each cell.
        return_mean
            Whether to return the mean over cells, a number.
        n_mc_samples_per_pass
            Number of samples that are decoded at a time; it limits the memory.

        Returns
        -------
        Tensor | float
            Log-likelihoods of shape ``(n,)`` on the CPU, or their mean, in nats.
        """
        log_weights = []
        remaining = n_mc_samples
        while remaining > 0:
            n_samples = min(n_mc_samples_per_pass, remaining)
            remaining -= n_samples
            inference_outputs, generative_outputs = self.forward(
                tensors,
                inference_kwargs={"n_samples": n_samples},
                get_inference_input_kwargs={"full_forward_pass": True},
                compute_loss=False,
            )
            log_weight = self._log_importance_weight(tensors, inference_outputs, generative_outputs)
            log_weights.append(log_weight.reshape(n_samples, -1))
        log_likelihood = log_mean_weight(torch.cat(log_weights))
        return log_likelihood.mean().item() if return_mean else log_likelihood.cpu()

    def _log_importance_weight(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
    ) -> Tensor:
        r""":math:`\log p(x|z, l) p(z) p(l) / q(z, l|x)` of samples and cells, shape ``([n_samples,] n)``."""
        px = generative_outputs[MODULE_KEYS.PX_KEY]
        log_weight: Tensor = px.log_prob(tensors[REGISTRY_KEYS.X_KEY]).sum(-1)
        log_weight = log_weight + log_prior_ratio(self, inference_outputs)
        if not self.use_observed_lib_size:
            library = inference_outputs[MODULE_KEYS.LIBRARY_KEY]
            log_weight = (
                log_weight
                + generative_outputs[MODULE_KEYS.PL_KEY].log_prob(library).sum(-1)
                - inference_outputs[MODULE_KEYS.QL_KEY].log_prob(library).sum(-1)
            )
        return log_weight

    def sample_observations(
        self, inference_outputs: dict[str, Any], generative_outputs: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Draw counts."""
        return {"X": generative_outputs[MODULE_KEYS.PX_KEY].sample()}

    @torch.inference_mode()
    def generate(
        self, tensors: dict[str, Tensor], z: Tensor, library_size: float | None = None
    ) -> dict[str, Tensor]:
        """Decode latent positions into counts; see :meth:`PriorModuleMixin.generate`.

        Cells are not encoded, because minified data have totals but no counts.
        """
        library = tensors.get(REGISTRY_KEYS.OBSERVED_LIB_SIZE)
        library = tensors[REGISTRY_KEYS.X_KEY].sum(1, keepdim=True) if library is None else library
        library = library.log()
        if library_size is not None:
            library = torch.full_like(library, math.log(library_size))
        outputs = {MODULE_KEYS.Z_KEY: z, MODULE_KEYS.LIBRARY_KEY: library}
        decoded = self.generative(**self._get_generative_input(tensors, outputs))
        return self.sample_observations(outputs, decoded)
