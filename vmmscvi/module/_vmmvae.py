"""scVI's variational auto-encoder with an interchangeable prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from scvi.module import VAE
from torch import Tensor
from torch.distributions import Distribution

from vmmscvi._upstream import MODULE_KEYS
from vmmscvi.module._counts_module import CountsModuleMixin
from vmmscvi.module._encoder_inputs import Scale
from vmmscvi.module._latent_maps import LatentMapsMixin, with_latent_maps
from vmmscvi.module._prior_loss import with_prior
from vmmscvi.module._prior_module import PriorModuleMixin
from vmmscvi.module._sparse_encoder import SparseEncoderMixin
from vmmscvi.module._zero_aware import zero_aware
from vmmscvi.priors import Inference, Prior, PriorConfig, PriorName, WishartScale

PseudoInputSpace = Literal["log1p", "counts"]


class VMMVAE(CountsModuleMixin, LatentMapsMixin, PriorModuleMixin, SparseEncoderMixin, VAE):
    """scVI's VAE with a prior of :mod:`vmmscvi.priors` on the latent space.

    The class overrides only the terms that depend on :math:`p(z)`: ``pz`` in the generative outputs, the
    Kullback-Leibler term of the loss, and the marginal likelihood.

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
        Whether the encoder sees the batch; ``True`` by default, as in the paper (scVI: ``False``).
    prior
        ``"vmm"``, ``"gmm"``, ``"vampprior"`` or ``"standard_normal"``.
    n_components
        Largest number of clusters ``K``.
    inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`.
    pseudo_input_space
        Scale on which the optimizer moves the expression of pseudo-inputs. On ``"log1p"`` (default), a step
        is the same fold change for rare and abundant transcripts; ``"counts"`` is the paper's choice.
    fast_likelihood
        Whether to compute negative-binomial likelihoods on the CPU by :mod:`vmmscvi.module._zero_aware`, with
        the same values and gradients but without gamma functions for zero counts. ``False`` selects
        scvi-tools' own likelihood, which can be differentiated twice.
    sparse_encoder
        Whether the encoder's first layer on the CPU reads only non-zero counts if that is faster, with the
        same result. ``False`` selects the dense product.
    """

    px_r: Any

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
        self.remedy = _remedy(log_variational, use_observed_lib_size)
        self.input_scale = _input_scale(pseudo_input_space, log_variational)
        self.init_prior(
            PriorConfig(prior, n_components, inference, responsibilities_in_gradient, wishart_scale)
        )

    @property
    def prior(self) -> Prior:
        """The prior of ``z``: :attr:`latent_prior` by its name in version 0.1."""
        return self.latent_prior

    loss = with_prior(VAE.loss)
    _regular_inference = with_latent_maps(SparseEncoderMixin._regular_inference, VAE._regular_inference)

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
        if self.fast_likelihood and z.device.type == "cpu":
            # theta before its expansion to one value for each cell
            theta = torch.exp(self.px_r) if self.dispersion == "gene" else None
            px = outputs[MODULE_KEYS.PX_KEY]
            outputs[MODULE_KEYS.PX_KEY] = zero_aware(px, theta)
        return outputs


def _input_scale(space: PseudoInputSpace, log_variational: bool) -> Scale:
    """Return the parametrisation with which the optimizer moves pseudo-inputs on the requested scale."""
    if space not in get_args(PseudoInputSpace):
        raise ValueError(
            f"`pseudo_input_space` must be one of {get_args(PseudoInputSpace)}, found {space!r}."
        )
    if (space == "log1p") == log_variational:
        return "linear"
    return "log1p" if log_variational else "expm1"


def _remedy(log_variational: bool, use_observed_lib_size: bool) -> str:
    remedy = (
        "Try a smaller learning rate (`lr`), `plan_kwargs={'gradient_clip_val': 10.0}`, "
        "`gene_likelihood='nb'`, or a check of the data for extreme counts."
    )
    if not log_variational and not use_observed_lib_size:
        remedy += (
            " With `log_variational=False` and `use_observed_lib_size=False`, a cell's size is the "
            "exponential of a network's output for raw counts, which overflows easily."
        )
    return remedy
