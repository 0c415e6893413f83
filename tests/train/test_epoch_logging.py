"""What is logged once an epoch is what scvi-tools logs minibatch by minibatch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from lightning.pytorch.callbacks import Callback
from scvi.module.base import LossOutput

from vmmscvi import SCVI_VMM
from vmmscvi.module import VMMVAE
from vmmscvi.train import EmpiricalBayesTrainingPlan
from vmmscvi.train._epoch_logging import EpochSums

Make = Callable[..., SCVI_VMM]


class EveryStepPlan(EmpiricalBayesTrainingPlan):
    """scvi-tools' own logging."""

    logs_every_step = True


class EpochMetrics(Callback):
    """What callbacks see at the end of every epoch."""

    def __init__(self) -> None:
        self.train: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.train.append({k: float(v) for k, v in trainer.callback_metrics.items()})

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.validation.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def train(make_model: Make, plan: type, prior: str = "vmm", **kwargs: Any) -> tuple[SCVI_VMM, EpochMetrics]:
    scvi.settings.seed = 0
    model, metrics = make_model(prior=prior), EpochMetrics()
    model._training_plan_cls = plan
    model.train(**kwargs, callbacks=[metrics])
    return model, metrics


@pytest.mark.parametrize("prior", ["vmm", "standard_normal"])
@pytest.mark.parametrize("log_every_n_steps", [1, 3, 10])
def test_history_is_that_of_logging_every_minibatch(
    make_model: Make, short_training: dict[str, Any], prior: str, log_every_n_steps: int
) -> None:
    options = {
        **short_training,
        "max_epochs": 4,
        "log_every_n_steps": log_every_n_steps,
        "plan_kwargs": {"n_steps_kl_warmup": 12},
    }
    expected, expected_seen = train(make_model, EveryStepPlan, prior, **options)
    found, found_seen = train(make_model, EmpiricalBayesTrainingPlan, prior, **options)
    assert found.history.keys() == expected.history.keys()
    for key, table in expected.history.items():
        assert list(found.history[key].index) == list(table.index), key
        np.testing.assert_allclose(
            found.history[key].astype(float), table.astype(float), rtol=1e-6, err_msg=key
        )
    for mode in ("train", "validation"):
        for ours, theirs in zip(getattr(found_seen, mode), getattr(expected_seen, mode), strict=True):
            ours.pop("kl_weight", None), theirs.pop("kl_weight")  # given to loggers only when they listen
            assert ours == pytest.approx(theirs, rel=1e-6)


def test_history_has_scvis_own_names(make_model: Make, short_training: dict[str, Any]) -> None:
    ours = make_model(prior="standard_normal")
    scvi.model.SCVI.setup_anndata(ours.adata, batch_key="batch")
    stock = scvi.model.SCVI(ours.adata, n_hidden=16, n_latent=4)
    del short_training["start"]  # only ours has a choice
    ours.train(**{**short_training, "max_epochs": 2}, log_every_n_steps=1)
    stock.train(**{**short_training, "max_epochs": 2}, early_stopping=True, log_every_n_steps=1)
    assert set(stock.history) <= set(ours.history)


def test_an_epoch_that_is_cut_short_is_logged(make_model: Make, short_training: dict[str, Any]) -> None:
    options = {**short_training, "max_steps": 7, "early_stopping": False}  # five minibatches are an epoch
    expected, _ = train(make_model, EveryStepPlan, **options)
    found, _ = train(make_model, EmpiricalBayesTrainingPlan, **options)
    for key in ("train_loss", "elbo_train", "prior_loss"):
        assert len(expected.history[key]) == 2
        np.testing.assert_allclose(
            found.history[key].astype(float), expected.history[key].astype(float), rtol=1e-6
        )


def test_global_kl_is_a_mean_over_minibatches(adata: AnnData, short_training: dict[str, Any]) -> None:
    class WithGlobalKL(VMMVAE):
        def loss(self, *args: Any, **kwargs: Any) -> LossOutput:
            output = super().loss(*args, **kwargs)
            output.kl_global_sum = torch.tensor(2.5)
            return output

    class Model(SCVI_VMM):
        _module_cls = WithGlobalKL

    Model.setup_anndata(adata, batch_key="batch")
    model = Model(adata, prior="standard_normal", n_hidden=16, n_latent=4)
    model.train(**short_training)
    np.testing.assert_allclose(model.history["kl_global_train"].astype(float), 2.5)
    n_training = model.trainer.lightning_module.n_obs_training
    parts = {
        k: model.history[f"{k}_train"].astype(float).to_numpy()
        for k in ("elbo", "reconstruction_loss", "kl_local")
    }
    np.testing.assert_allclose(
        parts["elbo"] - parts["reconstruction_loss"] - parts["kl_local"], 2.5 / n_training, rtol=0.05
    )


def test_every_minibatch_is_logged_where_that_is_asked_for(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    model.train(**short_training, plan_kwargs={"on_step": True}, log_every_n_steps=1)
    assert len(model.history["train_loss_step"]) >= model.trainer.global_step
    assert {"train_loss_epoch", "elbo_train_epoch", "validation_loss_epoch"} <= set(model.history)


def test_entries_for_scib_tuning_are_collected(make_model: Make, short_training: dict[str, Any]) -> None:
    class ScibListener(Callback):
        """Known to the plan by its name."""

    model = make_model(extra_payload_autotune=True)
    model.train(**{**short_training, "max_epochs": 1}, callbacks=[ScibListener()])
    plan = model.trainer.lightning_module
    assert len(plan._training_epoch_outputs["z"]) == 270
    assert len(plan._validation_epoch_outputs["z"]) == 30
    assert {"elbo_train", "train_loss", "elbo_validation", "validation_loss"} <= set(model.history)


def test_what_is_summed_over_an_epoch_keeps_no_graph_of_a_minibatch() -> None:
    parts = {"reconstruction_loss": torch.ones(4), "kl_local": torch.ones(4), "kl_global": torch.tensor(1.0)}
    leaves = {name: part.requires_grad_() for name, part in parts.items()}
    sums = EpochSums()
    for _ in range(2):
        sums.add_elbo(LossOutput(loss=leaves["kl_global"] * 2, **{n: 3 * p for n, p in leaves.items()}))
    assert (sums.n_obs, sums.n_batches) == (8, 2)
    found = {name: (float(value), value.requires_grad) for name, value in sums.elbo.items()}
    assert found == {
        "reconstruction_loss": (24.0, False),
        "kl_local": (24.0, False),
        "kl_global": (6.0, False),
    }
