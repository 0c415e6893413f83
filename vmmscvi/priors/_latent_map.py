"""The map that moves the cells of a new batch to similar cells of a mixture."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class GaussianMoments(NamedTuple):
    """Moments of ``K`` components.

    Attributes
    ----------
    weights, loc, covariance
        Weights ``(K,)``, means ``(K, p)`` and covariances ``(K, p, p)``.
    """

    weights: Tensor
    loc: Tensor
    covariance: Tensor

    def to(self, like: torch.device | torch.dtype) -> GaussianMoments:
        """Return the moments on a device or in a precision.

        Parameters
        ----------
        like
            Device or dtype.
        """
        return GaussianMoments(*(value.to(like) for value in self))


class MixtureDensity(NamedTuple):
    """Components and a background, prepared for evaluation at many positions.

    Attributes
    ----------
    whitening
        Inverse roots of the covariances, shape ``(K + 1, p, p)``, the background last.
    center
        Whitened means, shape ``(K + 1, p)``.
    log_constant
        Log-weights minus the logarithm of each component's normaliser, shape ``(K + 1,)``.
    """

    whitening: Tensor
    center: Tensor
    log_constant: Tensor

    @classmethod
    def of(cls, components: GaussianMoments, background: GaussianMoments) -> MixtureDensity:
        """Make the density of components with weights that sum to one, and of a background with a weight."""
        share = background.weights
        loc = torch.cat((components.loc, background.loc))
        cholesky = torch.linalg.cholesky(torch.cat((components.covariance, background.covariance)))
        whitening = torch.linalg.inv(cholesky)
        log_weights = torch.cat((components.weights.log() + torch.log1p(-share), share.log()))
        log_det = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_constant = log_weights - log_det - 0.5 * loc.shape[-1] * math.log(2 * math.pi)
        return cls(whitening, torch.einsum("kj,kij->ki", loc, whitening), log_constant)

    def log_joint(self, z: Tensor) -> Tensor:
        """Log of weight times density at positions ``(..., p)``, shape ``(..., K + 1)``."""
        # one product for all components: (z - m) W' = z W' - m W'
        white = torch.einsum("...j,kij->...ki", z, self.whitening) - self.center
        log_joint: Tensor = self.log_constant - 0.5 * white.square().sum(-1)
        return log_joint


class LatentMap(NamedTuple):
    """Optimal maps between components, weighted by the responsibilities.

    Attributes
    ----------
    density
        The source components and a background.
    transport
        Matrices of the optimal maps, shape ``(K, p, p)``.
    source, target
        Means of the source and target components, shape ``(K, p)``.
    shift
        Displacement of the background, equal to that of the average component, shape ``(p,)``.
    """

    density: MixtureDensity
    transport: Tensor
    source: Tensor
    target: Tensor
    shift: Tensor

    def to(self, device: torch.device) -> LatentMap:
        """Return the map on a device.

        Parameters
        ----------
        device
            The device.
        """
        density, *others = self
        return LatentMap(
            MixtureDensity(*(part.to(device) for part in density)), *(x.to(device) for x in others)
        )

    def moved(self, z: Tensor) -> Tensor:
        """Move positions.

        Parameters
        ----------
        z
            Latent positions, shape ``(..., p)``.

        Returns
        -------
        Tensor
            Moved positions, shape ``(..., p)``.
        """
        r = torch.softmax(self.density.log_joint(z), dim=-1)
        centered = z.unsqueeze(-2) - self.source
        targets = self.target + torch.einsum("kij,...kj->...ki", self.transport, centered)
        moved: Tensor = (r[..., :-1, None] * targets).sum(-2) + r[..., -1:] * (z + self.shift)
        return moved


def optimal_transport(source: Tensor, target: Tensor) -> Tensor:
    r"""Matrices of the optimal maps between centred Gaussians, shape ``(K, p, p)``.

    :math:`A = \Sigma_s^{-1/2} (\Sigma_s^{1/2} \Sigma_t \Sigma_s^{1/2})^{1/2} \Sigma_s^{-1/2}`.

    Parameters
    ----------
    source, target
        Covariances, shape ``(K, p, p)``.
    """
    root, inverse_root = power_of(source, 0.5), power_of(source, -0.5)
    product: Tensor = inverse_root @ power_of(root @ target @ root, 0.5) @ inverse_root
    return product


def power_of(matrices: Tensor, exponent: float) -> Tensor:
    """Powers of symmetric positive definite matrices, shape ``(..., p, p)``."""
    values, vectors = torch.linalg.eigh(matrices)
    power: Tensor = (vectors * values.clamp_min(1e-12).pow(exponent).unsqueeze(-2)) @ vectors.mT
    return power
