"""A training that is interrupted and resumed is the training that was not interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from pandas.testing import assert_frame_equal

from vmmscvi import SCVI_VMM
from vmmscvi.train import ResumableCheckpoint

Make = Callable[..., SCVI_VMM]

TRAININGS: dict[str, dict[str, Any]] = {
    "cells": {"start": "cells"},
    "embedding": {"start": "embedding", "n_warmup_epochs": 2},
    "plateau": {"start": "cells", "plan_kwargs": {"reduce_lr_on_plateau": True, "lr_patience": 0}},
    "warm-up of the KL": {"start": "cells", "plan_kwargs": {"n_steps_kl_warmup": 17}},
    "no early stopping": {"start": "embedding", "n_warmup_epochs": 2, "early_stopping": False},
    "half precision": {"start": "cells", "precision": "bf16-mixed"},
}


class Killed(Exception):
    pass


class Kill(Callback):
    """End the training in the middle of an epoch, or when it ends."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and trainer.fit_loop.epoch_loop.batch_idx == 2:
            raise Killed


class Order(Callback):
    """Which cells came in which order, told by their sums of counts."""

    def __init__(self) -> None:
        self.sums: list[list[float]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.sums.append(batch["X"].sum(1).tolist())


def options(short_training: dict[str, Any], name: str, max_epochs: int = 5) -> dict[str, Any]:
    return {**short_training, "max_epochs": max_epochs, **TRAININGS[name]}


def assert_same(model: SCVI_VMM, expected: SCVI_VMM) -> None:
    found, truth = model.module.state_dict(), expected.module.state_dict()
    assert found.keys() == truth.keys()
    for key, value in truth.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, equal_nan=True, msg=key)
    for name in ("train_indices", "validation_indices"):
        np.testing.assert_array_equal(getattr(model, name), getattr(expected, name))
    assert model.history.keys() == expected.history.keys()
    for name, table in expected.history.items():
        assert_frame_equal(model.history[name], table, check_exact=True, obj=name)
    assert model.module.latent_prior.is_fitted and model.is_trained
    assert model.init_params_["non_kwargs"] == expected.init_params_["non_kwargs"]
    assert not model.module.training


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("cells", 1),
        ("cells", 3),
        ("embedding", 1),
        ("embedding", 2),
        ("embedding", 4),
        ("plateau", 3),
        ("warm-up of the KL", 2),
        ("no early stopping", 3),
        ("half precision", 2),
    ],
)
def test_a_resumed_training_is_the_uninterrupted_one(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path, name: str, epoch: int
) -> None:
    training, order = options(short_training, name), Order()
    expected = make_model()
    expected.train(**training, callbacks=[order])
    scvi.settings.seed = 0
    path = tmp_path / "folder" / "run.ckpt"
    with pytest.raises(Killed):
        make_model().train(**training, callbacks=[ResumableCheckpoint(path), Kill(epoch)])
    assert [file.name for file in path.parent.iterdir()] == ["run.ckpt"]
    scvi.settings.seed = 7  # another process need not have the same seed
    resumed, rest = make_model(), Order()
    resumed.train(**training, callbacks=[rest], ckpt_path=path)
    assert rest.sums == order.sums[5 * epoch :]
    assert_same(resumed, expected)


def test_it_can_be_interrupted_again_and_again(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    training = options(short_training, "embedding")
    expected = make_model()
    expected.train(**training)
    scvi.settings.seed = 0
    checkpoint = ResumableCheckpoint(tmp_path / "run.ckpt")
    for epoch in (0, 1, 3, 3, 4):
        with pytest.raises(Killed):
            make_model().train(
                **training, callbacks=[checkpoint, Kill(epoch)], ckpt_path=checkpoint.resume_path
            )
        scvi.settings.seed = 0 if epoch == 0 else epoch  # nothing was saved in the first epoch
    resumed = make_model()
    resumed.train(**training, callbacks=[checkpoint], ckpt_path=checkpoint.resume_path)
    assert_same(resumed, expected)


@pytest.mark.parametrize("name", ["embedding", "no early stopping"])
def test_resuming_a_finished_training_changes_nothing(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path, name: str
) -> None:
    training, checkpoint = options(short_training, name), ResumableCheckpoint(tmp_path / "run.ckpt")
    expected = make_model()
    expected.train(**training, callbacks=[checkpoint])
    again = make_model()
    again.train(**training, callbacks=[checkpoint], ckpt_path=checkpoint.resume_path)
    assert again.trainer.global_step == expected.trainer.global_step
    assert_same(again, expected)


def test_a_training_that_was_stopped_early_stays_stopped(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    training = {**short_training, "max_epochs": 20, "early_stopping_patience": 2}
    training["early_stopping_min_delta"] = 1e9
    checkpoint = ResumableCheckpoint(tmp_path / "run.ckpt")
    expected = make_model()
    expected.train(**training, callbacks=[checkpoint])
    assert len(expected.history["elbo_validation"]) == 3
    again = make_model()
    again.train(**training, ckpt_path=checkpoint.resume_path)
    assert_same(again, expected)


def test_early_stopping_waits_as_long_as_if_it_had_not_been_interrupted(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    training = {**options(short_training, "embedding", max_epochs=20), "early_stopping_patience": 3}
    training["early_stopping_min_delta"] = 1e9
    expected, checkpoint = make_model(), ResumableCheckpoint(tmp_path / "run.ckpt")
    expected.train(**training)
    assert len(expected.history["elbo_validation"]) == 2 + 1 + 3
    scvi.settings.seed = 0
    with pytest.raises(Killed):
        make_model().train(**training, callbacks=[checkpoint, Kill(4)])
    resumed = make_model()
    resumed.train(**training, ckpt_path=checkpoint.path)
    assert_same(resumed, expected)


def test_a_finished_training_can_be_given_more_epochs(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    expected = make_model()
    expected.train(**options(short_training, "embedding", max_epochs=6))
    scvi.settings.seed = 0
    checkpoint = ResumableCheckpoint(tmp_path / "run.ckpt", every_n_epochs=100)
    make_model().train(**options(short_training, "embedding", max_epochs=4), callbacks=[checkpoint])
    resumed = make_model()
    resumed.train(**options(short_training, "embedding", max_epochs=6), ckpt_path=checkpoint.path)
    assert_same(resumed, expected)


def test_a_checkpoint_is_read_without_executing_code(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = ResumableCheckpoint(tmp_path / "run.ckpt")
    make_model().train(**options(short_training, "embedding"), callbacks=[checkpoint])
    content = torch.load(checkpoint.path, weights_only=True)
    assert len(content["optimizer_states"]) == 2
    assert content["vmmscvi"]["history"].keys() >= {"elbo_validation", "n_utilized_clusters"}


def test_checkpoints_are_made_every_few_epochs(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = ResumableCheckpoint(tmp_path / "run.ckpt", every_n_epochs=2)
    with pytest.raises(Killed):
        make_model().train(**options(short_training, "cells"), callbacks=[checkpoint, Kill(3)])
    assert torch.load(checkpoint.path, weights_only=True)["epoch"] == 1  # the second


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_numbers_of_epochs_that_are_not_positive_integers_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"`every_n_epochs` must be a positive integer, found {value}"):
        ResumableCheckpoint("run.ckpt", every_n_epochs=value)


def test_checkpoints_of_other_data_and_of_another_start_are_refused(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = ResumableCheckpoint(tmp_path / "run.ckpt")
    training = options(short_training, "embedding")
    with pytest.raises(Killed):
        make_model().train(**training, callbacks=[checkpoint, Kill(1)])
    fewer = make_model()
    with pytest.raises(ValueError, match="`ckpt_path` holds a training on 300 cells, but the data have 250"):
        make_model(fewer.adata[:250].copy()).train(**training, ckpt_path=checkpoint.path)
    with pytest.raises(ValueError, match="`ckpt_path` is a training in its warm-up: pass the same `start`"):
        make_model().train(**options(short_training, "cells"), ckpt_path=checkpoint.path)
