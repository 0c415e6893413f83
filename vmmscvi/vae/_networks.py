"""Networks for arrays: builders of encoders and decoders, and the Gaussian output of encoders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Normal
from torch.nn.functional import softplus

from vmmscvi.priors._parameters import inverse_softplus

Covariance = Literal["full", "diagonal"]
Architecture = Literal["mlp", "cnn"]

SMALLEST_SCALE = 1e-4
"""Constant added to standard deviations and diagonals of Cholesky factors, so that none is zero."""
PAPER_HIDDEN = (500, 500, 2000)
CNN_CHANNELS = (32, 64)
CNN_HIDDEN = 256


def mlp_encoder(n_features: int, hidden: Sequence[int] = PAPER_HIDDEN) -> nn.Sequential:
    """Build an encoder of fully connected layers with ReLU.

    Parameters
    ----------
    n_features
        Number of input features.
    hidden
        Widths of the layers; the paper's by default.

    Returns
    -------
    torch.nn.Sequential
        A network from ``(n, n_features)`` to ``(n, hidden[-1])``.
    """
    return _dense_layers((n_features, *hidden))


def mlp_decoder(n_latent: int, n_features: int, hidden: Sequence[int] = PAPER_HIDDEN[::-1]) -> nn.Sequential:
    """Build the mirror of :func:`mlp_encoder`: layers with ReLU, and a linear layer to the features.

    Parameters
    ----------
    n_latent
        Dimension of the latent space.
    n_features
        Number of output features.
    hidden
        Widths of the hidden layers.

    Returns
    -------
    torch.nn.Sequential
        A network from ``(n, n_latent)`` to ``(n, n_features)``.
    """
    layers = _dense_layers((n_latent, *hidden))
    return nn.Sequential(*layers, nn.Linear(hidden[-1], n_features))


def cnn_encoder(image_shape: tuple[int, int, int], channels: Sequence[int] = CNN_CHANNELS) -> nn.Sequential:
    """Build an encoder of strided 3x3 convolutions with ReLU and one fully connected layer.

    Parameters
    ----------
    image_shape
        Channels, height and width.
    channels
        Channels of the convolutions; each halves height and width.

    Returns
    -------
    torch.nn.Sequential
        A network from flattened images to 256 hidden features.
    """
    convolutions: list[nn.Module] = []
    for n_in, n_out in pairwise((image_shape[0], *channels)):
        convolutions += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
    n_flat = channels[-1] * _halved(image_shape[1], len(channels)) * _halved(image_shape[2], len(channels))
    return nn.Sequential(
        nn.Unflatten(1, image_shape), *convolutions, nn.Flatten(), nn.Linear(n_flat, CNN_HIDDEN), nn.ReLU()
    )


def cnn_decoder(
    n_latent: int, image_shape: tuple[int, int, int], channels: Sequence[int] = CNN_CHANNELS
) -> nn.Sequential:
    """Build the mirror of :func:`cnn_encoder`.

    Parameters
    ----------
    n_latent
        Dimension of the latent space.
    image_shape
        Channels, height and width.
    channels
        Channels of the encoder's convolutions.

    Returns
    -------
    torch.nn.Sequential
        A network from ``(n, n_latent)`` to flattened images.
    """
    sizes = [(_halved(image_shape[1], i), _halved(image_shape[2], i)) for i in range(len(channels) + 1)]
    small = (channels[-1], *sizes[-1])
    layers: list[nn.Module] = [
        nn.Linear(n_latent, CNN_HIDDEN),
        nn.ReLU(),
        nn.Linear(CNN_HIDDEN, small[0] * small[1] * small[2]),
        nn.Unflatten(1, small),
    ]
    wanted = (image_shape[0], *channels)
    for i in range(len(channels), 0, -1):
        # the encoder rounds an odd height or width up
        rounding = (int(sizes[i - 1][0] % 2 == 0), int(sizes[i - 1][1] % 2 == 0))
        layers += [
            nn.ReLU(),
            nn.ConvTranspose2d(wanted[i], wanted[i - 1], 3, stride=2, padding=1, output_padding=rounding),
        ]
    return nn.Sequential(*layers, nn.Flatten())


class GaussianHead(nn.Module):
    """A linear layer to the parameters of a Gaussian over the latent space.

    Parameters
    ----------
    n_hidden
        Number of features of the encoder.
    n_latent
        Dimension ``p`` of the latent space.
    covariance
        ``"full"`` for a Cholesky factor, ``"diagonal"`` for standard deviations.
    """

    def __init__(self, n_hidden: int, n_latent: int, covariance: Covariance) -> None:
        super().__init__()
        if covariance not in get_args(Covariance):
            raise ValueError(f"`covariance` must be one of {get_args(Covariance)}, found {covariance!r}.")
        self.n_latent = n_latent
        self.covariance = covariance
        n_below = n_latent * (n_latent - 1) // 2 if covariance == "full" else 0
        self.linear = nn.Linear(n_hidden, 2 * n_latent + n_below)
        self.register_buffer("below", torch.tril_indices(n_latent, n_latent, offset=-1), persistent=False)

    below: Tensor

    @torch.no_grad()
    def reset_scale(self, scale: Tensor) -> None:
        """Set all covariances to the same diagonal matrix, with standard deviations ``(p,)``."""
        self.linear.weight[self.n_latent :] = 0.0
        self.linear.bias[self.n_latent :] = 0.0
        self.linear.bias[self.n_latent : 2 * self.n_latent] = inverse_softplus(
            (scale - SMALLEST_SCALE).clamp_min(SMALLEST_SCALE)
        )

    def forward(self, hidden: Tensor) -> Distribution:
        """Return Gaussians for hidden features.

        Parameters
        ----------
        hidden
            Hidden features, shape ``(n, n_hidden)``.

        Returns
        -------
        Distribution
            ``Normal`` of batch shape ``(n, p)``, or ``MultivariateNormal`` of batch shape ``(n,)``.
        """
        parameters = self.linear(hidden)
        loc, raw_scale = parameters[:, : self.n_latent], parameters[:, self.n_latent : 2 * self.n_latent]
        scale = softplus(raw_scale) + SMALLEST_SCALE
        if self.covariance == "diagonal":
            return Normal(loc, scale, validate_args=False)
        cholesky = torch.diag_embed(scale)
        cholesky[:, self.below[0], self.below[1]] = parameters[:, 2 * self.n_latent :]
        return MultivariateNormal(loc, scale_tril=cholesky, validate_args=False)


def _dense_layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers)


def _halved(size: int, times: int) -> int:
    """Height or width after ``times`` convolutions of stride two."""
    for _ in range(times):
        size = (size + 1) // 2
    return size
