"""scVI's variational auto-encoder with an interchangeable prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.module import VAE
from scvi.module._constants import MODULE_KEYS
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor
from torch.distributions import Distribution

from vmmscvi.module._build_prior import PriorName, build_prior
from vmmscvi.module._prior_distribution import PriorDistribution
from vmmscvi.module._prior_mixin import PriorMixin
from vmmscvi.module._pseudo_inputs import PseudoInputs, PseudoInputSpace
from vmmscvi.module._sparse_encoder import SparseEncoderMixin
from vmmscvi.module._zero_aware import zero_aware
from vmmscvi.priors import Inference, WishartScale


class VMMVAE(PriorMixin, SparseEncoderMixin, VAE):
    """scVI's VAE whose prior on the latent space is one of :mod:`vmmscvi.priors`.

    Everything but the prior is inherited. What depends on :math:`p(z)` is overridden: the ``pz`` of the
    generative outputs, the Kullback-Leibler term of the loss, and the marginal likelihood.

    Parameters
    ----------
    n_input
        Number of genes.
    n_batch, n_labels, n_hidden, n_latent, n_layers, n_continuous_cov, n_cats_per_cov, dropout_rate, \
dispersion, log_variational, gene_likelihood, latent_distribution, deeply_inject_covariates, \
batch_representation, use_batch_norm, use_layer_norm, use_size_factor_key, use_observed_lib_size, \
extra_payload_autotune, library_log_means, library_log_vars, var_activation, extra_encoder_kwargs, \
extra_decoder_kwargs, batch_embedding_kwargs
        As in :class:`scvi.module.VAE`; ``latent_distribution`` must be ``"normal"``.
    encode_covariates
        As in :class:`scvi.module.VAE`, but ``True`` by default as in the paper: the encoder sees the batch.
    prior
        ``"vmm"``, ``"gmm"``, ``"vampprior"`` or ``"standard_normal"``.
    n_components
        Largest number of clusters ``K``.
    inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`.
    pseudo_input_space
        See :class:`~vmmscvi.module.PseudoInputs`.
    fast_likelihood
        Whether negative-binomial likelihoods on the CPU are computed by
        :mod:`vmmscvi.module._zero_aware`: the same values and gradients, without gamma functions where counts
        are zero. ``False`` for scvi-tools' own, which can be differentiated twice.
    sparse_encoder
        Whether the encoder's first layer on the CPU reads only the counts that are not zero, where that is
        faster: the same result. ``False`` for the dense product.
    """

    def __init__(
        self,
        n_input: int,
        n_batch: int = 0,
        n_labels: int = 0,
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        n_continuous_cov: int = 0,
        n_cats_per_cov: list[int] | None = None,
        dropout_rate: float = 0.1,
        dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene",
        log_variational: bool = True,
        gene_likelihood: Literal["zinb", "nb", "poisson", "normal"] = "zinb",
        latent_distribution: Literal["normal", "ln"] = "normal",
        encode_covariates: bool = True,
        deeply_inject_covariates: bool = True,
        batch_representation: Literal["one-hot", "embedding"] = "one-hot",
        use_batch_norm: Literal["encoder", "decoder", "none", "both"] = "both",
        use_layer_norm: Literal["encoder", "decoder", "none", "both"] = "none",
        use_size_factor_key: bool = False,
        use_observed_lib_size: bool = True,
        extra_payload_autotune: bool = False,
        library_log_means: np.ndarray | None = None,
        library_log_vars: np.ndarray | None = None,
        var_activation: Callable[[Tensor], Tensor] | None = None,
        extra_encoder_kwargs: dict[str, Any] | None = None,
        extra_decoder_kwargs: dict[str, Any] | None = None,
        batch_embedding_kwargs: dict[str, Any] | None = None,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        responsibilities_in_gradient: bool | None = None,
        wishart_scale: WishartScale = "learned",
        pseudo_input_space: PseudoInputSpace = "log1p",
        fast_likelihood: bool = True,
        sparse_encoder: bool = True,
    ) -> None:
        if latent_distribution != "normal":
            raise ValueError(
                f"`latent_distribution` must be 'normal', found {latent_distribution!r}: the prior is a "
                "density on untransformed latent positions."
            )
        super().__init__(
            n_input=n_input,
            n_batch=n_batch,
            n_labels=n_labels,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            n_continuous_cov=n_continuous_cov,
            n_cats_per_cov=n_cats_per_cov,
            dropout_rate=dropout_rate,
            dispersion=dispersion,
            log_variational=log_variational,
            gene_likelihood=gene_likelihood,
            latent_distribution=latent_distribution,
            encode_covariates=encode_covariates,
            deeply_inject_covariates=deeply_inject_covariates,
            batch_representation=batch_representation,
            use_batch_norm=use_batch_norm,
            use_layer_norm=use_layer_norm,
            use_size_factor_key=use_size_factor_key,
            use_observed_lib_size=use_observed_lib_size,
            extra_payload_autotune=extra_payload_autotune,
            library_log_means=library_log_means,
            library_log_vars=library_log_vars,
            var_activation=var_activation,
            extra_encoder_kwargs=extra_encoder_kwargs,
            extra_decoder_kwargs=extra_decoder_kwargs,
            batch_embedding_kwargs=batch_embedding_kwargs,
        )
        self.fast_likelihood = fast_likelihood
        self._read_sparsely(sparse_encoder)
        # The prior comes last: networks start from the same weights whatever the prior, given the same seed.
        self.prior = build_prior(
            prior, n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale
        )
        self.pseudo_inputs = (
            PseudoInputs(
                n_components,
                n_input,
                n_batch=n_batch if encode_covariates else 1,
                n_continuous=n_continuous_cov if encode_covariates else 0,
                n_categories=list(n_cats_per_cov or []) if encode_covariates else [],
                space=pseudo_input_space,
            )
            if self.prior.uses_pseudo_inputs
            else None
        )

    @property
    def remedy(self) -> str:
        """What to try when training stops at a value that is not finite; part of the error message."""
        remedy = (
            "Try a smaller learning rate (`lr`), `plan_kwargs={'gradient_clip_val': 10.0}`, "
            "`gene_likelihood='nb'`, or a check of the data for extreme counts."
        )
        if not self.log_variational and not self.use_observed_lib_size:
            remedy += (
                " With `log_variational=False` and `use_observed_lib_size=False` a cell's size is the "
                "exponential of what a network makes of raw counts, which overflows easily."
            )
        return remedy

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
        # spelt out, not **kwargs: scvi-tools looks for `transform_batch` in this signature
        outputs: dict[str, Distribution | None] = super().generative(
            z, library, batch_index, cont_covs, cat_covs, size_factor, y, transform_batch
        )
        if self.fast_likelihood and z.device.type == "cpu":
            # theta as it is before it is expanded to one value for each cell
            theta = self.px_r.exp() if self.dispersion == "gene" else None
            px = outputs[MODULE_KEYS.PX_KEY]
            outputs[MODULE_KEYS.PX_KEY] = zero_aware(px, theta)
        outputs[MODULE_KEYS.PZ_KEY] = PriorDistribution(self.prior_in_use, self.centers)
        return outputs

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: Tensor | float = 1.0,
    ) -> LossOutput:
        """Negative ELBO of a minibatch, the Kullback-Leibler term estimated with the sample that is decoded.

        Parameters
        ----------
        tensors, inference_outputs, generative_outputs
            As in :meth:`scvi.module.VAE.loss`.
        kl_weight
            Weight of the Kullback-Leibler term of ``z``.
        """
        qz, pz = inference_outputs[MODULE_KEYS.QZ_KEY], generative_outputs[MODULE_KEYS.PZ_KEY]
        # super() computes a closed form between Gaussians: of qz with itself it is zero, ours takes its place
        rest = super().loss(
            tensors, inference_outputs, {**generative_outputs, MODULE_KEYS.PZ_KEY: qz}, kl_weight
        )
        kl = pz.kl_divergence_from(qz, inference_outputs[MODULE_KEYS.Z_KEY])
        if kl.dim() > 1:
            kl = kl.mean(dim=0)
        return LossOutput(
            loss=rest.loss + torch.mean(kl_weight * kl),
            reconstruction_loss=rest.reconstruction_loss,
            kl_local={**rest.kl_local, MODULE_KEYS.KL_Z_KEY: kl},
            extra_metrics=rest.extra_metrics,
        )

    @torch.inference_mode()
    @auto_move_data
    def marginal_ll(
        self,
        tensors: dict[str, Tensor],
        n_mc_samples: int,
        return_mean: bool = False,
        n_mc_samples_per_pass: int = 1,
    ) -> Tensor | float:
        r"""Importance-sampled :math:`\log p(x)` under the model's own prior; the proposal is the posterior.

        Parameters
        ----------
        tensors
            The minibatch.
        n_mc_samples
            Number of samples for each cell.
        return_mean
            Whether to return the mean over cells, a number.
        n_mc_samples_per_pass
            Number of samples that are decoded at a time; bounds the memory.

        Returns
        -------
        Log-likelihoods of shape ``(n,)`` on the CPU, or their mean.
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
        log_likelihood = torch.logsumexp(torch.cat(log_weights), dim=0) - math.log(n_mc_samples)
        return log_likelihood.mean().item() if return_mean else log_likelihood.cpu()

    def _log_importance_weight(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
    ) -> Tensor:
        r""":math:`\log p(x|z, l) p(z) p(l) / q(z, l|x)` of samples and cells, shape ``([n_samples,] n)``."""
        z, qz = inference_outputs[MODULE_KEYS.Z_KEY], inference_outputs[MODULE_KEYS.QZ_KEY]
        log_weight: Tensor = (
            generative_outputs[MODULE_KEYS.PX_KEY].log_prob(tensors[REGISTRY_KEYS.X_KEY]).sum(-1)
            + generative_outputs[MODULE_KEYS.PZ_KEY].log_prob(z)
            - qz.log_prob(z).sum(-1)
        )
        if not self.use_observed_lib_size:
            library = inference_outputs[MODULE_KEYS.LIBRARY_KEY]
            log_weight = (
                log_weight
                + generative_outputs[MODULE_KEYS.PL_KEY].log_prob(library).sum(-1)
                - inference_outputs[MODULE_KEYS.QL_KEY].log_prob(library).sum(-1)
            )
        return log_weight
