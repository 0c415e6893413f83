"""A plain variational auto-encoder for arrays with an interchangeable prior."""

from __future__ import annotations

import math
from typing import Any

import torch
from scvi.module.base import LossOutput
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Normal

from vmmscvi._upstream import MODULE_KEYS, BatchNorm, Dropout
from vmmscvi.module import EncoderLayout, PriorModuleMixin
from vmmscvi.module._evaluation_mode import evaluation_mode
from vmmscvi.priors import Centers, Prior, PriorState
from vmmscvi.vae._likelihoods import Likelihood
from vmmscvi.vae._networks import Covariance, GaussianHead

X_KEY = "X"
"""Key of the observations in a minibatch."""


class ArrayVAE(PriorModuleMixin, nn.Module):
    """The module of :class:`vmmscvi.vae.VAE`, for :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`.

    Parameters
    ----------
    encoder
        Network from ``(n, n_features)`` to hidden features ``(n, n_hidden)``.
    decoder
        Network from ``(n, n_latent)`` to ``(n, n_features)``.
    prior
        Prior on the latent space; its ``n_latent`` is the model's.
    likelihood
        Density of observations given the decoder's output.
    n_features
        Number of features of an observation.
    covariance
        Covariances of the posteriors, full or diagonal.
    """

    remedy = (
        "Try a smaller learning rate (`lr`), `gradient_clip_val=10.0`, or scale the features to a range such "
        "as [-1, 1]."
    )

    keeps_inputs_positive = False

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: Prior,
        likelihood: Likelihood,
        n_features: int,
        covariance: Covariance = "full",
    ) -> None:
        super().__init__()
        with torch.no_grad(), evaluation_mode(encoder):
            n_hidden = encoder(torch.zeros(1, n_features)).shape[-1]
        self.z_encoder = nn.Sequential(encoder, GaussianHead(n_hidden, prior.n_latent, covariance))
        self.decoder = decoder
        self.likelihood = likelihood
        self.n_latent = prior.n_latent
        self.n_features = n_features
        self.own_prior(prior)
        self.trains_autoencoder = False
        """Whether the module is trained as an auto-encoder: means are decoded, and the prior is not used."""
        self.rows_are_independent = not any(
            isinstance(layer, (BatchNorm, Dropout)) for layer in encoder.modules()
        )

    # -- encoding --------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> Distribution:
        """Return the posteriors of observations ``(n, n_features)``."""
        qz: Distribution = self.z_encoder(x)
        return qz

    def encoder_layouts(self) -> dict[str, EncoderLayout]:
        """Return the number of features of the encoder, by name."""
        return {"z_encoder": EncoderLayout(self.n_features)}

    def encode_for_prior(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """Encode a minibatch in evaluation mode; return posteriors and one sample of each."""
        with evaluation_mode(self.z_encoder):
            qz = self.encode(tensors[X_KEY])
        return {MODULE_KEYS.QZ_KEY: qz, MODULE_KEYS.Z_KEY: qz.rsample()}

    def _encode_with_centers(self, x: Tensor) -> tuple[Distribution, Centers | None]:
        """Posteriors of a minibatch and the centres, in one pass if rows are independent."""
        if self.trains_autoencoder:
            return self.encode(x), None
        prior = self.latent_prior
        centers_are_known = prior.state in (PriorState.WARMING_UP, PriorState.FROZEN)
        if self.pseudo_inputs is None or centers_are_known or not self.rows_are_independent:
            return self.encode(x), self.centers()
        (pseudo_inputs,) = self.pseudo_inputs["z_encoder"]()
        both = self.encode(torch.cat((x, pseudo_inputs)))
        return _rows(both, slice(0, len(x))), prior.centers_from(_rows(both, slice(len(x), None)))

    # -- training --------------------------------------------------------------------------------------------

    def forward(
        self, tensors: dict[str, Tensor], loss_kwargs: dict[str, Any] | None = None, **_: Any
    ) -> tuple[dict[str, Any], dict[str, Any], LossOutput]:
        """Encode, sample, decode, and compute the loss of a minibatch.

        Parameters
        ----------
        tensors
            Observations of shape ``(n, n_features)`` under ``"X"``.
        loss_kwargs
            Arguments of :meth:`loss`.

        Returns
        -------
        tuple[dict, dict, LossOutput]
            Posteriors and their samples, an empty dictionary, and the loss, as in scvi-tools' modules.
        """
        x = tensors[X_KEY]
        qz, centers = self._encode_with_centers(x)
        z = qz.mean if self.trains_autoencoder else qz.rsample()
        loss = self.loss(x, qz, z, centers, **(loss_kwargs or {}))
        return {MODULE_KEYS.QZ_KEY: qz, MODULE_KEYS.Z_KEY: z}, {}, loss

    def loss(
        self,
        x: Tensor,
        qz: Distribution,
        z: Tensor,
        centers: Centers | None,
        kl_weight: Tensor | float = 1.0,
    ) -> LossOutput:
        """Compute the negative ELBO of a minibatch with one sample of each posterior.

        Parameters
        ----------
        x
            Observations, shape ``(n, n_features)``.
        qz, z
            Their posteriors, and a sample of each, shape ``(n, p)``.
        centers
            Distribution of the prior's centres; ``None`` without pseudo-inputs.
        kl_weight
            Weight of the Kullback-Leibler term.

        Returns
        -------
        LossOutput
            Mean loss, and both parts for each observation, in nats.
        """
        distortion = -self.likelihood.log_prob(x, self.decoder(z))
        if self.trains_autoencoder:
            rate = torch.zeros_like(distortion)
        else:
            rate = self.prior_in_use.kl_divergence(qz, z, centers)
        return LossOutput(
            loss=(distortion + kl_weight * rate).mean(), reconstruction_loss=distortion, kl_local=rate
        )

    # -- densities -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_likelihoods(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Estimate log-likelihoods by importance sampling with the posterior as proposal.

        Parameters
        ----------
        x
            Observations, shape ``(n, n_features)``.
        noise
            Standard-normal draws for the samples of the posteriors, shape ``(n_samples, n, p)``, or
            ``(n_samples, 1, p)`` if all observations share them.

        Returns
        -------
        tuple of Tensor
            :math:`\log p(x)`, :math:`\log E_{q(z|x)} p(x|z)` and :math:`E_{q(z|x)} \log p(x|z)`, each of
            shape ``(n,)``, in nats.
        """
        qz = self.encode(x)
        log_weights, conditionals = [], []
        for draw in noise:
            z = posterior_sample(qz, draw)
            conditionals.append(self.likelihood.log_prob(x, self.decoder(z)))
            log_weights.append(conditionals[-1] + self.latent_prior.log_prob(z) - posterior_log_prob(qz, z))
        log_n, conditional = math.log(len(noise)), torch.stack(conditionals)
        return (
            torch.logsumexp(torch.stack(log_weights), dim=0) - log_n,
            torch.logsumexp(conditional, dim=0) - log_n,
            conditional.mean(0),
        )


def _rows(distribution: Distribution, rows: slice) -> Distribution:
    """Select some Gaussians of a batch."""
    if isinstance(distribution, MultivariateNormal):
        return MultivariateNormal(
            distribution.loc[rows], scale_tril=distribution.scale_tril[rows], validate_args=False
        )
    return Normal(distribution.mean[rows], distribution.stddev[rows], validate_args=False)


def posterior_sample(qz: Distribution, noise: Tensor) -> Tensor:
    """Turn standard-normal draws, ``(n, p)`` or ``(1, p)``, into a sample of each of ``n`` Gaussians."""
    if isinstance(qz, MultivariateNormal):
        return qz.loc + (qz.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    return qz.mean + qz.stddev * noise


def posterior_log_prob(qz: Distribution, z: Tensor) -> Tensor:
    """Log-density of each posterior at its own position ``(n, p)``, shape ``(n,)``."""
    log_prob = qz.log_prob(z)
    return log_prob if qz.event_shape else log_prob.sum(-1)
