"""What two processes that train one model have to agree on, with two real processes and no training."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import nn

from vmmscvi.train._distributed import (
    average_gradients,
    is_distributed,
    leave_prior_to_plan,
    require_same_split,
    share,
    shared,
    union,
)
from vmmscvi.train._resume import _of_all_processes

needs_fork = pytest.mark.skipif(
    sys.platform != "linux", reason="processes are forked, which is safe on Linux"
)

OnBoth = Callable[[Callable[[int], Any]], list[Any]]


@pytest.fixture
def on_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnBoth:
    """Run a function in two processes of one group; returns what they return or raise, by rank."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def work(function: Callable[[int], Any], rank: int, pipe: Any) -> None:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=rank, world_size=2)
        try:
            pipe.send(function(rank))
        except ValueError as error:
            pipe.send(error)
        dist.destroy_process_group()

    def run(function: Callable[[int], Any]) -> list[Any]:
        fork = multiprocessing.get_context("fork")
        pipes = [fork.Pipe(duplex=False) for _ in range(2)]
        processes = [fork.Process(target=work, args=(function, i, pipes[i][1])) for i in range(2)]
        for process in processes:
            process.start()
        try:
            assert all(reader.poll(60) for reader, _ in pipes), "the processes hang"
            return [reader.recv() for reader, _ in pipes]
        finally:
            for process in processes:
                process.join(10)
                process.kill()

    return run


def layer(rank: int) -> nn.Module:
    """A layer with a buffer, all of whose numbers are the rank."""
    module = nn.BatchNorm1d(3)
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.fill_(rank)
    return module


def values(module: nn.Module) -> dict[str, list[float]]:
    return {name: value.reshape(-1).tolist() for name, value in module.state_dict().items()}


@needs_fork
def test_gradients_become_their_mean_and_missing_ones_stay_missing(on_both: OnBoth) -> None:
    def average(rank: int) -> list[Any]:
        parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
        parameters[0].grad = torch.tensor([1.0, -4.0]) if rank == 0 else torch.tensor([3.0, 2.0])
        average_gradients(parameters)
        return [None if p.grad is None else p.grad.tolist() for p in parameters]

    assert on_both(average) == [[[2.0, -1.0], None]] * 2


@needs_fork
@pytest.mark.parametrize("buffers_only", [False, True])
def test_all_processes_get_the_first_ones_tensors(on_both: OnBoth, buffers_only: bool) -> None:
    def share_layer(rank: int) -> dict[str, list[float]]:
        module = layer(rank + 5)
        share(module, buffers_only=buffers_only)
        return values(module)

    first, second = on_both(share_layer)
    assert first == values(layer(5))
    parameters = values(layer(6 if buffers_only else 5))
    assert second == {**first, "weight": parameters["weight"], "bias": parameters["bias"]}


@needs_fork
def test_a_weight_that_lies_transposed_in_memory_is_shared_entry_by_entry(on_both: OnBoth) -> None:
    def share_weight(rank: int) -> tuple[list[Any], bool]:
        module = nn.Linear(2, 3, bias=False)
        content = torch.arange(6.0).reshape(3, 2) if rank == 0 else torch.zeros(3, 2)
        module.weight.data = content.T.contiguous().T if rank == 1 else content
        share(module)
        return module.weight.tolist(), module.weight.is_contiguous()

    expected = torch.arange(6.0).reshape(3, 2).tolist()
    assert on_both(share_weight) == [(expected, True), (expected, False)]


@needs_fork
def test_objects_are_the_first_processs_and_sets_are_united(on_both: OnBoth) -> None:
    def agree(rank: int) -> tuple[bool, Any, set[int], list[Any]]:
        return is_distributed(), shared({"rank": rank}), union({rank, 7}), _of_all_processes({"rank": rank})

    both = [{"rank": 0}, {"rank": 1}]
    assert on_both(agree) == [(True, {"rank": 0}, {0, 1, 7}, both)] * 2


@needs_fork
def test_processes_that_train_on_the_same_cells_go_on(on_both: OnBoth) -> None:
    def split(rank: int) -> Any:
        trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(train_idx=torch.tensor([1, 2, 3])))
        return require_same_split(trainer)

    assert on_both(split) == [None, None]


@needs_fork
def test_processes_that_split_cells_differently_are_all_stopped(on_both: OnBoth) -> None:
    def split(rank: int) -> Any:
        trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(train_idx=torch.tensor([1, 2, 3 + rank])))
        return require_same_split(trainer)

    for found in on_both(split):
        assert isinstance(found, ValueError) and "scvi.settings.seed" in str(found)


def test_a_single_process_has_nothing_to_agree_on() -> None:
    module = layer(3)
    share(module)
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(train_idx=torch.arange(3)))
    require_same_split(trainer)
    assert values(module) == values(layer(3))
    assert (is_distributed(), shared(4), union({1}), _of_all_processes({})) == (False, 4, {1}, [{}])


def test_ddp_leaves_alone_what_the_prior_owns_and_nothing_else() -> None:
    plan, prior = nn.Module(), nn.BatchNorm1d(2)
    plan.networks, plan.prior, plan.inputs = nn.BatchNorm1d(2), prior, nn.Linear(2, 1)
    prior.bias.requires_grad_(False)  # not fitted by empirical-Bayes steps
    leave_prior_to_plan(plan, prior, [prior.weight, plan.inputs.weight])
    ignored = set(plan._ddp_params_and_buffers_to_ignore)
    assert ignored == {
        "prior.weight",
        "inputs.weight",
        "prior.running_mean",
        "prior.running_var",
        "prior.num_batches_tracked",
    }
