"""A file from which an interrupted training goes on as if it had not been interrupted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback, Checkpoint

if TYPE_CHECKING:
    import lightning.pytorch as pl


class ResumableCheckpoint(Callback):
    """Save the state of the training between epochs, so that it can be resumed.

    The file holds weights, the states of both optimizers, random states, the split of the data, the history,
    and what early stopping and the best epoch need. It is replaced in one step: whenever the process is
    killed, there is a complete file of the last epoch that was saved. It can be read without executing code.

    Parameters
    ----------
    path
        The file. Its folder is made if it does not exist.
    every_n_epochs
        Number of epochs between two checkpoints; there is one more when training ends.

    Raises
    ------
    ValueError
        If ``every_n_epochs`` is not a positive integer.

    Examples
    --------
    >>> checkpoint = ResumableCheckpoint("run.ckpt")
    >>> model.train(callbacks=[checkpoint])
    >>> # after an interruption: the same call in a new process, with ``ckpt_path``
    >>> model.train(callbacks=[checkpoint], ckpt_path=checkpoint.path)
    """

    def __init__(self, path: str | os.PathLike[str], every_n_epochs: int = 1) -> None:
        super().__init__()
        if every_n_epochs != int(every_n_epochs) or every_n_epochs < 1:
            raise ValueError(f"`every_n_epochs` must be a positive integer, found {every_n_epochs}.")
        self.path = Path(path)
        self.every_n_epochs = every_n_epochs

    @property
    def resume_path(self) -> Path | None:
        """The file if there is one: what to pass as ``ckpt_path`` in a script that may be started again."""
        return self.path if self.path.exists() else None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the folder, and see to it that every other callback has run when an epoch is saved."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not any(isinstance(callback, _AfterEpoch) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            # not in the first place: scvi-tools would add a checkpoint of its own to one that it is given
            trainer.callbacks.append(_AfterEpoch(self))  # type: ignore[attr-defined]

    def save(self, trainer: pl.Trainer) -> None:
        """Save the state of the training; called on all processes.

        Parameters
        ----------
        trainer
            The trainer.
        """
        unfinished = self.path.with_name(self.path.name + ".unfinished")
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, self.path)
        trainer.strategy.barrier("ResumableCheckpoint")


class _AfterEpoch(Checkpoint):
    """Lightning calls its kind last: early stopping has decided, and the plan has logged the epoch."""

    def __init__(self, checkpoint: ResumableCheckpoint) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        n_epochs = trainer.current_epoch + 1
        is_last = trainer.should_stop or n_epochs == trainer.max_epochs
        if is_last or n_epochs % self._checkpoint.every_n_epochs == 0:
            self._checkpoint.save(trainer)
