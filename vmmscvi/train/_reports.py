"""Messages during training: progress without a terminal, and no messages meant for developers."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    import lightning.pytorch as pl

logger = logging.getLogger(__name__)

CHATTY = ("lightning.pytorch", "lightning.fabric")
"""Loggers that report devices, hints and the end of a training."""
HARMLESS = (
    r".*does not have many workers",
    r".*number of training batches .* is smaller than the logging interval",
    r".*LeafSpec",
)
"""Patterns of warnings that do not concern users."""
N_REPORTS = 10
"""Number of progress lines per training."""


@contextmanager
def quiet_lightning(*others: str) -> Iterator[None]:
    """Silence Lightning's messages about devices and the end of training; keep errors and other warnings.

    Parameters
    ----------
    *others
        Names of further loggers to keep quiet.
    """
    loggers = [logging.getLogger(name) for name in (*CHATTY, *others)]
    levels = [chatty.level for chatty in loggers]
    try:
        for chatty in loggers:
            chatty.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            for message in HARMLESS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for chatty, level in zip(loggers, levels, strict=True):
            chatty.setLevel(level)


def is_interactive() -> bool:
    """Whether a progress bar can be redrawn: in a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class LogProgress(Callback):
    """Log progress lines instead of a progress bar, which would fill a log file with copies of itself."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log epoch and validation ELBO, about ten times in a training."""
        n_epochs, max_epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        if n_epochs % max(1, max_epochs // N_REPORTS) == 0:
            elbo: Any = trainer.callback_metrics.get("elbo_validation")
            shown = "" if elbo is None else f", validation ELBO {float(elbo):.1f}"
            logger.info("Epoch %s of at most %s%s", n_epochs, max_epochs, shown)


class ReportStopping(Callback):
    """Record whether training stopped early, and silence scvi-tools, which would print the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped_early = False

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read and clear the reason kept by scvi-tools' early stopping, which is printed at teardown."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if getattr(callback, "early_stopping_reason", None) is not None:
                self.stopped_early = True
                callback.early_stopping_reason = None
