"""What a checkpoint remembers of a training beyond what Lightning saves."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scvi
import torch

from vmmscvi._upstream import LoudEarlyStopping, SimpleLogger
from vmmscvi.train._resume import (
    random_state,
    restore_progress,
    restore_split,
    set_random_state,
    training_state,
)


def trainer_of(logger: Any = None, callbacks: tuple[Any, ...] = (), **split: Any) -> Any:
    return SimpleNamespace(
        datamodule=SimpleNamespace(**split),
        logger=logger,
        is_global_zero=True,
        global_rank=0,
        callbacks=list(callbacks),
        should_stop=False,
    )


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


def test_all_generators_go_on_where_they_were() -> None:
    np.random.standard_normal()  # noqa: NPY002  # leaves a second one for the next call
    state = random_state()
    expected, normal = drawn(), np.random.standard_normal()  # noqa: NPY002
    set_random_state(state)
    assert drawn() == expected and np.random.standard_normal() == normal  # noqa: NPY002


def test_the_split_comes_back_and_data_of_another_size_are_refused() -> None:
    state = training_state(trainer_of(train_idx=np.array([4, 0, 2]), val_idx=np.array([1, 3])))
    resumed = trainer_of(train_idx=np.arange(2), val_idx=np.arange(2, 5))
    restore_split(resumed, state)
    assert resumed.datamodule.train_idx.tolist() == [4, 0, 2]
    assert resumed.datamodule.val_idx.tolist() == [1, 3]
    with pytest.raises(ValueError, match="a training on 5 cells, but the data have 6"):
        restore_split(trainer_of(train_idx=np.arange(4), val_idx=np.arange(2)), state)
    restore_split(trainer_of(), state)  # a data module that does not tell which cells it yields


def test_a_training_whose_logger_keeps_no_history_is_resumed_with_none() -> None:
    scvi.settings.seed = 3
    state = training_state(trainer_of(logger=object()))
    assert state["history"] == {}
    scvi.settings.seed = 7
    logger = SimpleLogger()
    restore_progress(trainer_of(logger), state)
    assert logger.experiment.data == {} and scvi.settings.seed == 3


@pytest.mark.parametrize(("n_waited", "stops"), [(4, False), (5, True)])
def test_early_stopping_goes_on_and_a_training_that_had_ended_stays_ended(n_waited: int, stops: bool) -> None:
    stopping = LoudEarlyStopping(monitor="x", patience=5, warmup_epochs=9)
    stopping._current_step = 12
    state = training_state(trainer_of(callbacks=(stopping,)))
    again = LoudEarlyStopping(monitor="x", patience=5, warmup_epochs=0)
    again.wait_count = n_waited  # Lightning restores it
    resumed = trainer_of(callbacks=(SimpleNamespace(), again))
    restore_progress(resumed, state)
    assert (again._current_step, again.warmup_epochs) == (12, 9)
    assert resumed.should_stop is stops
