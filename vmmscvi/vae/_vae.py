"""The VAE with an interchangeable prior, for arrays."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal, get_args

from lightning.pytorch.callbacks import Callback
from numpy.random import RandomState
from torch import nn

from vmmscvi.model._pace import Warmup
from vmmscvi.priors import (
    BayesianMixturePrior,
    Inference,
    MixturePrior,
    Prior,
    PriorConfig,
    PriorName,
    WishartScale,
)
from vmmscvi.starts import FromCells, FromEmbedding, InitialisePrior
from vmmscvi.vae._checks import require_positive
from vmmscvi.vae._data import ArrayDataModule
from vmmscvi.vae._estimator import ArrayEstimator
from vmmscvi.vae._fitted import Floats
from vmmscvi.vae._fitting import Precision, TrainingOptions
from vmmscvi.vae._likelihoods import LikelihoodName
from vmmscvi.vae._module import ArrayVAE
from vmmscvi.vae._networks import Architecture, Covariance

ArrayStart = Literal["cells", "embedding"]

DEFAULTS: dict[str, dict[str, Any]] = {
    "cells": {"wishart_scale": "paper", "prior_lr_ratio": 1.0},
    "embedding": {"wishart_scale": "learned", "prior_lr_ratio": 5.0},
    "many rows": {"wishart_scale": "paper", "prior_lr_ratio": 0.2},
}
"""Defaults by initialisation: the paper's values, those of :class:`vmmscvi.SCVI_VMM`, and those of
``start=None`` with many rows, where the prior is slow because components must outlast the first epochs."""
MANY_ROWS = 20_000
"""Training rows from which the paper's initialisation is the default."""


class VAE(ArrayEstimator):
    """Variational auto-encoder for arrays with the priors of this package, as a scikit-learn estimator.

    Parameters
    ----------
    prior
        ``"vmm"`` (default), ``"gmm"``, ``"vampprior"``, ``"standard_normal"``, or an instance of
        :class:`vmmscvi.priors.Prior`, which is copied.
    n_components
        Largest number of clusters.
    n_latent
        Dimension of the latent space.
    encoder, decoder
        ``"mlp"`` (default; 500-500-2000 and its mirror, as in the paper), ``"cnn"``, or your own networks:
        an encoder from ``(n, n_features)`` to hidden features of any width, and a decoder from
        ``(n, n_latent)`` to ``(n, n_features)``. They are copied.
    image_shape
        Channels, height and width for ``"cnn"``; by default one channel and a square.
    likelihood
        ``"gaussian"`` (default) with one learned variance, or ``"bernoulli"`` for values between 0 and 1.
    covariance
        Covariances of the posteriors, ``"full"`` (default) or ``"diagonal"``.
    inference, responsibilities_in_gradient
        See :class:`vmmscvi.priors.BayesianMixturePrior`.
    wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`. By default ``"learned"`` with ``start="embedding"``
        and ``"paper"`` with ``start="cells"``.
    start
        How to initialise a Gaussian-mixture prior: ``"embedding"`` from clusters found after a warm-up
        under N(0, I), as in :meth:`vmmscvi.SCVI_VMM.train`; ``"cells"`` from ``n_components`` random rows
        with the settings of the paper, where training removes components and the batch size influences how
        many remain. By default ``"cells"`` from 20,000 training rows on, and ``"embedding"`` below or if
        ``n_effective`` or ``n_warmup_epochs`` is given: with many rows the warm-up is only a few epochs,
        and its embedding too early for a final search.
    n_effective
        With ``start="embedding"``: effective sample size; 500 by default. See
        :meth:`vmmscvi.SCVI_VMM.train`.
    n_warmup_epochs
        Epochs before the initialisation from the embedding; by default those that make 1000 minibatches.
    max_epochs
        Largest number of epochs.
    batch_size
        Rows in a minibatch.
    lr
        Learning rate of the networks.
    prior_lr_ratio
        Learning rate of the prior as a multiple of ``lr``. By default 5 if the prior is initialised from the
        embedding, 0.2 if it is initialised from rows by default, and 1 with ``start="cells"``, as in the
        paper. Fast priors lose components while the embedding is still immature, and a class without a
        component does not get one back.
    reuse_encoding
        Whether to fit the prior to the latent samples of the variational step, instead of encoding the rows
        again; see :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`. By default (``None``) only if the
        encoder has neither dropout nor batch normalisation; the two options then differ by one step of the
        encoder.
    gradient_clip_val
        See :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`.
    validation_fraction
        Share of rows to hold out for monitoring the training.
    early_stopping
        Whether to stop when the monitored value no longer improves, and to restore the best epoch's weights.
    patience
        Epochs without improvement before training stops.
    monitor, monitor_mode
        The monitored quantity, and whether to minimise (``"min"``) or maximise (``"max"``) it. By default the
        negative ELBO of the validation rows.
    callbacks
        Lightning callbacks; they are copied.
    accelerator, devices
        Hardware to train on, as in Lightning.
    precision
        Precision of the networks in training: ``"32-true"`` (default), or ``"bf16-mixed"`` or
        ``"16-mixed"`` for processors that are faster with 16 bits. The prior's densities stay in 32 bits.
    random_state
        Seed of split, weights, minibatches and samples.
    verbose
        Whether to show a progress bar and reports.

    Attributes
    ----------
    start_
        The initialisation of a Gaussian mixture, ``"embedding"`` or ``"cells"``.
    module_
        The trained PyTorch module.
    history_
        DataFrame of logged quantities, one row for each epoch.
    train_indices_, validation_indices_
        Positions of the training rows and of the held-out rows.

    References
    ----------
    Stirn & Knowles, The VampPrior Mixture Model, arXiv 2402.04412.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 8 - 1
    >>> model = VAE(n_components=30, max_epochs=100, random_state=0)
    >>> clusters = model.fit_predict(X)
    """

    def __init__(
        self,
        prior: PriorName | Prior = "vmm",
        *,
        n_components: int = 100,
        n_latent: int = 10,
        encoder: Architecture | nn.Module = "mlp",
        decoder: Architecture | nn.Module = "mlp",
        image_shape: tuple[int, int, int] | None = None,
        likelihood: LikelihoodName = "gaussian",
        covariance: Covariance = "full",
        inference: Inference = "MAP-DP",
        responsibilities_in_gradient: bool | None = None,
        wishart_scale: WishartScale | None = None,
        start: ArrayStart | None = None,
        n_effective: float | None = None,
        n_warmup_epochs: int | None = None,
        max_epochs: int = 400,
        batch_size: int = 256,
        lr: float = 1e-3,
        prior_lr_ratio: float | None = None,
        reuse_encoding: bool | None = None,
        gradient_clip_val: float | None = None,
        validation_fraction: float = 0.1,
        early_stopping: bool = True,
        patience: int = 45,
        monitor: str = "elbo_validation",
        monitor_mode: Literal["min", "max"] = "min",
        callbacks: list[Callback] | None = None,
        accelerator: str = "auto",
        devices: int | str | list[int] = "auto",
        precision: Precision = "32-true",
        random_state: int | RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.prior = prior
        self.n_components = n_components
        self.n_latent = n_latent
        self.encoder = encoder
        self.decoder = decoder
        self.image_shape = image_shape
        self.likelihood = likelihood
        self.covariance = covariance
        self.inference = inference
        self.responsibilities_in_gradient = responsibilities_in_gradient
        self.wishart_scale = wishart_scale
        self.start = start
        self.n_effective = n_effective
        self.n_warmup_epochs = n_warmup_epochs
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.prior_lr_ratio = prior_lr_ratio
        self.reuse_encoding = reuse_encoding
        self.gradient_clip_val = gradient_clip_val
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.patience = patience
        self.monitor = monitor
        self.monitor_mode = monitor_mode
        self.callbacks = callbacks
        self.accelerator = accelerator
        self.devices = devices
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self, n_rows: int) -> None:
        self._check_common(n_rows)
        if self.prior_lr_ratio is not None:
            require_positive("prior_lr_ratio", self.prior_lr_ratio)
        if self.start is not None and self.start not in get_args(ArrayStart):
            raise ValueError(f"`start` must be one of {get_args(ArrayStart)}, found {self.start!r}.")
        self._check_start()
        if isinstance(self.prior, Prior) and self.prior.n_latent != self.n_latent:
            raise ValueError(
                f"`n_latent` must equal that of `prior`, {self.prior.n_latent}, found {self.n_latent}."
            )

    def _build_module(self, training_rows: Floats) -> ArrayVAE:
        searches = self.n_effective is not None or self.n_warmup_epochs is not None
        default: ArrayStart = "embedding" if searches or len(training_rows) < MANY_ROWS else "cells"
        self.start_ = self.start or default
        return super()._build_module(training_rows)

    def _build_prior(self) -> Prior:
        if isinstance(self.prior, Prior):
            return deepcopy(self.prior)
        return PriorConfig(
            self.prior,
            self.n_components,
            self.inference,
            self.responsibilities_in_gradient,
            self._default(self.wishart_scale, "wishart_scale"),
        ).build(self.n_latent)

    def _check_start(self) -> None:
        given = {"n_effective": self.n_effective, "n_warmup_epochs": self.n_warmup_epochs}
        useless = [name for name, value in given.items() if value is not None]
        if self.start == "cells" and useless:
            raise ValueError(f"{useless} would have no effect: `start` is 'cells'. Leave them out.")
        if self.n_effective is not None and not self.n_effective > 0:
            raise ValueError(f"`n_effective` must be positive, found {self.n_effective}.")
        if self.n_warmup_epochs is not None and not 0 <= self.n_warmup_epochs < self.max_epochs:
            raise ValueError(
                "`n_warmup_epochs` must be at least 0 and less than `max_epochs` "
                f"({self.max_epochs}), found {self.n_warmup_epochs}."
            )

    def _prepare(self, data: ArrayDataModule, seed: int) -> tuple[list[Callback], TrainingOptions]:
        prior = self.module_.latent_prior
        from_embedding = self.start_ == "embedding" and isinstance(prior, BayesianMixturePrior)
        n_train = len(data.train_indices)
        if not from_embedding and prior.uses_pseudo_inputs and isinstance(prior, MixturePrior):
            if prior.n_components > n_train:
                raise ValueError(
                    f"`n_components` must not exceed the number of training rows, {n_train}, found "
                    f"{prior.n_components}."
                )
        n_warmup = self._n_warmup_epochs(n_train) if from_embedding else 0
        reuse = self.reuse_encoding
        options = TrainingOptions(
            max_epochs=self.max_epochs,
            lr=self.lr,
            prior_lr_ratio=self._default(self.prior_lr_ratio, "prior_lr_ratio"),
            reuse_encoding=self.module_.rows_are_independent if reuse is None else reuse,
            gradient_clip_val=self.gradient_clip_val,
            early_stopping=self.early_stopping,
            patience=self.patience,
            monitor=self.monitor,
            monitor_mode=self.monitor_mode,
            accelerator=self.accelerator,
            devices=self.devices,
            precision=self.precision,
            verbose=self.verbose,
        )
        start = FromEmbedding(self.n_effective, seed=seed) if from_embedding else FromCells()
        return [InitialisePrior(start, n_warmup)], options

    def _default(self, value: Any, name: str) -> Any:
        """Return a parameter, or the default for the initialisation if it is not given."""
        if value is not None:
            return value
        return DEFAULTS["many rows" if self.start is None and self.start_ == "cells" else self.start_][name]

    def _n_warmup_epochs(self, n_train: int) -> int:
        if self.n_warmup_epochs is not None:
            return self.n_warmup_epochs
        warmup = Warmup.default(n_train, self.batch_size, self.max_epochs, smallest_batch=1)
        return warmup.n_epochs
