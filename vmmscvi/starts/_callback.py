"""Timing of the initialisation: before training, or after a warm-up of the networks.

The warm-up has a fixed length, unless the networks overfit before it ends. With few cells and many features
they overfit within a hundred epochs, which blurs clusters. The prior is then initialised at once, in the
embedding of the epoch with the best validation ELBO.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback

from vmmscvi.priors import MixturePrior, PriorState
from vmmscvi.starts._protocol import InitialPrior, Start
from vmmscvi.train._best_epoch import BestWeights
from vmmscvi.train._distributed import share, shared
from vmmscvi.train._resume import early_stoppings

if TYPE_CHECKING:
    import lightning.pytorch as pl

logger = logging.getLogger(__name__)

WARMUP_PATIENCE = 20
"""Epochs of warm-up without a better validation ELBO after which the networks are considered to overfit."""


class InitialisePrior(Callback):
    """Initialise the module's prior and install it.

    If training ends during the warm-up, for example by a time limit, the prior is initialised then, so every
    trained model has clusters.

    Parameters
    ----------
    start
        The initialisation; ``None`` for a prior that is fitted, frozen, or needs none.
    n_warmup_epochs
        Largest number of epochs under N(0, I) before the initialisation.
    patience
        Epochs without a better validation ELBO after which the warm-up ends; ``None`` for no limit.
    """

    def __init__(
        self, start: Start | None, n_warmup_epochs: int = 0, patience: int | None = WARMUP_PATIENCE
    ) -> None:
        super().__init__()
        self.start = start
        self.n_warmup_epochs = n_warmup_epochs
        self.patience = patience
        self.ended_in_warmup = False
        """Whether training ended during the warm-up."""
        self._resumed = False
        self._best = BestWeights("elbo_validation")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Initialise a prior that needs no warm-up, or begin the warm-up."""
        module = _module(pl_module)
        if self.start is None:
            if not module.latent_prior.is_fitted:
                module.latent_prior.state = PriorState.FITTED
            return
        self.start.check(_datamodule(trainer))
        if self.start.needs_warm_up:
            module.latent_prior.state = PriorState.WARMING_UP
        else:
            module.install_prior(*self.start.initialise(module, _datamodule(trainer)))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that a checkpoint, loaded by now, matches the requested initialisation."""
        prior = _module(pl_module).latent_prior
        warms_up = self.start is not None and self.start.needs_warm_up
        if prior.state is PriorState.WARMING_UP and not warms_up:
            raise ValueError("`ckpt_path` is a training in its warm-up: pass the same `start` as then.")
        if self._resumed and warms_up and prior.is_fitted:
            self._describe(trainer, prior)

    def state_dict(self) -> dict[str, Any]:
        """Return the entries of a checkpoint; the prior saves its own state."""
        return {"n_warmup_epochs": self.n_warmup_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the entries of a checkpoint, saved during the warm-up or after it."""
        self.n_warmup_epochs, self._resumed = state_dict["n_warmup_epochs"], True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Initialise the prior when the warm-up is over."""
        if trainer.current_epoch >= self.n_warmup_epochs and _is_waiting(pl_module):
            self._initialise(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the warm-up if the networks overfit, and restore the best weights."""
        if self.patience is None or trainer.sanity_checking or not _is_waiting(pl_module):
            return
        plan: Any = pl_module
        if float(plan.kl_weight) < plan.max_kl_weight:  # the ELBO is not comparable yet
            return
        self._best.look(trainer, _module(pl_module))
        epoch = trainer.current_epoch
        if self._best.epoch is not None and epoch - self._best.epoch >= self.patience:
            logger.info("The networks overfit after epoch %s: ending the warm-up.", self._best.epoch + 1)
            self._best.restore(_module(pl_module))
            self.n_warmup_epochs = epoch + 1
            for stopping in early_stoppings(trainer):
                stopping.warmup_epochs = stopping._current_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Initialise the prior if training ends during the warm-up."""
        if _is_waiting(pl_module):
            self.ended_in_warmup = True
            self._initialise(trainer, pl_module)

    def _initialise(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Initialise and install the prior; one process does it for all, with training cells of all."""
        module: Any = _module(pl_module)
        if trainer.is_global_zero and self.start is not None:
            with torch.random.fork_rng(devices=[]):  # keep the order of minibatches
                found: InitialPrior = self.start.initialise(module, _datamodule(trainer))
            module.install_prior(*found)
        n_components = shared(getattr(module.latent_prior, "n_components", 1))
        if not trainer.is_global_zero:
            module.install_empty_prior(n_components)
        for owner in module.prior_owners():
            for layer in owner.modules():
                if type(layer).get_extra_state is not torch.nn.Module.get_extra_state:
                    layer.set_extra_state(shared(layer.get_extra_state()))
            share(owner)
        plan: Any = pl_module
        plan.prior_was_installed()
        logger.info(
            "Epoch %s: initialised the mixture prior with %s clusters (effective sample size %.0f).",
            trainer.current_epoch, n_components, module.latent_prior.n_effective,
        )  # fmt: skip
        self._describe(trainer, module.latent_prior)

    def _describe(self, trainer: pl.Trainer, prior: Any) -> None:
        """Update the model's saved arguments, which must describe the module."""
        model: Any = getattr(trainer, "_model", None)
        if model is not None and isinstance(prior, MixturePrior):
            model._prior_was_initialised(prior.n_components, self.start)


def _is_waiting(pl_module: pl.LightningModule) -> bool:
    return bool(_module(pl_module).latent_prior.state is PriorState.WARMING_UP)


def _module(pl_module: pl.LightningModule) -> Any:
    return pl_module.module


def _datamodule(trainer: pl.Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]
