"""Arguments of the Trainer that need care, because two optimizers take turns."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch.accelerators import Accelerator, MPSAccelerator
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from vmmscvi._upstream import LoudEarlyStopping, merge_kwargs

ARGUMENTS_OF_TRAIN = ("max_epochs", "accelerator", "devices", "early_stopping", "early_stopping_patience")
"""Arguments that ``train`` passes to the Trainer itself; they override a ``trainer_config``."""
PATIENCE = 45
"""Default patience of early stopping in epochs, as in scvi-tools."""
CLIPPING = ("gradient_clip_val", "gradient_clip_algorithm")
"""Arguments of the Trainer that the training plan handles."""
PRECISIONS = ("32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")
FIND_UNUSED = "find_unused_parameters"


def whole_number(name: str, value: Any, smallest: int = 1) -> int:
    """Read a whole number: an integer of any type, or a float without a fraction.

    Parameters
    ----------
    name
        Name of the argument, for the message.
    value
        Value of the argument.
    smallest
        Smallest allowed number.

    Returns
    -------
    int
        The number.

    Raises
    ------
    ValueError
        If ``value`` is not a whole number, or is smaller than ``smallest``.
    """
    is_number = isinstance(value, int | np.integer | float | np.floating) and not isinstance(value, bool)
    if not is_number or value != value or math.isinf(value) or int(value) != value or value < smallest:
        least = "a positive integer" if smallest == 1 else f"an integer of at least {smallest}"
        raise ValueError(f"`{name}` must be {least}, found {value!r}.")
    return int(value)


def merge_trainer_config(trainer_config: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Merge a ``trainer_config`` with the arguments of the Trainer; the arguments take precedence.

    Parameters
    ----------
    trainer_config
        A mapping, a :class:`scvi.train.TrainerConfig`, or ``None``.
    kwargs
        Arguments of the Trainer.

    Returns
    -------
    dict
        Merged arguments.
    """
    config = merge_kwargs(trainer_config, None, name="trainer")
    config = {name: value for name, value in config.items() if name not in ARGUMENTS_OF_TRAIN}
    return {**config, **kwargs}


def early_stopping_asked(
    early_stopping: bool | None, patience: int | None, trainer_config: Any
) -> tuple[bool | None, int]:
    """Complete the arguments of early stopping from a ``trainer_config``.

    Parameters
    ----------
    early_stopping, patience
        Arguments of ``train``; ``None`` if not given.
    trainer_config
        As in :func:`merge_trainer_config`. ``early_stopping=False`` in a :class:`scvi.train.TrainerConfig`
        is ignored, because it cannot be distinguished from its default.

    Returns
    -------
    tuple[bool | None, int]
        Whether to stop early (``None`` if not given anywhere), and the patience in epochs.
    """
    config = merge_kwargs(trainer_config, None, name="trainer")
    wanted = config.get("early_stopping")
    if wanted or isinstance(trainer_config, Mapping):
        early_stopping = wanted if early_stopping is None else early_stopping
    patience = config.get("early_stopping_patience") if patience is None else patience
    return early_stopping, PATIENCE if patience is None else patience


def take_clipping(trainer_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Move the arguments for gradient clipping from the Trainer to the plan.

    Parameters
    ----------
    trainer_kwargs
        Arguments of the Trainer; changed in place.

    Returns
    -------
    dict
        Arguments of the plan.
    """
    found = {name: trainer_kwargs.pop(name, None) for name in CLIPPING}
    return {name: value for name, value in found.items() if value is not None}


def n_processes(trainer_kwargs: Mapping[str, Any], accelerator: str | Accelerator, devices: Any) -> int:
    """Count the processes of a training; each has its own minibatch.

    Parameters
    ----------
    trainer_kwargs
        Arguments of the Trainer.
    accelerator, devices
        As in :meth:`scvi.model.SCVI.train`.

    Returns
    -------
    int
        Number of processes on all nodes.
    """
    if not is_ddp(trainer_kwargs.get("strategy")):
        return 1
    if isinstance(devices, str) and "," in devices:
        devices = [device for device in devices.split(",") if device.strip()]
    if isinstance(devices, list | tuple):
        n_devices = len(devices)
    elif str(devices) in ("auto", "-1"):
        n_devices = 1 if accelerator == "cpu" else max(1, torch.cuda.device_count())
    else:
        n_devices = int(devices)
    return n_devices * int(trainer_kwargs.get("num_nodes") or 1)


def is_ddp(strategy: str | Strategy | None) -> bool:
    """Return whether a strategy replicates the model in several processes."""
    return "ddp" in strategy if isinstance(strategy, str) else isinstance(strategy, DDPStrategy)


def early_stopping_of(trainer_kwargs: dict[str, Any], patience: int) -> LoudEarlyStopping:
    """Make the callback of early stopping, which scvi-tools omits if there are several processes.

    Parameters
    ----------
    trainer_kwargs
        Arguments of the Trainer; changed in place to validate in every epoch.
    patience
        Epochs without improvement before training stops.

    Returns
    -------
    LoudEarlyStopping
        The callback.
    """
    trainer_kwargs["check_val_every_n_epoch"] = trainer_kwargs.get("check_val_every_n_epoch") or 1
    return LoudEarlyStopping(
        monitor=trainer_kwargs.get("early_stopping_monitor", "elbo_validation"),
        min_delta=trainer_kwargs.get("early_stopping_min_delta", 0.0),
        patience=patience,
        mode=trainer_kwargs.get("early_stopping_mode", "min"),
        warmup_epochs=trainer_kwargs.get("early_stopping_warmup_epochs", 0),
    )


def check_trainer_arguments(
    trainer_kwargs: Mapping[str, Any], accelerator: str | Accelerator, batch_size: Any
) -> None:
    """Check the Trainer's arguments early, before any work is done.

    Parameters
    ----------
    trainer_kwargs
        Arguments of the Trainer.
    accelerator
        The requested accelerator.
    batch_size
        Cells in a minibatch.

    Raises
    ------
    ValueError
        If an argument is not supported. The message names its value and an alternative.
    FileNotFoundError
        If there is no checkpoint at ``ckpt_path``.
    """
    whole_number("batch_size", batch_size)
    n_accumulated = trainer_kwargs.get("accumulate_grad_batches") or 1
    if n_accumulated != 1:
        raise ValueError(
            f"`accumulate_grad_batches` must be 1, found {n_accumulated}, because two optimizers take turns "
            f"on every minibatch: pass `batch_size={n_accumulated * batch_size}` instead of {batch_size}."
        )
    precision = trainer_kwargs.get("precision")
    if precision is not None and str(precision) not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {PRECISIONS}, found {precision!r}, because data and prior are in "
            "float32: pass 'bf16-mixed' for half precision in the networks."
        )
    _check_strategy(trainer_kwargs.get("strategy") or "auto")
    _check_mps(accelerator)
    path = trainer_kwargs.get("ckpt_path")
    if path is not None and not os.path.exists(path):
        raise FileNotFoundError(f"`ckpt_path`: there is no checkpoint at {os.fspath(path)!r}.")


def _check_strategy(strategy: str | Strategy) -> None:
    if isinstance(strategy, str):
        distributed, finds = "ddp" in strategy, FIND_UNUSED + "_true" in strategy
        if not distributed and strategy != "auto":
            raise ValueError(
                f"`strategy` must be 'auto' or 'ddp_{FIND_UNUSED}_true', found {strategy!r}: every device "
                "needs complete networks and prior."
            )
    else:
        distributed = isinstance(strategy, DDPStrategy)
        finds = isinstance(strategy, DDPStrategy) and bool(strategy._ddp_kwargs.get(FIND_UNUSED))
        if not distributed and not isinstance(strategy, SingleDeviceStrategy):
            raise ValueError(
                "`strategy` must be a DDPStrategy or a SingleDeviceStrategy, "
                f"found {type(strategy).__name__}."
            )
    if distributed and not finds:
        raise ValueError(
            f"`strategy` must be 'ddp_{FIND_UNUSED}_true', or a DDPStrategy with `{FIND_UNUSED}=True`, found "
            f"{strategy!r}: each of the two training steps uses only some of the parameters."
        )


def _check_mps(accelerator: str | Accelerator) -> None:
    is_mps = accelerator == "mps" or isinstance(accelerator, MPSAccelerator)
    if is_mps and os.environ.get("PYTORCH_ENABLE_MPS_FALLBACK") != "1":
        raise ValueError(
            "`accelerator='mps'` lacks some of the prior's linear algebra: set the environment variable "
            "PYTORCH_ENABLE_MPS_FALLBACK=1 before starting Python, or pass `accelerator='cpu'`."
        )


def check_optimization(lr: float, gradient_clip_algorithm: str, **positive: float | None) -> None:
    """Check arguments of the training plan.

    Parameters
    ----------
    lr
        Learning rate; zero trains nothing, as in scvi-tools.
    gradient_clip_algorithm
        ``"norm"`` or ``"value"``.
    **positive
        Numbers that must be positive, or ``None``.

    Raises
    ------
    ValueError
        Names the argument and its value.
    """
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be positive, found {value}.")
    if not lr >= 0:
        raise ValueError(f"`lr` must be positive, found {lr}.")
    if gradient_clip_algorithm not in ("norm", "value"):
        raise ValueError(
            f"`gradient_clip_algorithm` must be 'norm' or 'value', found {gradient_clip_algorithm!r}."
        )
