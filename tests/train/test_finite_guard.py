"""From the first loss on that is not finite no parameter changes, although the device is asked much later."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vmmscvi.train import NonFiniteTrainingError
from vmmscvi.train._finite import STEPS_BETWEEN_CHECKS, FiniteGuard


def losses(*values: float) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(loss=torch.tensor(value), _asdict=lambda value=value: {"nll": torch.tensor(value)})
        for value in values
    ]


def step(module: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_parameters_stay_as_they_were_before_the_first_bad_loss(bad: float) -> None:
    module, guard = nn.Linear(2, 1), FiniteGuard()
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    first, second, *rest = losses(1.0, bad, 1.0, 2.0)
    guard.guard("a", first, optimizer, module, 0)
    before = module.weight.detach().clone()
    step(module, optimizer)
    kept = module.weight.detach().clone()
    assert not torch.equal(kept, before)
    for loss in (second, *rest):
        guard.guard("a", loss, optimizer, module, 0)
        step(module, optimizer)
        assert torch.equal(module.weight, kept)
    with pytest.raises(NonFiniteTrainingError, match=r"stopped in epoch 4: the loss became NaN"):
        guard.check(module, 3)
    guard.check(module, 4)  # what was read is forgotten


def test_the_loss_is_read_every_so_many_steps() -> None:
    module, guard = nn.Linear(2, 1), FiniteGuard()
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    (bad,) = losses(float("nan"))
    n_unread = 0
    with pytest.raises(NonFiniteTrainingError, match="nll became NaN"):
        for _ in range(4 * STEPS_BETWEEN_CHECKS):
            guard.guard("a", bad, optimizer, module, 0)
            n_unread += 1
    assert n_unread == 2 * STEPS_BETWEEN_CHECKS - 1  # two losses to a minibatch


def test_an_optimizer_that_cannot_skip_a_step_is_stopped_before_it() -> None:
    module, guard = nn.Linear(2, 1), FiniteGuard()
    (bad,) = losses(float("nan"))
    with pytest.raises(NonFiniteTrainingError):
        guard.guard("a", bad, torch.optim.SGD(module.parameters(), lr=0.1), module, 0)
