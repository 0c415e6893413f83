"""Methods of a fitted variational auto-encoder: positions, clusters, samples, likelihoods."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from vmmscvi.priors import MixturePrior, Prior
from vmmscvi.vae._checks import require_integer
from vmmscvi.vae._data import as_tensor, in_chunks
from vmmscvi.vae._embedding import embed_rows
from vmmscvi.vae._module import ArrayVAE

Floats = NDArray[np.float32]
LARGEST_SEED = 2**31 - 1


def _has_components(estimator: Any) -> bool:
    """Whether the prior has components; scikit-learn hides the methods that need them otherwise."""
    if hasattr(estimator, "module_"):
        return isinstance(estimator.module_.latent_prior, MixturePrior)
    prior = getattr(estimator, "prior", None)
    return prior != "standard_normal" and (not isinstance(prior, Prior) or isinstance(prior, MixturePrior))


class FittedArrayVAE(ABC):
    """Methods of an estimator that need its ``module_``; subclasses implement ``fit``."""

    n_latent: int
    random_state: int | RandomState | None
    module_: ArrayVAE

    @abstractmethod
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train networks and prior."""

    @abstractmethod
    def _check_values(self, array: Floats) -> None:
        """Raise a ``ValueError`` for values that the likelihood does not allow."""

    def transform(self, X: ArrayLike) -> Floats:
        """Embed observations as the means of their posteriors.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``.

        Returns
        -------
        numpy.ndarray
            Latent positions, shape ``(n, n_latent)``.
        """
        x = self._checked(X)
        return embed_rows(self.module_, x).z.numpy()

    @torch.no_grad()
    def inverse_transform(self, Z: ArrayLike) -> Floats:
        """Decode latent positions into means of observations.

        Parameters
        ----------
        Z
            Latent positions, shape ``(n, n_latent)``.

        Returns
        -------
        numpy.ndarray
            Means, shape ``(n, n_features)``.
        """
        check_is_fitted(self)
        z = as_tensor(np.asarray(Z, dtype=np.float32))
        if z.dim() != 2 or z.shape[1] != self.n_latent:
            raise ValueError(f"`Z` must have shape (n, {self.n_latent}), found {tuple(z.shape)}.")
        means = [self.module_.likelihood.mean(self.module_.decoder(rows)) for rows in in_chunks(z)]
        return torch.cat(means).numpy()

    @available_if(_has_components)
    @torch.no_grad()
    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the responsibility of every component at the posterior means.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``.

        Returns
        -------
        numpy.ndarray
            Probabilities, shape ``(n, K)``.
        """
        z = torch.from_numpy(self.transform(X))
        prior = cast("MixturePrior", self.module_.latent_prior)
        chunks = [prior.responsibilities(rows) for rows in in_chunks(z)]
        return torch.cat(chunks).numpy()

    @available_if(_has_components)
    def predict(self, X: ArrayLike) -> NDArray[np.intp]:
        """Return the most probable component of every observation.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``.

        Returns
        -------
        numpy.ndarray
            Indices of components, shape ``(n,)``.
        """
        clusters: NDArray[np.intp] = self.predict_proba(X).argmax(axis=1)
        return clusters

    @available_if(_has_components)
    def fit_predict(self, X: ArrayLike, y: Any = None) -> NDArray[np.intp]:
        """Fit the model, and return the most probable component of every observation.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``.
        y
            Ignored.

        Returns
        -------
        numpy.ndarray
            Indices of components, shape ``(n,)``.
        """
        clusters: NDArray[np.intp] = self.fit(X, y).predict(X)
        return clusters

    @available_if(_has_components)
    def cluster_weights(self) -> Floats:
        """Return the mixing weights of the components, shape ``(K,)``."""
        check_is_fitted(self)
        return cast("MixturePrior", self.module_.latent_prior).weights.detach().numpy()

    @torch.no_grad()
    def sample(
        self, n_samples: int = 1, component: int | None = None, noise: bool = True
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Draw observations from the model: decode latent positions drawn from the prior.

        Parameters
        ----------
        n_samples
            Number of observations.
        component
            Component of the prior to draw from; by default all components, with their weights.
        noise
            Whether to draw from the likelihood; ``False`` returns its mean.

        Returns
        -------
        tuple of numpy.ndarray
            Observations, shape ``(n_samples, n_features)``, and the component of each, shape
            ``(n_samples,)``, as in scikit-learn's mixtures; zeros if the prior has no components. Every call
            returns the same if ``random_state`` is a number.
        """
        check_is_fitted(self)
        require_integer("n_samples", n_samples)
        generator = self._generator()
        prior = self.module_.latent_prior
        if not isinstance(prior, MixturePrior):
            if component is not None:
                raise ValueError(
                    f"`component` must be None, because a {type(prior).__name__} has no components; found "
                    f"{component!r}."
                )
            z, components = prior.sample(n_samples, generator), torch.zeros(n_samples, dtype=torch.long)
        elif component is not None:
            z = prior.sample(n_samples, generator, component=component)
            components = torch.full((n_samples,), component)
        else:
            drawn = torch.multinomial(prior.weights, n_samples, replacement=True, generator=generator)
            components = drawn.sort().values
            z = torch.cat(
                [
                    prior.sample(int(count), generator, component=j)
                    for j, count in enumerate(torch.bincount(components))
                    if count
                ]
            )
        decoded = self.module_.decoder(z)
        likelihood = self.module_.likelihood
        rows = likelihood.sample(decoded, generator) if noise else likelihood.mean(decoded)
        return rows.numpy(), components.numpy()

    def score_samples(self, X: ArrayLike, n_samples: int = 50) -> Floats:
        """Estimate the log-likelihood of every observation by importance sampling.

        The estimate is a lower bound in expectation and rises with ``n_samples``. All observations share the
        same noise, so the value of one does not depend on the others.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``.
        n_samples
            Number of samples of each posterior.

        Returns
        -------
        numpy.ndarray
            Log-likelihoods in nats, shape ``(n,)``.
        """
        x = self._checked(X)
        require_integer("n_samples", n_samples)
        noise = torch.randn(n_samples, 1, self.n_latent, generator=self._generator())
        return torch.cat([self.module_.log_likelihoods(rows, noise)[0] for rows in in_chunks(x)]).numpy()

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean of :meth:`score_samples`.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``.
        y
            Ignored.

        Returns
        -------
        float
            Mean log-likelihood in nats.
        """
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        """Number of columns returned by :meth:`transform`, for scikit-learn's feature names."""
        return self.n_latent

    def _checked(self, X: ArrayLike) -> Tensor:
        check_is_fitted(self)
        array = validate_data(self, X, dtype=np.float32, reset=False)
        self._check_values(array)
        return as_tensor(array)

    def _generator(self) -> torch.Generator:
        seed = int(check_random_state(self.random_state).randint(LARGEST_SEED))
        return torch.Generator().manual_seed(seed)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether a training has been completed."""
        return hasattr(self, "history_")
