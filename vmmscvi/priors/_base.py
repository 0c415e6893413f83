"""The interface of every prior on the latent space, on which modules and training plans rely."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Normal

from vmmscvi.priors._state import PriorState

Method = TypeVar("Method", bound=Callable[..., Any])


class Centers(NamedTuple):
    r"""Distribution of the cluster centres, :math:`q(\mu_j) = N(m_j, S_j)`.

    Attributes
    ----------
    loc
        Means, shape ``(K, p)``.
    scale
        Standard deviations ``(K, p)``, lower Cholesky factors ``(K, p, p)``, or ``None`` for points.
    """

    loc: Tensor
    scale: Tensor | None

    @classmethod
    def from_distribution(cls, q_centers: Distribution) -> Centers:
        """Read the centres from an encoder's posterior at K pseudo-inputs.

        Parameters
        ----------
        q_centers
            ``Normal`` with batch shape ``(K, p)`` or ``MultivariateNormal`` with batch shape ``(K,)``.

        Returns
        -------
        Centers
            Means and spread of the posteriors.
        """
        if isinstance(q_centers, MultivariateNormal):
            return cls(q_centers.loc, q_centers.scale_tril)
        return cls(q_centers.mean, q_centers.stddev)


def entropy(distribution: Distribution) -> Tensor:
    """Entropy of a distribution over latent vectors with independent or correlated dimensions.

    Parameters
    ----------
    distribution
        ``Normal`` with batch shape ``(..., p)`` or ``MultivariateNormal`` with batch shape ``(...)``.

    Returns
    -------
    Tensor
        Entropies of shape ``(...)``, in nats.
    """
    value: Tensor = distribution.entropy()
    return value if distribution.event_shape else value.sum(-1)


def in_full_precision(method: Method) -> Method:
    """Compute a method of a prior in at least float32, even in mixed-precision training.

    Sixteen bits are too few for Cholesky factors and log-determinants. The decorator turns autocasting off
    and casts half-precision tensors, centres and Gaussians among the arguments to float32.
    """

    @wraps(method)
    def wrapper(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device_type=_device_type(self, chain(args, kwargs.values())), enabled=False):
            return method(self, *map(_upcast, args), **{k: _upcast(v) for k, v in kwargs.items()})

    return wrapper  # type: ignore[return-value]


def _device_type(module: nn.Module, arguments: Iterable[Any]) -> str:
    tensors = (value.loc if isinstance(value, Centers) else value for value in arguments)
    candidates = chain(tensors, module.parameters(), module.buffers())
    return next((value.device.type for value in candidates if isinstance(value, Tensor)), "cpu")


def _upcast(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if _is_half(value) else value
    if isinstance(value, Centers):
        return Centers(_upcast(value.loc), _upcast(value.scale))
    if isinstance(value, Normal) and (_is_half(value.loc) or _is_half(value.scale)):
        return Normal(_upcast(value.loc), _upcast(value.scale))
    if isinstance(value, MultivariateNormal) and _is_half(value.scale_tril):
        return MultivariateNormal(_upcast(value.loc), scale_tril=_upcast(value.scale_tril))
    return value


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)


class Prior(nn.Module, ABC):
    """A density on the latent space.

    A prior with encoded pseudo-inputs as centres does not own the encoder. The caller encodes the
    pseudo-inputs and passes the result as ``centers``. Without this argument, the centres stored by the last
    call of :meth:`cache_centers` are used.

    Parameters
    ----------
    n_latent
        Dimension ``p`` of the latent space.
    """

    uses_pseudo_inputs: bool = False
    """Whether the centres are encoded pseudo-inputs."""
    fitted_by_empirical_bayes: bool = False
    """Whether separate empirical-Bayes steps fit the parameters, instead of the gradient of the ELBO."""

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        if n_latent < 1:
            raise ValueError(f"`n_latent` must be a positive integer, found {n_latent}.")
        self.n_latent = n_latent
        self.state = PriorState.UNFITTED

    @abstractmethod
    def log_prob(self, z: Tensor, centers: Centers | None = None) -> Tensor:
        """Log-density of the prior.

        Parameters
        ----------
        z
            Latent positions, shape ``(..., p)``.
        centers
            Distribution of the centres, for priors with pseudo-inputs; the cached one by default.

        Returns
        -------
        Tensor
            Log-densities of shape ``(...)``, in nats.
        """

    @abstractmethod
    def sample(self, n_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw latent positions.

        Parameters
        ----------
        n_samples
            Number of draws.
        generator
            Source of randomness; torch's global one by default.

        Returns
        -------
        Tensor
            Latent positions of shape ``(n_samples, p)``.
        """

    @in_full_precision
    def kl_divergence(self, qz: Distribution, z: Tensor, centers: Centers | None = None) -> Tensor:
        r"""Estimate the Kullback-Leibler divergence :math:`KL(q(z|x) \| p(z))` for each cell.

        The entropy of ``qz`` is exact; the cross-entropy is estimated from the samples ``z``. The estimate is
        unbiased and may be negative.

        Parameters
        ----------
        qz
            Approximate posteriors: ``Normal`` with batch shape ``(n, p)`` or ``MultivariateNormal`` with
            ``(n,)``.
        z
            Reparametrised samples of ``qz``, shape ``(n, p)`` or ``(n_samples, n, p)``.
        centers
            Distribution of the centres, for priors with pseudo-inputs.

        Returns
        -------
        Tensor
            Divergences of shape ``(n,)`` or ``(n_samples, n)``.
        """
        return -entropy(qz) - self.log_prob(z, centers)

    def centers_from(self, q_centers: Distribution) -> Centers:
        """Read the centres from the encoder's posteriors at the pseudo-inputs.

        Parameters
        ----------
        q_centers
            See :meth:`Centers.from_distribution`.

        Returns
        -------
        Centers
            Distribution of the centres.
        """
        return Centers.from_distribution(q_centers)

    def cache_centers(self, centers: Centers) -> None:
        """Store the centres, so that the prior can be evaluated without the encoder; does nothing by default.

        Parameters
        ----------
        centers
            Distribution of the centres.
        """

    @property
    def is_fitted(self) -> bool:
        """Whether the prior is in use, trained or frozen."""
        return self.state in (PriorState.FITTED, PriorState.FROZEN)

    @property
    def is_frozen(self) -> bool:
        """Whether training leaves parameters and cached centres unchanged."""
        return self.state is PriorState.FROZEN

    @property
    def is_initialised_with_clusters(self) -> bool:
        """Whether the prior was initialised with the clusters of an embedding, and is near its optimum."""
        return False

    def freeze(self) -> None:
        """Freeze parameters and cached centres, for query mapping."""
        self.requires_grad_(False)
        self.state = PriorState.FROZEN

    def unfreeze(self) -> None:
        """Make the prior trainable again."""
        self.requires_grad_(True)
        self.state = PriorState.FITTED

    def get_extra_state(self) -> Tensor:
        """Return the state of the fit, which is saved beside the parameters."""
        return torch.tensor([float(self.state)], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the state of the fit, as returned by :meth:`get_extra_state`."""
        self.state = PriorState(int(state[0]))
        if self.is_frozen:
            self.freeze()
