"""VaDE: an auto-encoder, a Gaussian mixture in its embedding, then joint training of both."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.random import RandomState
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from vmmscvi.priors import PriorState
from vmmscvi.starts._sample import LARGEST_SAMPLE
from vmmscvi.vae._data import ArrayDataModule, draw_rows
from vmmscvi.vae._embedding import embed_rows
from vmmscvi.vae._estimator import ArrayEstimator
from vmmscvi.vae._fitting import Precision, TrainingOptions
from vmmscvi.vae._joint_mixture import JointGaussianMixture
from vmmscvi.vae._likelihoods import LikelihoodName
from vmmscvi.vae._networks import Architecture, Covariance, GaussianHead

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.vae._module import ArrayVAE

logger = logging.getLogger(__name__)

N_INITIALIZATIONS = 5
"""Number of fits of the mixture; the best is used."""
POSTERIOR_SCALE = 0.1
"""Initial standard deviations of the posteriors, in units of those of the embedding. The auto-encoder has not
learned any, and large values would erase its embedding."""
REGULARIZATION = 1e-4
"""Constant added to the variances of the mixture's components."""


class VaDE(ArrayEstimator):
    """Variational deep embedding (VaDE), with a given number of clusters and three stages of training.

    First an auto-encoder is trained without noise in its embedding. Then a Gaussian mixture is fitted to the
    embedding of the training rows. Finally, networks and mixture are trained jointly with the ELBO.

    Parameters
    ----------
    n_components
        Number of clusters.
    n_latent, encoder, decoder, image_shape, likelihood, covariance
        See :class:`vmmscvi.vae.VAE`.
    n_pretrain_epochs
        Epochs of the auto-encoder, included in ``max_epochs``.
    max_epochs, batch_size, lr, gradient_clip_val, validation_fraction, early_stopping, patience, monitor, \
monitor_mode, callbacks, accelerator, devices, precision, random_state, verbose
        See :class:`vmmscvi.vae.VAE`.

    Attributes
    ----------
    module_, history_, train_indices_, validation_indices_
        See :class:`vmmscvi.vae.VAE`.

    References
    ----------
    Jiang, Zheng, Tan, Tang & Zhou, Variational Deep Embedding, IJCAI 2017. Here the components have full
    covariances, as in the other priors.
    """

    def __init__(
        self,
        n_components: int = 10,
        *,
        n_latent: int = 10,
        encoder: Architecture | nn.Module = "mlp",
        decoder: Architecture | nn.Module = "mlp",
        image_shape: tuple[int, int, int] | None = None,
        likelihood: LikelihoodName = "gaussian",
        covariance: Covariance = "full",
        n_pretrain_epochs: int = 20,
        max_epochs: int = 400,
        batch_size: int = 256,
        lr: float = 1e-3,
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
        self.n_components = n_components
        self.n_latent = n_latent
        self.encoder = encoder
        self.decoder = decoder
        self.image_shape = image_shape
        self.likelihood = likelihood
        self.covariance = covariance
        self.n_pretrain_epochs = n_pretrain_epochs
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
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
        if not 0 <= self.n_pretrain_epochs < self.max_epochs:
            raise ValueError(
                f"`n_pretrain_epochs` must be at least 0 and less than `max_epochs` ({self.max_epochs}), "
                f"found {self.n_pretrain_epochs}."
            )
        n_train = n_rows - int(np.ceil(self.validation_fraction * n_rows))
        if self.n_components > n_train:
            raise ValueError(
                f"`n_components` must not exceed the number of training rows, {n_train}, "
                f"found {self.n_components}."
            )

    def _build_prior(self) -> JointGaussianMixture:
        return JointGaussianMixture(self.n_components, self.n_latent)

    def _prepare(self, data: ArrayDataModule, seed: int) -> tuple[list[Callback], TrainingOptions]:
        options = TrainingOptions(
            max_epochs=self.max_epochs,
            lr=self.lr,
            prior_lr_ratio=1.0,
            reuse_encoding=False,
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
        return [PretrainAutoencoder(self.n_pretrain_epochs, seed)], options


class PretrainAutoencoder(Callback):
    """Train an auto-encoder first, then initialise the mixture in its embedding.

    Parameters
    ----------
    n_epochs
        Epochs of the auto-encoder.
    seed
        Seed of the mixture.
    """

    def __init__(self, n_epochs: int, seed: int) -> None:
        super().__init__()
        self.n_epochs = n_epochs
        self.seed = seed

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the auto-encoder, without the prior."""
        _module(pl_module).trains_autoencoder = True
        _module(pl_module).latent_prior.state = PriorState.WARMING_UP

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Initialise the mixture after the epochs of the auto-encoder."""
        if trainer.current_epoch >= self.n_epochs and _module(pl_module).trains_autoencoder:
            self._initialize_mixture(trainer, _module(pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Initialise the mixture if training ends earlier, so that a trained model has clusters."""
        if _module(pl_module).trains_autoencoder:
            self._initialize_mixture(trainer, _module(pl_module))

    def _initialize_mixture(self, trainer: pl.Trainer, module: ArrayVAE) -> None:
        data = cast("ArrayDataModule", trainer.datamodule)  # type: ignore[attr-defined]
        rows = data.x[draw_rows(data.train_indices, LARGEST_SAMPLE, self.seed)]
        prior = cast("JointGaussianMixture", module.latent_prior)
        z = embed_rows(module, rows).z
        mixture = GaussianMixture(
            prior.n_components, n_init=N_INITIALIZATIONS, reg_covar=REGULARIZATION, random_state=self.seed
        ).fit(z.double().numpy())
        device = prior.loc.device
        head = cast("GaussianHead", module.z_encoder[-1])
        head.reset_scale((POSTERIOR_SCALE * z.std(dim=0)).to(device))
        prior.assign_parameters(
            _tensor(mixture.weights_, device),
            _tensor(mixture.means_, device),
            torch.linalg.cholesky(_tensor(mixture.precisions_, device)),
        )
        module.trains_autoencoder = False
        prior.state = PriorState.FITTED
        logger.info("Initialised the mixture of VaDE in the auto-encoder's embedding.")


def _module(pl_module: pl.LightningModule) -> Any:
    return pl_module.module


def _tensor(array: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float64, device=device)
