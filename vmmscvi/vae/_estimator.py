"""The scikit-learn interface of the variational auto-encoders of this package."""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any, Self, cast, get_args

import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import Callback
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import nn

from vmmscvi.priors import Prior
from vmmscvi.vae._checks import require_image_shape, require_integer, require_positive
from vmmscvi.vae._data import ArrayDataModule, Indices, as_tensor, split_rows
from vmmscvi.vae._fitted import LARGEST_SEED, FittedArrayVAE, Floats
from vmmscvi.vae._fitting import Precision, TrainingOptions, seeded, train_module
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


class ArrayEstimator(FittedArrayVAE, TransformerMixin, DensityMixin, BaseEstimator, ABC):
    """A variational auto-encoder as a scikit-learn estimator.

    Subclasses choose the prior and its initialisation, and store their parameters unchanged.
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
    precision: Precision
    random_state: int | RandomState | None
    module_: ArrayVAE
    history_: pd.DataFrame
    train_indices_: Indices
    validation_indices_: Indices
    n_features_in_: int

    # -- implemented by subclasses ---------------------------------------------------------------------------

    @abstractmethod
    def _build_prior(self) -> Prior:
        """Make the prior."""

    @abstractmethod
    def _prepare(self, data: ArrayDataModule, seed: int) -> tuple[list[Callback], TrainingOptions]:
        """Return callbacks and options of the training; initialise what depends on the data."""

    @abstractmethod
    def _check_parameters(self, n_rows: int) -> None:
        """Raise a ``ValueError`` for invalid parameters."""

    # -- fitting ---------------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train networks and prior.

        If training fails, the result of an earlier fit is kept.

        Parameters
        ----------
        X
            Observations, shape ``(n, n_features)``. Images are flattened.
        y
            Ignored.

        Returns
        -------
        Self
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, or ``X`` is not a finite matrix of values that the likelihood
            allows.
        NonFiniteTrainingError
            If a loss becomes NaN or infinite. Without an earlier fit, the estimator is then not fitted;
            with early stopping, ``module_`` has the weights of the best epoch.
        """
        earlier = self._fitted_attributes() if self.__sklearn_is_fitted__() else None
        try:
            self._fit(X)
        except BaseException:  # includes an interruption by the user
            if earlier is not None:
                for name in self._fitted_attributes():
                    delattr(self, name)
                for name, value in earlier.items():
                    setattr(self, name, value)
            raise
        return self

    def _fitted_attributes(self) -> dict[str, Any]:
        """Return the attributes set by fitting, whose names end with an underscore."""
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def _fit(self, X: ArrayLike) -> None:
        # contiguous, because rounding of sums over rows depends on the order in memory
        array = np.ascontiguousarray(validate_data(self, X, dtype=np.float32, ensure_min_samples=2))
        self._check_parameters(len(array))
        self._check_values(array)
        seed = int(check_random_state(self.random_state).randint(LARGEST_SEED))
        train, validation = split_rows(len(array), self.validation_fraction, seed)
        data = ArrayDataModule(as_tensor(array), train, validation, self.batch_size, seed)
        with seeded(seed):  # networks first, so their weights do not depend on the prior
            self.module_ = self._build_module(array[train])
            callbacks, options = self._prepare(data, seed)
        self.train_indices_, self.validation_indices_ = train, validation
        users = deepcopy(self.callbacks or [])
        self.history_ = train_module(self.module_, data, options, [*users, *callbacks], seed)

    def _build_module(self, training_rows: Floats) -> ArrayVAE:
        n_features = training_rows.shape[1]
        encoder, decoder = self._networks(n_features)
        # the noise of a constant decoder
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
        # a module given by the user is a parameter, which fitting must not change
        networks = (
            deepcopy(network) if network in (self.encoder, self.decoder) else network
            for network in (encoder, decoder)
        )
        return cast("tuple[nn.Module, nn.Module]", tuple(networks))

    def _check_values(self, array: Floats) -> None:
        if self.likelihood == "bernoulli" and (array.min() < 0 or array.max() > 1):
            raise ValueError(
                f"`X` must be between 0 and 1 for likelihood='bernoulli', found values between "
                f"{array.min():g} and {array.max():g}."
            )

    def _check_common(self, n_rows: int) -> None:
        """Check the parameters that all estimators share."""
        for name in ("n_latent", "n_components", "max_epochs", "batch_size", "patience"):
            require_integer(name, getattr(self, name))
        require_positive("lr", self.lr)
        if self.precision not in get_args(Precision):
            raise ValueError(f"`precision` must be one of {get_args(Precision)}, found {self.precision!r}.")
        fraction = self.validation_fraction
        if not 0 <= fraction < 1 or n_rows - math.ceil(fraction * n_rows) < 1:
            raise ValueError(
                f"`validation_fraction` must be at least 0 and leave training rows, found {fraction} for "
                f"{n_rows} rows."
            )
        for name in ("encoder", "decoder"):
            network = getattr(self, name)
            if not isinstance(network, nn.Module) and network not in ("mlp", "cnn"):
                raise ValueError(f"`{name}` must be 'mlp', 'cnn' or a torch Module, found {network!r}.")

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.non_deterministic = self.random_state is None
        tags.input_tags.positive_only = self.likelihood == "bernoulli"
        return tags
