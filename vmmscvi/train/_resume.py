"""The training state that Lightning's checkpoints omit, and its restoration."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi import settings

from vmmscvi._upstream import LoudEarlyStopping, SimpleLogger
from vmmscvi.train._distributed import leave_prior_to_plan, require_same_split, share

if TYPE_CHECKING:
    import lightning.pytorch as pl

STATE = "vmmscvi"
"""Name of the entry in a checkpoint. It holds only tensors, numbers, strings, lists and dictionaries, so
checkpoints can be read without executing code."""
SPLIT = ("train_idx", "val_idx", "test_idx")


def training_state(trainer: pl.Trainer) -> dict[str, Any]:
    """Collect the seed, random states, split of the data, history, and the progress of early stopping.

    Parameters
    ----------
    trainer
        The trainer. Call the function in all of its processes.

    Returns
    -------
    dict
        Entry of the checkpoint.
    """
    split = {name: getattr(trainer.datamodule, name, None) for name in SPLIT}  # type: ignore[attr-defined]
    return {
        "seed": settings.seed,
        "random": _of_all_processes(random_state()),
        "split": {name: torch.as_tensor(np.asarray(i)) for name, i in split.items() if i is not None},
        "history": _history(trainer),
        "early_stopping": [[e._current_step, e.warmup_epochs] for e in early_stoppings(trainer)],
    }


def restore_split(trainer: pl.Trainer, state: dict[str, Any]) -> None:
    """Restore the split into training and validation cells, whatever the seed.

    Parameters
    ----------
    trainer
        The trainer, after setup of its data module.
    state
        Result of :func:`training_state`.

    Raises
    ------
    ValueError
        If the number of cells differs.
    """
    splitter: Any = trainer.datamodule  # type: ignore[attr-defined]
    saved = {name: indices.numpy() for name, indices in state["split"].items()}
    if not saved or getattr(splitter, "train_idx", None) is None:
        return
    n_saved, n_found = (sum(len(s[n]) for n in saved) for s in (saved, vars(splitter)))
    if n_saved != n_found:
        raise ValueError(
            f"`ckpt_path` holds a training on {n_saved} cells, but the data have {n_found}: pass the same "
            "data."
        )
    for name, indices in saved.items():
        setattr(splitter, name, indices)


def restore_progress(trainer: pl.Trainer, state: dict[str, Any]) -> None:
    """Restore scvi-tools' seed, random states, history, and the progress of early stopping.

    Parameters
    ----------
    trainer
        The trainer, right before its first minibatch.
    state
        Result of :func:`training_state`.
    """
    if state["seed"] is not None:  # initialisation from the embedding draws cells with this seed
        settings.seed = state["seed"]
    processes = state["random"]
    set_random_state(processes[trainer.global_rank % len(processes)])
    if isinstance(trainer.logger, SimpleLogger) and trainer.is_global_zero:
        trainer.logger.experiment.data.update(
            {name: _table(name, **columns) for name, columns in state["history"].items()}
        )
    for callback, (n_validations, n_waiting) in zip(
        early_stoppings(trainer), state["early_stopping"], strict=False
    ):
        callback._current_step, callback.warmup_epochs = n_validations, n_waiting
        if callback.wait_count >= callback.patience:  # the saved training had already stopped
            trainer.should_stop = True


def random_state() -> dict[str, Any]:
    """Return the states of the generators of Python, NumPy and torch, including GPUs."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    return {
        "python": [version, list(internal), gauss_next],
        "numpy": [str(kind), torch.as_tensor(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states returned by :func:`random_state`."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


def _of_all_processes(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states


def early_stoppings(trainer: pl.Trainer) -> list[Any]:
    return [callback for callback in trainer.callbacks if isinstance(callback, LoudEarlyStopping)]  # type: ignore[attr-defined]


def _history(trainer: pl.Trainer) -> dict[str, dict[str, Any]]:
    history: dict[str, dict[str, Any]]
    if not isinstance(trainer.logger, SimpleLogger) or not trainer.is_global_zero:
        return {}
    history = {
        name: {
            "index": [int(i) for i in table.index],
            "index_name": str(table.index.name),
            "values": [float(value) for value in table[name]],
        }
        for name, table in trainer.logger.experiment.data.items()
    }
    for name, value in trainer._logger_connector.metrics["log"].items():  # this epoch, logged next
        table = history.setdefault(name, {"index": [], "index_name": "epoch", "values": []})
        if trainer.current_epoch not in table["index"]:
            table["index"].append(trainer.current_epoch)
            table["values"].append(float(value))
    return history


def _table(name: str, index: list[int], index_name: str, values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({name: values}, index=pd.Index(index, name=index_name), dtype=object)


class ResumableMixin:
    """Resume a training from a checkpoint exactly where it was interrupted."""

    module: Any
    trainer: Any
    _resumed_from: dict[str, Any] | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state that Lightning omits, so that a resumed training continues exactly."""
        checkpoint[STATE] = training_state(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the split, which callbacks read before training; keep the rest for :meth:`on_fit_start`."""
        self._resumed_from = checkpoint.get(STATE)
        if self._resumed_from is not None:
            restore_split(self.trainer, self._resumed_from)

    def setup(self, stage: str) -> None:
        """Exclude the prior from DDP if there are several processes."""
        if self.trainer.world_size > 1:
            plan: Any = self
            leave_prior_to_plan(plan, self.module.latent_prior, self.module.prior_parameters())

    def on_fit_start(self) -> None:
        """Synchronise all processes; restore random states, history and early stopping."""
        require_same_split(self.trainer)
        share(self.module)
        if self._resumed_from is not None:
            restore_progress(self.trainer, self._resumed_from)

    def on_fit_end(self) -> None:
        """Store the centres; needed if the checkpoint was of a finished training and no epoch was run."""
        self.module.cache_centers()
