"""What scikit-learn expects of an estimator, for any variational auto-encoder of this package."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any, Self, cast

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from vmmscvi.priors import MixturePrior, Prior
from vmmscvi.vae._checks import require_image_shape, require_integer, require_positive
from vmmscvi.vae._data import ArrayDataModule, Indices, in_chunks, split_rows
from vmmscvi.vae._fitting import TrainingOptions, seeded, train_module
from vmmscvi.vae._likelihoods import LikelihoodName, build_likelihood
from vmmscvi.vae._module import ArrayVAE
from vmmscvi.vae._networks import (
    Architecture,
    Covariance,
    cnn_decoder,
    cnn_encoder,
    mlp_decoder,
    mlp_encoder,
)
from vmmscvi.vae._start import embed_rows

Floats = NDArray[np.float32]
LARGEST_SEED = 2**31 - 1


def _has_components(estimator: Any) -> bool:
    """Whether predictions make sense; scikit-learn hides methods for which this is not so."""
    if hasattr(estimator, "module_"):
        return isinstance(estimator.module_.prior, MixturePrior)
    prior = getattr(estimator, "prior", None)
    return prior != "standard_normal" and (not isinstance(prior, Prior) or isinstance(prior, MixturePrior))


class ArrayEstimator(TransformerMixin, DensityMixin, BaseEstimator, ABC):
    """A variational auto-encoder as a scikit-learn estimator; subclasses say which prior and how it starts.

    Parameters are those of the subclasses, which store them as they are given.
    """

    encoder: Architecture | nn.Module
    decoder: Architecture | nn.Module
    image_shape: tuple[int, int, int] | None
    likelihood: LikelihoodName
    covariance: Covariance
    n_latent: int
    n_components: int
    max_epochs: int
    batch_size: int
    lr: float
    validation_fraction: float
    early_stopping: bool
    patience: int
    callbacks: list[Callback] | None
    random_state: int | RandomState | None
    module_: ArrayVAE
    history_: pd.DataFrame
    train_indices_: Indices
    validation_indices_: Indices
    n_features_in_: int

    # -- what subclasses decide ------------------------------------------------------------------------------

    @abstractmethod
    def _build_prior(self) -> Prior:
        """Make the prior."""

    @abstractmethod
    def _prepare(self, data: ArrayDataModule, seed: int) -> tuple[list[Callback], TrainingOptions]:
        """Initialise what needs data, and say how to train."""

    @abstractmethod
    def _check_parameters(self, n_rows: int) -> None:
        """Raise a ``ValueError`` for parameters that cannot be used."""

    # -- fitting ---------------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train networks and prior.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``; images are flattened.
        y
            Not used.

        Returns
        -------
        The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, or ``X`` is not a finite matrix that the likelihood allows.
        NonFiniteTrainingError
            If a loss becomes NaN or infinite. With early stopping the weights of the best epoch are kept.
        """
        array = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        self._check_parameters(len(array))
        self._check_values(array)
        seed = int(check_random_state(self.random_state).randint(LARGEST_SEED))
        train, validation = split_rows(len(array), self.validation_fraction, seed)
        data = ArrayDataModule(torch.from_numpy(array), train, validation, self.batch_size)
        with seeded(seed):  # networks come first: the same weights whatever the prior
            self.module_ = self._build_module(array[train])
            callbacks, options = self._prepare(data, seed)
        self.train_indices_, self.validation_indices_ = train, validation
        users = deepcopy(self.callbacks or [])
        self.history_ = train_module(self.module_, data, options, [*users, *callbacks], seed)
        return self

    def _build_module(self, training_rows: Floats) -> ArrayVAE:
        n_features = training_rows.shape[1]
        encoder, decoder = self._networks(n_features)
        # what a decoder that knows nothing would have to call noise
        scale = max(float(np.sqrt(training_rows.var(axis=0).mean())), 1e-3)
        likelihood = build_likelihood(self.likelihood, scale)
        return ArrayVAE(encoder, decoder, self._build_prior(), likelihood, n_features, self.covariance)

    def _networks(self, n_features: int) -> tuple[nn.Module, nn.Module]:
        encoder, decoder = self.encoder, self.decoder
        if "cnn" in (encoder, decoder):
            shape = require_image_shape(self.image_shape, n_features)
        if encoder == "mlp":
            encoder = mlp_encoder(n_features)
        elif encoder == "cnn":
            encoder = cnn_encoder(shape)
        if decoder == "mlp":
            decoder = mlp_decoder(self.n_latent, n_features)
        elif decoder == "cnn":
            decoder = cnn_decoder(self.n_latent, shape)
        # a module of the user is a parameter, which fitting must not change
        networks = (
            deepcopy(network) if network in (self.encoder, self.decoder) else network
            for network in (encoder, decoder)
        )
        return cast("tuple[nn.Module, nn.Module]", tuple(networks))

    def _check_values(self, array: Floats) -> None:
        if self.likelihood == "bernoulli" and (array.min() < 0 or array.max() > 1):
            raise ValueError(
                f"`X` must be between 0 and 1 with likelihood='bernoulli', found values between "
                f"{array.min():g} and {array.max():g}."
            )

    def _check_common(self, n_rows: int) -> None:
        """Check the parameters that all estimators have."""
        for name in ("n_latent", "n_components", "max_epochs", "batch_size", "patience"):
            require_integer(name, getattr(self, name))
        require_positive("lr", self.lr)
        fraction = self.validation_fraction
        if not 0 <= fraction < 1 or n_rows - math.ceil(fraction * n_rows) < 1:
            raise ValueError(
                f"`validation_fraction` must be at least 0 and leave rows to train on, found {fraction} with "
                f"{n_rows} rows."
            )
        for name in ("encoder", "decoder"):
            network = getattr(self, name)
            if not isinstance(network, nn.Module) and network not in ("mlp", "cnn"):
                raise ValueError(f"`{name}` must be 'mlp', 'cnn' or a torch Module, found {network!r}.")

    # -- what a fitted model knows ---------------------------------------------------------------------------

    def transform(self, X: ArrayLike) -> Floats:
        """Embed observations: means of their posteriors, shape ``(n, n_latent)``."""
        x = self._checked(X)
        return embed_rows(self.module_, x).z.numpy()

    @torch.no_grad()
    def inverse_transform(self, Z: ArrayLike) -> Floats:
        """Decode latent positions ``(n, n_latent)`` into means of observations, ``(n, n_features)``."""
        check_is_fitted(self)
        z = torch.as_tensor(np.asarray(Z, dtype=np.float32))
        if z.dim() != 2 or z.shape[1] != self.n_latent:
            raise ValueError(f"`Z` must have shape (n, {self.n_latent}), found {tuple(z.shape)}.")
        means = [self.module_.likelihood.mean(self.module_.decoder(rows)) for rows in in_chunks(z)]
        return torch.cat(means).numpy()

    @available_if(_has_components)
    @torch.no_grad()
    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probability of every component at the posterior means: responsibilities, shape ``(n, K)``."""
        z = torch.from_numpy(self.transform(X))
        prior = cast("MixturePrior", self.module_.prior)
        chunks = [prior.responsibilities(rows) for rows in in_chunks(z)]
        return torch.cat(chunks).numpy()

    @available_if(_has_components)
    def predict(self, X: ArrayLike) -> NDArray[np.intp]:
        """Most probable component of every observation, shape ``(n,)``."""
        clusters: NDArray[np.intp] = self.predict_proba(X).argmax(axis=1)
        return clusters

    @available_if(_has_components)
    def fit_predict(self, X: ArrayLike, y: Any = None) -> NDArray[np.intp]:
        """Fit, and return the most probable component of every observation."""
        clusters: NDArray[np.intp] = self.fit(X, y).predict(X)
        return clusters

    @available_if(_has_components)
    def cluster_weights(self) -> Floats:
        """Mixing weights of the components, shape ``(K,)``."""
        check_is_fitted(self)
        return cast("MixturePrior", self.module_.prior).weights.detach().numpy()

    @torch.no_grad()
    def sample(
        self, n_samples: int = 1, component: int | None = None, noise: bool = True
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Draw observations from the model: a latent position from the prior, decoded.

        Parameters
        ----------
        n_samples
            Number of observations.
        component
            Component of the prior to draw from; by default components are drawn by their weights.
        noise
            Whether to draw from the likelihood; ``False`` for its mean.

        Returns
        -------
        Observations ``(n_samples, n_features)`` and the component that each was drawn from ``(n_samples,)``,
        as scikit-learn's mixtures do; zeros where the prior has no components. The same for every call if
        ``random_state`` is a number.
        """
        check_is_fitted(self)
        require_integer("n_samples", n_samples)
        generator = self._generator()
        prior = self.module_.prior
        if not isinstance(prior, MixturePrior):
            if component is not None:
                raise ValueError(f"`component` must be None: a {type(prior).__name__} has no components.")
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
        """Importance-sampled log-likelihood of every observation, in nats, shape ``(n,)``.

        A lower bound in expectation, which rises with ``n_samples``. All observations share their noise, so
        that the value of one does not depend on the others.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``.
        n_samples
            Number of samples of each posterior.
        """
        x = self._checked(X)
        require_integer("n_samples", n_samples)
        noise = torch.randn(n_samples, 1, self.n_latent, generator=self._generator())
        return torch.cat([self.module_.log_likelihoods(rows, noise)[0] for rows in in_chunks(x)]).numpy()

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Mean of :meth:`score_samples`."""
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        """Number of columns that :meth:`transform` returns, for scikit-learn's names of features."""
        return self.n_latent

    def _checked(self, X: ArrayLike) -> Tensor:
        check_is_fitted(self)
        array = validate_data(self, X, dtype=np.float32, reset=False)
        self._check_values(array)
        return torch.from_numpy(array)

    def _generator(self) -> torch.Generator:
        seed = int(check_random_state(self.random_state).randint(LARGEST_SEED))
        return torch.Generator().manual_seed(seed)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether training has ended."""
        return hasattr(self, "history_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what it can expect."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.non_deterministic = self.random_state is None
        tags.input_tags.positive_only = self.likelihood == "bernoulli"
        return tags
