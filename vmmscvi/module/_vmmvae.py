"""scVI's variational auto-encoder with an interchangeable prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.module import VAE
from scvi.module._constants import MODULE_KEYS
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from vmmscvi.module._prior_distribution import PriorDistribution
from vmmscvi.module._pseudo_inputs import PseudoInputs, PseudoInputSpace
from vmmscvi.priors import (
    BayesianMixturePrior,
    Centers,
    EmpiricalBayesLoss,
    GaussianMixturePrior,
    Inference,
    MixturePrior,
    Prior,
    StandardNormalPrior,
    VampPrior,
    VampPriorMixture,
    WishartScale,
)

PriorName = Literal["vmm", "gmm", "vampprior", "standard_normal"]


class VMMVAE(VAE):
    """scVI's VAE whose prior on the latent space is one of :mod:`vmmscvi.priors`.

    Everything but the prior is inherited. What depends on :math:`p(z)` is overridden: the ``pz`` of the generative
    outputs, the Kullback-Leibler term of the loss, and the marginal likelihood.

    Parameters
    ----------
    n_input
        Number of genes.
    n_batch, n_labels, n_hidden, n_latent, n_layers, n_continuous_cov, n_cats_per_cov, dropout_rate, dispersion, \
log_variational, gene_likelihood, latent_distribution, deeply_inject_covariates, batch_representation, use_batch_norm, \
use_layer_norm, use_size_factor_key, use_observed_lib_size, extra_payload_autotune, library_log_means, \
library_log_vars, var_activation, extra_encoder_kwargs, extra_decoder_kwargs, batch_embedding_kwargs
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
        responsibilities_in_gradient: bool = True,
        wishart_scale: WishartScale = "paper",
        pseudo_input_space: PseudoInputSpace = "log1p",
    ) -> None:
        if latent_distribution != "normal":
            raise ValueError(
                f"`latent_distribution` must be 'normal', found {latent_distribution!r}: the prior is a density on "
                "untransformed latent positions."
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

    def prior_parameters(self) -> list[nn.Parameter]:
        """Trainable parameters that empirical-Bayes steps fit; empty where the prior is fitted with the ELBO or frozen."""
        if not self.prior.fitted_by_empirical_bayes:
            return []
        owners = [self.prior] if self.pseudo_inputs is None else [self.prior, self.pseudo_inputs]
        return [p for owner in owners for p in owner.parameters() if p.requires_grad]

    def encode_pseudo_inputs(self) -> Normal:
        """The encoder's posteriors at the pseudo-inputs, batch shape ``(K, p)``: the distribution of the centres.

        The encoder is in evaluation mode meanwhile: no dropout, and batch-norm statistics neither used from nor
        updated by the pseudo-inputs.
        """
        if self.pseudo_inputs is None:
            raise ValueError(f"A {type(self.prior).__name__} has no pseudo-inputs.")
        cells = self.pseudo_inputs()
        encoder_input = torch.log1p(cells.counts) if self.log_variational else cells.counts
        covariates: tuple[Tensor, ...] = ()
        if self.encode_covariates:
            if cells.continuous is not None:
                encoder_input = torch.cat((encoder_input, cells.continuous), dim=-1)
            if self.batch_representation == "embedding":
                table = self.get_embedding(REGISTRY_KEYS.BATCH_KEY).weight
                encoder_input = torch.cat((encoder_input, cells.batch @ table), dim=-1)
                covariates = cells.categorical
            else:
                covariates = (cells.batch, *cells.categorical)
        with evaluation_mode(self.z_encoder):
            q_centers, _ = self.z_encoder(encoder_input, *covariates)
        return q_centers

    def centers(self) -> Centers | None:
        """Distribution of the centres under the current weights; ``None`` where the prior knows them itself.

        A frozen prior keeps the centres of its training, however the encoder changes: reference clusters stay where
        they are when a query is mapped.
        """
        if self.pseudo_inputs is None or self.prior.is_frozen:
            return None
        return Centers.from_distribution(self.encode_pseudo_inputs())

    def freeze_prior(self) -> None:
        """Keep prior and centres as they are from now on, whatever is trained."""
        self.cache_centers()
        self.prior.freeze()
        if self.pseudo_inputs is not None:
            self.pseudo_inputs.requires_grad_(False)

    @torch.no_grad()
    def cache_centers(self) -> None:
        """Store the encoded pseudo-inputs in the prior, which then can be evaluated without the encoder."""
        centers = self.centers()
        if centers is not None:
            self.prior.cache_centers(centers)

    def empirical_bayes_loss(
        self, tensors: dict[str, Tensor], hyperprior_n_obs: float | None = None
    ) -> tuple[EmpiricalBayesLoss, Tensor]:
        """Objective of the empirical-Bayes step on a minibatch, and the component of every cell.

        Cells are encoded in evaluation mode without a gradient; the gradient reaches the prior's own parameters and,
        through the encoder, the pseudo-inputs.

        Parameters
        ----------
        tensors
            The minibatch, as the data loader gives it.
        hyperprior_n_obs
            See :meth:`vmmscvi.priors.BayesianMixturePrior.empirical_bayes_loss`.

        Returns
        -------
        The loss, and the most probable component at each posterior mean, shape ``(n,)``.
        """
        if not isinstance(self.prior, BayesianMixturePrior):
            raise ValueError(f"A {type(self.prior).__name__} is not fitted by empirical Bayes.")
        with torch.no_grad(), evaluation_mode(self.z_encoder):
            inference_outputs = self.inference(**self._get_inference_input(tensors))
        centers = self.centers()
        loss = self.prior.empirical_bayes_loss(
            inference_outputs[MODULE_KEYS.Z_KEY], centers, hyperprior_n_obs
        )
        with torch.no_grad():
            assigned = self.assign(inference_outputs[MODULE_KEYS.QZ_KEY].loc, centers)
        return loss, assigned

    def assign(self, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Most probable component at ``z`` of shape ``(n, p)``; shape ``(n,)``."""
        if not isinstance(self.prior, MixturePrior):
            raise ValueError(f"A {type(self.prior).__name__} has no components.")
        log_joint = self.prior.component_log_prob(z, centers, density="expected") + self.prior.pi_logits
        return log_joint.argmax(dim=-1)

    @auto_move_data
    def generative(self, *args: Any, **kwargs: Any) -> dict[str, Distribution | None]:
        """Run the generative process; ``pz`` is the model's own prior."""
        outputs: dict[str, Distribution | None] = super().generative(*args, **kwargs)
        outputs[MODULE_KEYS.PZ_KEY] = PriorDistribution(self.prior, self.centers)
        return outputs

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor | Distribution | None],
        generative_outputs: dict[str, Distribution | None],
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
        # super() computes a closed form between Gaussians: of qz with itself it is zero, and ours takes its place
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
        r"""Importance-sampled :math:`\log p(x)` under the model's own prior, with the posterior as the proposal.

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
        """:math:`\\log p(x|z, l) p(z) p(l) / q(z, l|x)` for every sample and cell, shape ``([n_samples,] n)``."""
        z, qz = inference_outputs[MODULE_KEYS.Z_KEY], inference_outputs[MODULE_KEYS.QZ_KEY]
        log_weight = (
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


def build_prior(
    prior: PriorName,
    n_components: int,
    n_latent: int,
    inference: Inference = "MAP-DP",
    responsibilities_in_gradient: bool = True,
    wishart_scale: WishartScale = "paper",
) -> Prior:
    """A prior by its name; the arguments that it has no use for are ignored.

    Parameters
    ----------
    prior
        ``"vmm"``, ``"gmm"``, ``"vampprior"`` or ``"standard_normal"``.
    n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`.
    """
    if prior == "standard_normal":
        return StandardNormalPrior(n_latent)
    if prior == "vampprior":
        return VampPrior(n_components, n_latent)
    mixtures = {"vmm": VampPriorMixture, "gmm": GaussianMixturePrior}
    if prior not in mixtures:
        raise ValueError(
            f"`prior` must be one of {('vmm', 'gmm', 'vampprior', 'standard_normal')}, found {prior!r}."
        )
    return mixtures[prior](n_components, n_latent, inference, responsibilities_in_gradient, wishart_scale)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while, and restore its mode afterwards."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
