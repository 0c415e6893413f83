"""Densities of an observation given the decoder's output."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from vmmscvi.priors.functional import LOG_TWO_PI

LikelihoodName = Literal["gaussian", "bernoulli"]

LOG_SCALE_SPEED = 10.0
"""Scaling of the logarithm of the noise. Adam changes a parameter by about its learning rate per step, and
this important parameter must not need thousands of steps."""


class Likelihood(nn.Module, ABC):
    """A distribution of features that are independent given the latent position."""

    @abstractmethod
    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of observations, summed over features.

        Parameters
        ----------
        x
            Observations, shape ``(n, n_features)``.
        decoded
            The decoder's output, shape ``(..., n, n_features)``.

        Returns
        -------
        Tensor
            Log-densities of shape ``(..., n)``.
        """

    @abstractmethod
    def mean(self, decoded: Tensor) -> Tensor:
        """Mean of the distribution, shape of ``decoded``."""

    @abstractmethod
    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one observation for each row of ``decoded``."""


class GaussianLikelihood(Likelihood):
    """A Gaussian with one learned variance for all features.

    Parameters
    ----------
    scale
        Initial standard deviation.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scaled_log_scale = nn.Parameter(torch.tensor(math.log(scale) / LOG_SCALE_SPEED))

    @property
    def log_scale(self) -> Tensor:
        """Logarithm of the standard deviation, a scalar."""
        return LOG_SCALE_SPEED * self.scaled_log_scale

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-density of observations; see :meth:`Likelihood.log_prob`."""
        squares = (x - decoded).square().sum(-1)
        constant = x.shape[-1] * (self.log_scale + 0.5 * LOG_TWO_PI)
        return -0.5 * squares * torch.exp(-2.0 * self.log_scale) - constant

    def mean(self, decoded: Tensor) -> Tensor:
        """Mean of the distribution, the decoder's output."""
        return decoded

    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one observation for each row of ``decoded``."""
        noise = torch.randn(decoded.shape, generator=generator, device=decoded.device, dtype=decoded.dtype)
        return decoded + self.log_scale.exp() * noise


class BernoulliLikelihood(Likelihood):
    """Features between 0 and 1; values in between are probabilities. The decoder returns logits."""

    def log_prob(self, x: Tensor, decoded: Tensor) -> Tensor:
        """Log-probability of observations; see :meth:`Likelihood.log_prob`."""
        return (x * decoded - softplus(decoded)).sum(-1)

    def mean(self, decoded: Tensor) -> Tensor:
        """Probabilities of ones."""
        return torch.sigmoid(decoded)

    def sample(self, decoded: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw zeros and ones."""
        return torch.bernoulli(torch.sigmoid(decoded), generator=generator)


def build_likelihood(likelihood: LikelihoodName, initial_scale: float = 1.0) -> Likelihood:
    """Build a likelihood by its name.

    Parameters
    ----------
    likelihood
        ``"gaussian"`` or ``"bernoulli"``.
    initial_scale
        Initial standard deviation of the Gaussian.

    Returns
    -------
    Likelihood
        The likelihood.

    Raises
    ------
    ValueError
        If there is no likelihood of this name.
    """
    if likelihood not in get_args(LikelihoodName):
        raise ValueError(f"`likelihood` must be one of {get_args(LikelihoodName)}, found {likelihood!r}.")
    return BernoulliLikelihood() if likelihood == "bernoulli" else GaussianLikelihood(initial_scale)
