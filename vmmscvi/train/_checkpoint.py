"""Checkpoints from which an interrupted training resumes exactly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback, Checkpoint

if TYPE_CHECKING:
    import lightning.pytorch as pl


class ResumableCheckpoint(Callback):
    """Save the state of the training between epochs, so that training can be resumed.

    The file holds the weights, the states of both optimizers, random states, the split of the data, the
    history, and the states of early stopping and best epoch. It is replaced in one step: if the process is
    killed, the file of the last saved epoch is complete. It can be read without executing code.

    Parameters
    ----------
    path
        The file. Its folder is created if it does not exist.
    every_n_epochs
        Number of epochs between two checkpoints. A last one is saved when training ends.

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
        """The file, or ``None`` if it does not exist; pass it as ``ckpt_path`` in a script that may rerun."""
        return self.path if self.path.exists() else None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the folder, and add the callback that saves after all others have run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not any(isinstance(callback, _AfterEpoch) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            # added only now: given a checkpoint callback, scvi-tools would add another one
            trainer.callbacks.append(_AfterEpoch(self))  # type: ignore[attr-defined]

    def save(self, trainer: pl.Trainer) -> None:
        """Save the state of the training; call it in all processes.

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
    """Save last: Lightning calls checkpoints after early stopping has decided and the epoch is logged."""

    def __init__(self, checkpoint: ResumableCheckpoint) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        n_epochs = trainer.current_epoch + 1
        is_last = trainer.should_stop or n_epochs == trainer.max_epochs
        if is_last or n_epochs % self._checkpoint.every_n_epochs == 0:
            self._checkpoint.save(trainer)
