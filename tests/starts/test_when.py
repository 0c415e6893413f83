"""When a prior is initialised: after the warm-up, or when the networks overfit, or when training ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from vmmscvi._upstream import LoudEarlyStopping
from vmmscvi.priors import PriorState
from vmmscvi.starts import FromCells, FromEmbedding, InitialisePrior


class Networks(nn.Linear):
    """Weights that tell in which epoch they were, and a prior in some state."""

    def __init__(self, state: PriorState = PriorState.WARMING_UP) -> None:
        super().__init__(1, 1, bias=False)
        self.latent_prior = SimpleNamespace(state=state, is_fitted=state is PriorState.FITTED)


class Watched(InitialisePrior):
    """Counts how often the prior would be initialised."""

    n_calls = 0

    def _initialise(self, trainer: Any, pl_module: Any) -> None:
        self.n_calls += 1


def plan_of(module: nn.Module, kl_weight: float = 1.0) -> Any:
    return SimpleNamespace(module=module, kl_weight=kl_weight, max_kl_weight=1.0)


def trainer_at(epoch: int, elbo: float = 0.0, **options: Any) -> Any:
    metrics = {"elbo_validation": torch.tensor(elbo)}
    given = {"sanity_checking": False, "callbacks": [], "current_epoch": epoch, "callback_metrics": metrics}
    return SimpleNamespace(**{**given, **options})


def validate(callback: InitialisePrior, module: Networks, elbos: list[float], **options: Any) -> None:
    """Epochs with these negative ELBOs; the weight is the index of the epoch."""
    kl_weight = options.pop("kl_weight", 1.0)
    for epoch, elbo in enumerate(elbos):
        nn.init.constant_(module.weight, epoch)
        callback.on_validation_end(trainer_at(epoch, elbo, **options), plan_of(module, kl_weight))


def test_a_warm_up_ends_with_the_best_weights_when_the_networks_overfit() -> None:
    module, callback = Networks(), Watched(FromEmbedding(None), n_warmup_epochs=100, patience=2)
    stopping = LoudEarlyStopping(monitor="elbo_validation", warmup_epochs=100)
    stopping._current_step = 4
    validate(callback, module, [5.0, 3.0, 4.0], callbacks=[stopping])
    assert (callback.n_warmup_epochs, module.weight.item()) == (100, 2.0)
    validate(callback, module, [5.0, 3.0, 4.0, 4.0], callbacks=[stopping])
    assert (callback.n_warmup_epochs, module.weight.item()) == (4, 1.0)
    assert stopping.warmup_epochs == 4, "it counts from here on"
    callback.on_train_epoch_start(trainer_at(4), plan_of(module))
    assert callback.n_calls == 1


def test_the_warm_up_ends_early_after_twenty_epochs_by_default() -> None:
    module, callback = Networks(), InitialisePrior(FromEmbedding(None), n_warmup_epochs=100)
    validate(callback, module, [3.0] + 19 * [4.0])
    assert callback.n_warmup_epochs == 100
    callback.on_validation_end(trainer_at(20, 4.0), plan_of(module))
    assert callback.n_warmup_epochs == 21


@pytest.mark.parametrize(
    ("patience", "state", "options"),
    [
        (None, PriorState.WARMING_UP, {}),
        (1, PriorState.FITTED, {}),
        (1, PriorState.WARMING_UP, {"sanity_checking": True}),
        (1, PriorState.WARMING_UP, {"kl_weight": 0.5}),
        (1, PriorState.WARMING_UP, {"callback_metrics": {}}),
    ],
    ids=["never", "after the warm-up", "sanity check", "warm-up of the divergence", "nothing validated"],
)
def test_validations_that_do_not_tell_of_overfitting_end_no_warm_up(
    patience: int | None, state: PriorState, options: dict[str, Any]
) -> None:
    module, callback = Networks(state), Watched(FromEmbedding(None), 100, patience)
    validate(callback, module, [3.0, 4.0, 5.0, 6.0], **options)
    assert (callback.n_warmup_epochs, module.weight.item()) == (100, 3.0)


@pytest.mark.parametrize(
    ("state", "expected"), [(PriorState.WARMING_UP, [0, 0, 0, 1, 2]), (PriorState.FITTED, [0] * 5)]
)
def test_a_waiting_prior_is_initialised_in_the_epoch_after_the_warm_up(
    state: PriorState, expected: list[int]
) -> None:
    module, callback, found = Networks(state), Watched(FromEmbedding(None), n_warmup_epochs=3), []
    for epoch in range(5):
        callback.on_train_epoch_start(trainer_at(epoch), plan_of(module))
        found.append(callback.n_calls)
    assert found == expected


@pytest.mark.parametrize("waits", [True, False])
def test_a_training_that_ends_in_its_warm_up_initialises_the_prior_and_says_so(waits: bool) -> None:
    module = Networks(PriorState.WARMING_UP if waits else PriorState.FITTED)
    callback = Watched(FromEmbedding(None), n_warmup_epochs=3)
    assert not callback.ended_in_warmup
    callback.on_train_end(trainer_at(1), plan_of(module))
    assert callback.ended_in_warmup is waits and callback.n_calls == int(waits)


def test_a_checkpoint_remembers_a_warm_up_that_ended_early() -> None:
    module, callback = Networks(), InitialisePrior(FromEmbedding(None), 100, patience=1)
    validate(callback, module, [3.0, 4.0])
    resumed = Watched(FromEmbedding(None), 100)
    resumed.load_state_dict(callback.state_dict())
    resumed.on_train_epoch_start(trainer_at(2), plan_of(module))
    assert resumed.n_warmup_epochs == 2 and resumed.n_calls == 1


@pytest.mark.parametrize("start", [None, FromCells()], ids=["none", "cells"])
def test_a_checkpoint_of_a_warm_up_needs_a_start_that_has_one(start: Any) -> None:
    with pytest.raises(ValueError, match="`ckpt_path` is a training in its warm-up"):
        InitialisePrior(start).on_fit_start(trainer_at(0), plan_of(Networks()))
    InitialisePrior(start).on_fit_start(trainer_at(0), plan_of(Networks(PriorState.FITTED)))
    InitialisePrior(FromEmbedding(None)).on_fit_start(trainer_at(0), plan_of(Networks()))
