"""Learning rate and warm-up by default, and how minibatches' size changes them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vmmscvi import SCVI_VMM
from vmmscvi.model._pace import default_pace, default_warmup_for_cells
from vmmscvi.model._training_cells import n_training_cells

Make = Callable[..., SCVI_VMM]


class Asked(Exception):
    """Ends a call before it trains."""


@pytest.fixture
def learning_rate(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """The learning rate that a training with these arguments would have."""

    def asked(model: SCVI_VMM, *args: Any, **kwargs: Any) -> None:
        raise Asked(kwargs["plan_kwargs"]["lr"])

    def of_training(**arguments: Any) -> float:
        monkeypatch.setattr("scvi.model.base.UnsupervisedTrainingMixin.train", asked)
        with pytest.raises(Asked) as found:
            make_model().train(**arguments)
        return float(found.value.args[0])

    return of_training


def test_the_learning_rate_follows_the_square_root_of_large_minibatches_only() -> None:
    assert [default_pace(n) for n in (32, 128, 256, 1024, 2304, 4096, 10**6)] == [1, 1, 1, 2, 3, 4, 4]


def test_a_learning_rate_that_is_given_is_kept(
    learning_rate: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmmscvi.model._pace.DEFAULT_BATCH_SIZE", 25)
    assert learning_rate(batch_size=25) == learning_rate(batch_size=8) == 1e-3
    assert learning_rate(batch_size=100) == 2e-3
    assert learning_rate(batch_size=100, lr=5e-3) == 5e-3
    assert learning_rate(batch_size=100, plan_kwargs={"lr": 3e-3}) == 3e-3


def test_a_minibatch_is_no_larger_than_the_data(
    learning_rate: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmmscvi.model._pace.DEFAULT_BATCH_SIZE", 75)
    assert learning_rate(batch_size=10_000) == 2e-3  # 300 cells


def test_minibatches_of_all_processes_count_together(
    learning_rate: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmmscvi.model._pace.DEFAULT_BATCH_SIZE", 25)
    several = {"strategy": "ddp_find_unused_parameters_true", "devices": 4, "accelerator": "cpu"}
    assert learning_rate(batch_size=25, **several) == 2e-3


def test_small_minibatches_do_not_shorten_the_warm_up() -> None:
    warmups = [default_warmup_for_cells(10_000, n, 400) for n in (32, 128, 256, 512)]
    assert warmups == [25, 25, 25, 50]  # of 40 minibatches, and of 20
    assert default_warmup_for_cells(18_000, 256, 400) == 15  # of 71 minibatches


def test_training_cells_are_counted_by_who_knows() -> None:
    split = {"external_indexing": [np.arange(7), np.arange(7, 9)]}
    assert n_training_cells(100, None, {}) == 90
    assert n_training_cells(100, 0.5, {"datasplitter_kwargs": {}}) == 50
    assert n_training_cells(None, 0.5, {}) == 0
    assert n_training_cells(100, 0.5, {"datasplitter_kwargs": split}) == 7
    assert n_training_cells(100, None, {"datamodule": SimpleNamespace(train_idx=np.arange(30))}) == 30
    assert n_training_cells(100, None, {"datamodule": SimpleNamespace()}) == 90


def test_a_larger_learning_rate_shortens_the_warm_up() -> None:
    steps = [default_warmup_for_cells(20_480, 1024, 400, pace) * 20 for pace in (1.0, 2.0, 4.0)]
    assert steps == [1000, 500, 260]  # 13 epochs of 20 minibatches are no less than 250


def test_the_warm_up_of_a_training_is_that_of_its_cells_and_minibatches(
    make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched(*arguments: Any) -> int:
        raise Asked(*arguments)

    monkeypatch.setattr("vmmscvi.model._training_mixin.default_warmup_for_cells", watched)
    with pytest.raises(Asked) as asked:
        make_model().train(max_epochs=7, batch_size=32, train_size=0.8)
    assert asked.value.args == (240, 32, 7, 1.0)
