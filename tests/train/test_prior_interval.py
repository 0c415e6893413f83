"""How often the prior takes a step, and which components count as used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.train._utilized import UtilizedComponents

Make = Callable[..., SCVI_VMM]
N_BATCHES = 10  # 270 training cells in minibatches of 28


class StepsOfPrior(Callback):
    """Notes with which minibatches the prior's parameters change, and with which the networks' do."""

    def __init__(self) -> None:
        self.of_prior: list[tuple[int, int]] = []
        self.of_networks: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer: Any, plan: Any, *_: Any) -> None:
        self.before = self._values(plan)

    def on_train_batch_end(self, trainer: Any, plan: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        prior, network = (
            not torch.equal(*pair) for pair in zip(self.before, self._values(plan), strict=True)
        )
        self.of_prior += [(trainer.current_epoch, batch_idx)] * prior
        self.of_networks += [(trainer.current_epoch, batch_idx)] * network

    @staticmethod
    def _values(plan: Any) -> list[Tensor]:
        of_prior = torch.cat([p.detach().ravel() for p in plan.module.latent_prior.parameters()])
        return [of_prior.clone(), next(plan.module.z_encoder.parameters()).detach().clone()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start": "embedding"}, [0, 8]),
        ({"start": "embedding", "plan_kwargs": {"prior_every_n_steps": 3}}, [0, 3, 6, 9]),
        ({"start": "embedding", "plan_kwargs": {"prior_every_n_steps": 50}}, [0]),
        ({"start": "cells"}, list(range(10))),
        ({"start": "cells", "plan_kwargs": {"prior_every_n_steps": 5}}, [0, 5]),
    ],
    ids=str,
)
def test_the_prior_takes_a_step_with_every_nth_minibatch_of_an_epoch(
    make_model: Make, short_training: dict[str, Any], options: dict[str, Any], expected: list[int]
) -> None:
    model, steps = make_model(), StepsOfPrior()
    n_warmup = {"n_warmup_epochs": 1} if options["start"] == "embedding" else {}
    training = {**short_training, **n_warmup, **options, "batch_size": 28, "max_epochs": 3}
    model.train(**training, callbacks=[steps])
    first = 1 if n_warmup else 0
    assert steps.of_prior == [(epoch, i) for epoch in range(first, 3) for i in expected]
    assert steps.of_networks == [(epoch, i) for epoch in range(3) for i in range(N_BATCHES)]
    for name in ("prior_loss", "n_utilized_clusters", "alpha"):
        assert list(model.history[name].index) == list(range(first, 3)), name


def test_a_prior_found_in_an_embedding_keeps_its_interval_in_later_trainings(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    training = {**short_training, "start": "embedding", "n_warmup_epochs": 1, "batch_size": 28}
    model.train(**training)
    steps = StepsOfPrior()
    later = {**training, "start": None, "n_warmup_epochs": None, "max_epochs": 1}
    model.train(**later, callbacks=[steps])
    assert [i for _, i in steps.of_prior] == [0, 8]


def test_an_interval_that_is_not_positive_is_refused(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="`prior_every_n_steps` must be a positive integer, found 0"):
        make_model().train(**short_training, plan_kwargs={"prior_every_n_steps": 0})
    with pytest.raises(ValueError, match=r"`prior_every_n_steps` must be .*, found 2\.5"):
        make_model().train(**short_training, plan_kwargs={"prior_every_n_steps": 2.5})


def test_components_are_used_if_a_cell_of_the_last_epochs_is_theirs() -> None:
    used = UtilizedComponents()
    counts = []
    for assigned in ([0, 1], [2], [2], [3]):
        used.start_epoch(2)
        used.add(torch.tensor(assigned), 5)
        counts.append(used.count())
    assert counts == [2, 3, 1, 2]


def test_an_epoch_without_steps_uses_what_was_used_before() -> None:
    used = UtilizedComponents()
    assert used.count() == 0
    used.start_epoch(3)
    used.add(torch.tensor([0, 4, 4]), 5)
    used.start_epoch(3)
    assert used.count() == 2
