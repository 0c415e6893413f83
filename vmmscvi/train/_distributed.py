"""Agreement between processes that train one model, beyond the averaging of torch's DDP."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    import lightning.pytorch as pl


def is_distributed() -> bool:
    """Return whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def leave_prior_to_plan(plan: nn.Module, prior: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Exclude from DDP the parameters of empirical-Bayes steps and the prior's buffers.

    DDP records sizes before training, but the number of components may change during training.
    :func:`average_gradients` averages the gradients instead.

    Parameters
    ----------
    plan
        The module that DDP will wrap.
    prior
        The prior.
    parameters
        Parameters that empirical-Bayes steps fit.
    """
    ignored = {id(tensor) for tensor in chain(parameters, prior.buffers())}
    named = chain(plan.named_parameters(), plan.named_buffers())
    names = [name for name, tensor in named if id(tensor) in ignored]
    ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(plan, names)  # type: ignore[no-untyped-call]


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes."""
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


@torch.no_grad()
def share(module: nn.Module, buffers_only: bool = False) -> None:
    """Copy parameters and buffers of the first process to all others; do nothing in a single process.

    Parameters
    ----------
    module
        A module whose tensors have the same shapes in all processes.
    buffers_only
        Whether parameters are known to be equal.
    """
    if is_distributed():
        for tensor in chain(() if buffers_only else module.parameters(), module.buffers()):
            value = tensor.data.contiguous()  # required for broadcasts; a weight may be stored transposed
            dist.broadcast(value, src=0)
            tensor.data.copy_(value)


def shared(value: Any) -> Any:
    """Return the first process's value of a picklable object."""
    values = [value]
    if is_distributed():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def union(values: set[int]) -> set[int]:
    """Return the union of the sets of all processes."""
    if not is_distributed():
        return values
    sets: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(sets, values)
    return set().union(*sets)


def require_same_split(trainer: pl.Trainer) -> None:
    """Check that all processes have the same training cells, before each takes its share.

    Parameters
    ----------
    trainer
        The trainer.

    Raises
    ------
    ValueError
        If the splits differ between processes.
    """
    indices = getattr(trainer.datamodule, "train_idx", None)  # type: ignore[attr-defined]
    if not is_distributed() or indices is None:
        return
    own = torch.as_tensor(indices).tolist()
    same: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(same, own == shared(own))
    if not all(same):
        raise ValueError(
            "Processes have split the cells differently and would train on each other's validation cells: "
            "set `scvi.settings.seed` to the same number in all of them."
        )
