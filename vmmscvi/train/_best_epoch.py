"""Early stopping returns the last epoch's weights; this callback puts back the best one's."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

if TYPE_CHECKING:
    import lightning.pytorch as pl

logger = logging.getLogger(__name__)


def copied_state(module: nn.Module) -> dict[str, Any]:
    """Copy the weights of a module, to go back to."""
    return {
        name: value.detach().clone() if isinstance(value, torch.Tensor) else deepcopy(value)
        for name, value in module.state_dict().items()
    }


class RestoreBestEpoch(Callback):
    """Keep the weights of the epoch with the best monitored value, and restore them when training ends.

    They are restored as well when training is interrupted or fails, so that the best model so far is kept.

    Parameters
    ----------
    monitor
        Name of the logged quantity.
    mode
        ``"min"`` or ``"max"``.
    first_epoch
        Epochs before this one are never kept: in a warm-up the monitored value is that of another objective.
    """

    def __init__(self, monitor: str = "elbo_validation", mode: str = "min", first_epoch: int = 0) -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f"`mode` must be 'min' or 'max', found {mode!r}.")
        self.monitor = monitor
        self.mode = mode
        self.first_epoch = first_epoch
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self._best_state: dict[str, Any] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if this epoch is the best so far."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        if trainer.current_epoch < self.first_epoch:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if self._is_better(score):
            self.best_score, self.best_epoch = score, trainer.current_epoch
            self._best_state = copied_state(_module(pl_module))

    def _is_better(self, score: float) -> bool:
        if self.best_score is None:
            return score == score
        return score < self.best_score if self.mode == "min" else score > self.best_score

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the best epoch's weights."""
        self._restore(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the best epoch's weights where a checkpoint of a finished training left nothing to do."""
        self._restore(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the best epoch's weights."""
        self._restore(pl_module)

    def _restore(self, pl_module: pl.LightningModule) -> None:
        if self._best_state is None:
            return
        _module(pl_module).load_state_dict(self._best_state)
        self._best_state = None
        logger.info(
            "Restored the weights of epoch %s (%s = %s).", self.best_epoch, self.monitor, self.best_score
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to remember."""
        return {
            "score": self.best_score,
            "epoch": self.best_epoch,
            "weights": self._best_state,
            "first_epoch": self.first_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped."""
        self.best_score, self.best_epoch = state_dict["score"], state_dict["epoch"]
        self._best_state, self.first_epoch = state_dict["weights"], state_dict["first_epoch"]


def _module(pl_module: pl.LightningModule) -> nn.Module:
    module: Any = pl_module.module
    return module  # type: ignore[no-any-return]
