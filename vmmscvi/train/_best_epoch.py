"""Restore the weights of the best epoch; early stopping alone keeps those of the last."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from vmmscvi.priors import PriorState

if TYPE_CHECKING:
    import lightning.pytorch as pl

logger = logging.getLogger(__name__)


def copied_state(module: nn.Module) -> dict[str, Any]:
    """Copy the weights of a module, to be restored later."""
    return {
        name: value.detach().clone() if isinstance(value, torch.Tensor) else deepcopy(value)
        for name, value in module.state_dict().items()
    }


class BestWeights:
    """The weights of the epoch with the best monitored value so far.

    Parameters
    ----------
    monitor
        Name of the logged quantity.
    mode
        ``"min"`` or ``"max"``.
    """

    def __init__(self, monitor: str, mode: str = "min") -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"`mode` must be 'min' or 'max', found {mode!r}.")
        self.monitor = monitor
        self.mode = mode
        self.score: float | None = None
        self.epoch: int | None = None
        self.weights: dict[str, Any] | None = None

    def look(self, trainer: pl.Trainer, module: nn.Module) -> None:
        """Keep the weights if this epoch is the best so far."""
        if self.monitor not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if self._is_better(score):
            self.score, self.epoch = score, trainer.current_epoch
            self.weights = copied_state(module)

    def _is_better(self, score: float) -> bool:
        if self.score is None:
            return score == score
        return score < self.score if self.mode == "min" else score > self.score

    def restore(self, module: nn.Module) -> bool:
        """Restore the weights, once; return whether there were any."""
        if self.weights is None:
            return False
        module.load_state_dict(self.weights)
        self.weights = None
        return True


class RestoreBestEpoch(Callback):
    """Keep the weights of the epoch with the best monitored value, and restore them when training ends.

    They are also restored if training is interrupted or fails. Epochs of a warm-up are never kept, because
    their monitored value belongs to another objective.

    Parameters
    ----------
    monitor
        Name of the logged quantity.
    mode
        ``"min"`` or ``"max"``.
    first_epoch
        First epoch that may be kept.
    """

    def __init__(self, monitor: str = "elbo_validation", mode: str = "min", first_epoch: int = 0) -> None:
        super().__init__()
        self.best = BestWeights(monitor, mode)
        self.first_epoch = first_epoch

    @property
    def monitor(self) -> str:
        """Name of the logged quantity."""
        return self.best.monitor

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights are kept; ``None`` if there is none."""
        return self.best.epoch

    @property
    def best_score(self) -> float | None:
        """The monitored value of that epoch."""
        return self.best.score

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if this epoch is the best so far."""
        module = _module(pl_module)
        prior = getattr(module, "latent_prior", None)
        warms_up = prior is not None and prior.state is PriorState.WARMING_UP
        if not (trainer.sanity_checking or warms_up or trainer.current_epoch < self.first_epoch):
            self.best.look(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the best epoch's weights."""
        self._restore(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the best epoch's weights if the checkpoint was of a finished training."""
        self._restore(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the best epoch's weights."""
        self._restore(pl_module)

    def _restore(self, pl_module: pl.LightningModule) -> None:
        if self.best.restore(_module(pl_module)):
            logger.info(
                "Restored the weights of epoch %s (%s = %.4g).",
                (self.best.epoch or 0) + 1, self.best.monitor, self.best.score,
            )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the entries of a checkpoint."""
        return {
            "score": self.best.score,
            "epoch": self.best.epoch,
            "weights": self.best.weights,
            "first_epoch": self.first_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the entries of a checkpoint."""
        self.best.score, self.best.epoch = state_dict["score"], state_dict["epoch"]
        self.best.weights, self.first_epoch = state_dict["weights"], state_dict["first_epoch"]


def _module(pl_module: pl.LightningModule) -> nn.Module:
    module: Any = pl_module.module
    return module  # type: ignore[no-any-return]
