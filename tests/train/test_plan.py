"""The plan is scvi-tools' plan in everything but the second optimizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from lightning.pytorch.callbacks import Callback
from scvi.train import TrainingPlanConfig
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.module import VMMVAE
from vmmscvi.priors import PriorState
from vmmscvi.train import EmpiricalBayesTrainingPlan
from vmmscvi.train._optimizers import SUBNORMAL, flush_subnormals

Make = Callable[..., SCVI_VMM]
N_BATCHES = 5  # 270 training cells in minibatches of 64


class NormsPlan(EmpiricalBayesTrainingPlan):
    """Notes the norm of every gradient that an optimizer is about to follow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norms: list[float] = []

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        grads = [p.grad.norm() for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        self.norms.append(float(torch.stack(grads).norm()))


class KLWeights(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.values.append(float(pl_module.loss_kwargs["kl_weight"]))


@pytest.mark.parametrize(("fast", "tolerance"), [(False, 1e-3), (True, 1e-2)])  # Adam amplifies rounding
def test_standard_normal_training_follows_scvis_own(
    make_model: Make, short_training: dict[str, Any], fast: bool, tolerance: float
) -> None:
    ours = make_model(prior="standard_normal", dropout_rate=0.0, fast_likelihood=fast)
    scvi.model.SCVI.setup_anndata(ours.adata, batch_key="batch")
    stock = scvi.model.SCVI(ours.adata, n_hidden=16, n_latent=4, encode_covariates=True, dropout_rate=0.0)
    stock.module.load_state_dict({k: v for k, v in ours.module.state_dict().items() if "prior" not in k})
    del short_training["start"]  # only ours has a choice
    torch.manual_seed(1)
    ours.train(**short_training, early_stopping=False)
    torch.manual_seed(1)
    plan = {"eps": 1e-7, "weight_decay": 0.0, "n_epochs_kl_warmup": None}
    stock.train(**short_training, plan_kwargs=plan)
    for key in ("train_loss", "elbo_train"):
        np.testing.assert_allclose(
            ours.history[key].astype(float), stock.history[key].astype(float), rtol=1e-4
        )
    np.testing.assert_allclose(
        ours.get_latent_representation(), stock.get_latent_representation(), rtol=1e-2, atol=tolerance
    )


def test_global_step_counts_minibatches(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    model.train(**short_training)
    assert model.trainer.global_step == 2 * N_BATCHES


def test_callbacks_are_given_the_loss_of_every_minibatch(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    class Losses(Callback):
        def __init__(self) -> None:
            self.values: list[float] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            self.values.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))

    model, losses = make_model(), Losses()
    model.train(**{**short_training, "max_epochs": 1}, callbacks=[losses])
    sizes = [64] * 4 + [14]  # 270 training cells
    expected = float(model.history["train_loss"].iloc[0, 0])
    assert np.average(losses.values, weights=sizes) == pytest.approx(expected, rel=1e-5)


def test_max_steps_counts_minibatches(make_model: Make, short_training: dict[str, Any]) -> None:
    model, weights = make_model(), KLWeights()
    model.train(**short_training, max_steps=3, early_stopping=False, callbacks=[weights])
    assert len(weights.values) == model.trainer.global_step == 3


@pytest.mark.parametrize(
    ("plan_kwargs", "expected"),
    [
        ({}, [1.0] * 10),
        ({"n_steps_kl_warmup": 4}, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]),
        ({"n_epochs_kl_warmup": 4}, [0.0] * 5 + [0.25] * 5),
        ({"max_kl_weight": 0.5}, [0.5] * 10),
    ],
    ids=["none by default", "steps", "epochs", "largest weight"],
)
def test_kl_warm_up(
    make_model: Make, short_training: dict[str, Any], plan_kwargs: dict[str, Any], expected: list[float]
) -> None:
    weights = KLWeights()
    make_model().train(**short_training, plan_kwargs=plan_kwargs, callbacks=[weights])
    assert weights.values == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_of_both_steps_are_clipped(
    make_model: Make, short_training: dict[str, Any], precision: str
) -> None:
    def largest_norm(**plan_kwargs: Any) -> float:
        model = make_model()
        model._training_plan_cls = NormsPlan
        model.train(**{**short_training, "max_epochs": 1}, precision=precision, plan_kwargs=plan_kwargs)
        norms = model.trainer.lightning_module.norms
        assert len(norms) == 2 * N_BATCHES
        return max(norms)

    assert largest_norm() > 0.5
    assert largest_norm(gradient_clip_val=0.01) <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize("metric", ["elbo_validation", "elbo_train"])
def test_the_learning_rate_of_the_prior_follows_that_of_the_networks_on_a_plateau(
    make_model: Make, short_training: dict[str, Any], metric: str
) -> None:
    model = make_model()
    model.train(
        **{**short_training, "max_epochs": 4},
        lr=1e-3,
        prior_lr_ratio=7.0,
        plan_kwargs={
            "reduce_lr_on_plateau": True,
            "lr_patience": 0,
            "lr_factor": 0.5,
            "lr_threshold": 1e9,  # nothing counts as an improvement on the first epoch
            "lr_scheduler_metric": metric,
        },
    )
    rates = [optimizer.param_groups[0]["lr"] for optimizer in model.trainer.optimizers]
    assert rates == pytest.approx([1e-3 / 8, 7e-3 / 8])
    (scheduler,) = (config.scheduler for config in model.trainer.lr_scheduler_configs)
    first = float(model.history[metric].iloc[0, 0])
    assert float(scheduler.best) == pytest.approx(first)  # this epoch's, not the last's


def test_a_prior_that_is_initialised_after_a_plateau_has_its_ratio_of_the_reduced_rate(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    class Optimizers(Callback):
        def __init__(self) -> None:
            self.rates: list[list[float]] = []

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.fit_loop.epoch_loop.batch_idx == 0:
                self.rates.append([o.param_groups[0]["lr"] for o in trainer.optimizers])

    plateau = {"reduce_lr_on_plateau": True, "lr_patience": 0, "lr_factor": 0.5, "lr_threshold": 1e9}
    model, optimizers = make_model(), Optimizers()
    model.train(
        **{**short_training, "start": "embedding", "max_epochs": 4, "n_warmup_epochs": 2},
        lr=1e-3, prior_lr_ratio=7.0, plan_kwargs=plateau, callbacks=[optimizers],
    )  # fmt: skip
    expected = [[1e-3], [1e-3], [5e-4, 3.5e-3], [2.5e-4, 1.75e-3]]
    for found, rates in zip(optimizers.rates, expected, strict=True):
        assert found == pytest.approx(rates)


def test_networks_and_prior_have_their_own_learning_rates(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    model.train(**{**short_training, "max_epochs": 1}, lr=2e-3, prior_lr_ratio=0.5)
    networks, prior = model.trainer.optimizers
    assert (networks.param_groups[0]["lr"], prior.param_groups[0]["lr"]) == pytest.approx((2e-3, 1e-3))
    ids = [{id(p) for p in o.param_groups[0]["params"]} for o in (networks, prior)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {id(p) for p in model.module.parameters() if p.requires_grad}


def test_plan_config_is_heard_and_plan_kwargs_win(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    model.train(
        **{**short_training, "max_epochs": 1},
        plan_config={"lr": 5e-4, "weight_decay": 1e-3},
        plan_kwargs={"weight_decay": 1e-2},
    )
    group = model.trainer.optimizers[0].param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (5e-4, 1e-2)


def test_a_training_plan_config_object_is_accepted(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    model.train(**{**short_training, "max_epochs": 1}, plan_kwargs=TrainingPlanConfig(lr=5e-4))
    assert model.trainer.optimizers[0].param_groups[0]["lr"] == 5e-4


def state(model: SCVI_VMM, *prefixes: str) -> dict[str, Tensor]:
    return {n: v.clone() for n, v in model.module.state_dict().items() if n.startswith(prefixes)}


@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior"])
@pytest.mark.parametrize("reloaded", [False, True], ids=["frozen now", "saved frozen"])
def test_a_frozen_prior_trains_without_the_second_optimizer(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path, prior: str, reloaded: bool
) -> None:
    model = make_model(prior=prior)
    model.train(**{**short_training, "max_epochs": 1})
    model.module.freeze_prior()
    if reloaded:
        model.save(tmp_path / "model")
        model = SCVI_VMM.load(tmp_path / "model", adata=model.adata)
    before, networks = state(model, "latent_prior.", "pseudo_inputs."), state(model, "z_encoder.")
    del short_training["start"]
    model.train(**short_training)
    assert len(model.trainer.optimizers) == 1
    after = state(model, "latent_prior.", "pseudo_inputs.")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any(not torch.equal(state(model, "z_encoder.")[name], value) for name, value in networks.items())


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_history_has_the_state_of_the_prior_for_every_epoch(trained: Any, prior: str) -> None:
    history = trained(prior).history
    assert {
        "prior_loss",
        "n_utilized_clusters",
        "alpha",
        "elbo_validation",
        "elbo_train",
        "kl_weight",
    } <= set(history)
    for key in ("prior_loss", "n_utilized_clusters", "alpha", "elbo_validation"):
        values = history[key].to_numpy(dtype=float)
        assert values.shape == (3, 1) and np.isfinite(values).all(), key
    used = history["n_utilized_clusters"].to_numpy(dtype=float)
    assert ((used >= 1) & (used <= 8)).all()


def test_utilised_clusters_are_those_of_the_epoch(adata: AnnData, short_training: dict[str, Any]) -> None:
    minibatches = iter([[0, 1], [0, 1], [0, 2], [0, 2], [0, 0], *[[3, 3]] * N_BATCHES])

    class Assigning(VMMVAE):
        def empirical_bayes_loss(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
            loss, assigned = super().empirical_bayes_loss(*args, **kwargs)
            return loss, torch.tensor(next(minibatches)).repeat(len(assigned))[: len(assigned)]

    class Model(SCVI_VMM):
        _module_cls = Assigning

    Model.setup_anndata(adata, batch_key="batch")
    model = Model(adata, n_components=8, n_hidden=16, n_latent=4)
    model.train(**short_training)
    assert model.history["n_utilized_clusters"].astype(float).iloc[:, 0].to_list() == [3, 1]


def test_the_progress_bar_shows_validation_elbo_and_utilised_clusters(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    model.train(**short_training)
    shown = model.trainer.progress_bar_metrics
    assert shown["val_elbo"] == pytest.approx(float(model.history["elbo_validation"].iloc[-1, 0]), rel=1e-5)
    assert shown["n_utilized_clusters"] == float(model.history["n_utilized_clusters"].iloc[-1, 0])


def test_subnormal_moments_are_flushed_and_normal_ones_kept() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], lr=1e-3)
    parameter.grad = torch.ones(3)
    optimizer.step()
    for name in ("exp_avg", "exp_avg_sq"):
        optimizer.state[parameter][name].copy_(torch.tensor([1e-40, 0.1, -1e-20]))
    flush_subnormals(optimizer)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(optimizer.state[parameter][name], torch.tensor([0.0, 0.1, -1e-20]))
    assert float(optimizer.state[parameter]["step"]) == 1
    assert SUBNORMAL > torch.finfo(torch.float32).tiny


def test_no_moment_is_subnormal_after_an_epoch(make_model: Make, short_training: dict[str, Any]) -> None:
    class Vanish(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            for optimizer in trainer.optimizers:
                for moments in optimizer.state.values():
                    moments["exp_avg"][(0,) * moments["exp_avg"].dim()] = 1e-40

    model = make_model()
    model.train(**{**short_training, "max_epochs": 1}, callbacks=[Vanish()])
    for optimizer in model.trainer.optimizers:
        for moments in optimizer.state.values():
            magnitudes = moments["exp_avg"].abs()
            assert not ((magnitudes > 0) & (magnitudes < torch.finfo(torch.float32).tiny)).any()


@pytest.mark.parametrize("name", ["lr", "prior_lr_ratio", "hyperprior_n_obs", "gradient_clip_val"])
@pytest.mark.parametrize("value", [0.0, -1e-3, float("nan")])
def test_step_sizes_that_are_not_positive_are_refused(make_model: Make, name: str, value: float) -> None:
    if (name, value) == ("lr", 0.0):
        pytest.skip("trains nothing, as in stock scVI")
    with pytest.raises(ValueError, match=f"`{name}` must be positive, found {value}"):
        EmpiricalBayesTrainingPlan(make_model().module, **{name: value})


def test_optimizers_of_scvi_tools_can_be_chosen(make_model: Make, short_training: dict[str, Any]) -> None:
    def sgd(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-6)

    for plan_kwargs, expected in (
        ({"optimizer": "AdamW"}, torch.optim.AdamW),
        ({"optimizer": "Custom", "optimizer_creator": sgd}, torch.optim.SGD),
    ):
        model = make_model()
        model.train(**{**short_training, "max_epochs": 1}, plan_kwargs=plan_kwargs)
        assert [type(o) for o in model.trainer.optimizers] == [expected, torch.optim.Adam]


def test_every_setting_of_optimizers_and_plateau_reaches_them(make_model: Make) -> None:
    module = make_model().module
    module.latent_prior.state = PriorState.FITTED
    plan = EmpiricalBayesTrainingPlan(
        module, lr=2e-3, prior_lr_ratio=3.0, eps=1e-3, weight_decay=0.25, reduce_lr_on_plateau=True,
        lr_patience=3, lr_factor=0.3, lr_threshold=0.02, lr_min=1e-5,
    )  # fmt: skip
    (networks, prior), (scheduler,) = plan.configure_optimizers()
    group = networks.param_groups[0]
    assert (group["lr"], group["eps"], group["weight_decay"]) == (2e-3, 1e-3, 0.25)
    group = prior.param_groups[0]  # whatever the networks' are
    assert (group["lr"], group["eps"], group["weight_decay"]) == (pytest.approx(6e-3), 1e-7, 0.0)
    assert {id(p) for p in group["params"]} == {id(p) for p in module.prior_parameters()}
    found = (scheduler.patience, scheduler.factor, scheduler.threshold, scheduler.min_lrs)
    assert found == (3, 0.3, 0.02, [1e-5])
    assert (scheduler.optimizer, scheduler.threshold_mode, scheduler.mode) == (networks, "abs", "min")
