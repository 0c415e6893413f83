"""Training for all estimators of this package: data module, training plan and Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from scvi.train import Trainer

from vmmscvi.priors import PriorState
from vmmscvi.train import EmpiricalBayesTrainingPlan, RestoreBestEpoch
from vmmscvi.train._reports import quiet_lightning

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from vmmscvi.vae._data import ArrayDataModule
    from vmmscvi.vae._module import ArrayVAE

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training; see :class:`vmmscvi.vae.VAE` for the fields."""

    max_epochs: int
    lr: float
    prior_lr_ratio: float
    reuse_encoding: bool
    gradient_clip_val: float | None
    early_stopping: bool
    patience: int
    monitor: str
    monitor_mode: Literal["min", "max"]
    accelerator: str
    devices: int | str | list[int]
    precision: Precision
    verbose: bool


class EarlyStoppingAfterWarmup(EarlyStopping):
    """Early stopping that begins when the prior is in use; the arguments are those of Lightning."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the monitored value after the warm-up."""
        module: Any = pl_module.module
        if module.latent_prior.state is not PriorState.WARMING_UP:
            super().on_validation_end(trainer, pl_module)


def train_module(
    module: ArrayVAE,
    data: ArrayDataModule,
    options: TrainingOptions,
    callbacks: Sequence[Callback],
    seed: int,
) -> pd.DataFrame:
    """Train a module in place; leave it on the CPU, in evaluation mode and with cached centres.

    Parameters
    ----------
    module
        The module; trained in place.
    data
        Training and validation rows.
    options
        Options of the training.
    callbacks
        Callbacks to run before early stopping.
    seed
        Seed of minibatches and samples; the global random state is not changed.

    Returns
    -------
    DataFrame
        Logged quantities, one row for each epoch.

    Raises
    ------
    NonFiniteTrainingError
        If a loss becomes NaN or infinite.
    """
    stops_early = options.early_stopping and len(data.validation_indices) > 0
    used = [*callbacks]
    if stops_early:
        criterion: dict[str, Any] = {"monitor": options.monitor, "mode": options.monitor_mode}
        used += [
            EarlyStoppingAfterWarmup(patience=options.patience, **criterion),
            RestoreBestEpoch(**criterion),
        ]
    with seeded(seed), nullcontext() if options.verbose else quiet_lightning("vmmscvi"):
        plan = EmpiricalBayesTrainingPlan(
            module,
            lr=options.lr,
            prior_lr_ratio=options.prior_lr_ratio,
            prior_every_n_steps=1,  # fewer steps have been measured with cells only
            reuse_encoding=options.reuse_encoding,
            gradient_clip_val=options.gradient_clip_val,
        )
        trainer = Trainer(
            max_epochs=options.max_epochs,
            accelerator=options.accelerator,
            devices=options.devices,
            precision=options.precision,
            check_val_every_n_epoch=1,
            callbacks=used,
            enable_progress_bar=options.verbose,
        )
        module.train()
        try:
            trainer.fit(plan, datamodule=data)
        finally:
            module.cpu().eval()
            module.cache_centers()
    return _history(trainer)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch within the context, and restore its random state afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _history(trainer: Trainer) -> pd.DataFrame:
    logged: dict[str, pd.DataFrame] = trainer.logger.history
    of_epochs = [table for name, table in logged.items() if table.index.name == "epoch"]
    return pd.concat(of_epochs, axis=1).astype(float) if of_epochs else pd.DataFrame()
