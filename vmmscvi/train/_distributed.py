"""Several processes that train one model: what they have to agree on beyond what torch's DDP averages."""

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
    """Whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def leave_prior_to_plan(plan: nn.Module, prior: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Tell DDP to look after neither parameters that empirical-Bayes steps fit, nor the prior's buffers.

    DDP records sizes before training, but the number of components may change in it. Gradients are averaged
    by :func:`average_gradients` instead.

    Parameters
    ----------
    plan
        What DDP is going to wrap.
    prior
        The prior.
    parameters
        Parameters that are fitted by empirical-Bayes steps.
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
    """Give all processes the first one's parameters and buffers; nothing to do in a single process.

    Parameters
    ----------
    module
        A module whose tensors have the same shapes everywhere.
    buffers_only
        Whether parameters are known to be the same.
    """
    if is_distributed():
        for tensor in chain(() if buffers_only else module.parameters(), module.buffers()):
            value = tensor.data.contiguous()  # as broadcasts want it; a weight may lie transposed in memory
            dist.broadcast(value, src=0)
            tensor.data.copy_(value)


def shared(value: Any) -> Any:
    """Return the first process's value of a picklable object."""
    values = [value]
    if is_distributed():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def union(values: set[int]) -> set[int]:
    """Union of the sets of all processes."""
    if not is_distributed():
        return values
    sets: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(sets, values)
    return set().union(*sets)


def require_same_split(trainer: pl.Trainer) -> None:
    """Check that all processes train on the same cells, of which each then takes its share.

    Parameters
    ----------
    trainer
        The trainer.

    Raises
    ------
    ValueError
        If they were split by different random states.
    """
    indices = getattr(trainer.datamodule, "train_idx", None)  # type: ignore[attr-defined]
    if not is_distributed() or indices is None:
        return
    own = torch.as_tensor(indices).tolist()
    same: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(same, own == shared(own))
    if not all(same):
        raise ValueError(
            "Processes have split the cells differently, and would train on each other's validation cells: "
            "set `scvi.settings.seed` to the same number in all of them."
        )
