"""Arguments of the Trainer do what they do in stock scVI, or are refused before any work starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from scvi.train import SaveCheckpoint, TrainerConfig

from vmmscvi import SCVI_VMM
from vmmscvi.train import EmpiricalBayesTrainingPlan
from vmmscvi.train._arguments import early_stopping_asked, early_stopping_of, n_processes

Make = Callable[..., SCVI_VMM]
N_BATCHES = 5  # 270 training cells in minibatches of 64


def named(value: object) -> str:
    """Describe a parameter without its address, which differs between processes."""
    return re.sub(" object at 0x[0-9a-f]+", "", str(value))


class Norms(EmpiricalBayesTrainingPlan):
    """Largest norm and largest entry of the gradients that an optimizer is about to follow."""

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        self.norm = max(getattr(self, "norm", 0.0), float(torch.stack([g.norm() for g in grads]).norm()))
        self.entry = max(getattr(self, "entry", 0.0), max(float(g.abs().max()) for g in grads))


class NoWork(Callback):
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        raise AssertionError("training was set up")


def stock_of(model: SCVI_VMM) -> scvi.model.SCVI:
    scvi.model.SCVI.setup_anndata(model.adata, batch_key="batch")
    return scvi.model.SCVI(model.adata, n_hidden=16, n_latent=4)


STEPS: dict[str, Any] = {"n_epochs_kl_warmup": None, "n_steps_kl_warmup": 7}
PLATEAU: dict[str, Any] = {"reduce_lr_on_plateau": True, "lr_patience": 0, "lr_threshold": 1e9}


@pytest.mark.parametrize(
    "options",
    [
        {"limit_train_batches": 2},
        {"limit_train_batches": 0.5},
        {"max_steps": 3, "early_stopping": False},
        {"check_val_every_n_epoch": 2, "max_epochs": 5},
        {"val_check_interval": 0.5},
        {"limit_val_batches": 1},
        {"log_every_n_steps": 1},
        {
            "max_epochs": 3,
            "plan_kwargs": {"n_epochs_kl_warmup": None, "n_steps_kl_warmup": 7},
            "log_every_n_steps": 1,
        },
        {
            "plan_kwargs": PLATEAU,
            "max_epochs": 4,
        },
        {"trainer_config": {"limit_train_batches": 2, "max_epochs": 99}},
        {"trainer_config": TrainerConfig(check_val_every_n_epoch=2), "max_epochs": 4},
    ],
    ids=str,
)
def test_steps_epochs_and_logs_are_those_of_stock_scvi(
    make_model: Make, short_training: dict[str, Any], options: dict[str, Any]
) -> None:
    model, options = make_model(), {**short_training, "early_stopping": True, **options}
    stock = stock_of(model)
    model.train(**options)
    del options["start"]
    stock.train(**options)
    assert model.trainer.global_step == stock.trainer.global_step
    assert model.trainer.current_epoch == stock.trainer.current_epoch
    assert set(stock.history) <= {*model.history, "lr-Adam"}
    for name in set(stock.history) - {"lr-Adam"}:
        assert list(model.history[name].index) == list(stock.history[name].index), name
    if "plan_kwargs" not in options:
        return
    if "n_steps_kl_warmup" in options["plan_kwargs"]:
        expected = [(N_BATCHES - 1) / 7, 1.0, 1.0]  # the last minibatch of every epoch
        for history in (model.history, stock.history):
            np.testing.assert_allclose(history["kl_weight"].to_numpy(float).ravel(), expected, rtol=1e-6)
    else:
        rates = [optimizer.param_groups[0]["lr"] for optimizer in model.trainer.optimizers]
        rate = stock.trainer.optimizers[0].param_groups[0]["lr"]
        assert rate < 1e-3 and rates == pytest.approx([rate, 5.0 * rate])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (None, 45)),
        ({"trainer_config": {"early_stopping": False, "early_stopping_patience": 1}}, (False, 1)),
        ({"trainer_config": {"early_stopping": False}, "early_stopping": True}, (True, 45)),
        ({"trainer_config": {"early_stopping_patience": 3}, "patience": 2}, (None, 2)),
        ({"trainer_config": TrainerConfig(early_stopping=True, early_stopping_patience=3)}, (True, 3)),
        ({"trainer_config": TrainerConfig(check_val_every_n_epoch=2)}, (None, 45)),
    ],
    ids=str,
)
def test_early_stopping_follows_arguments_before_the_trainer_config(
    arguments: dict[str, Any], expected: tuple[bool | None, int]
) -> None:
    given = {"early_stopping": None, "patience": None, "trainer_config": None, **arguments}
    assert early_stopping_asked(**given) == expected


def test_patience_of_a_trainer_config_is_honoured(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    config = {"early_stopping_patience": 1, "early_stopping_min_delta": 1e6}
    model.train(**{**short_training, "max_epochs": 9}, trainer_config=config)
    assert model.trainer.current_epoch == 2


def test_clipping_by_the_trainers_arguments(make_model: Make, short_training: dict[str, Any]) -> None:
    def largest(**options: Any) -> tuple[float, float]:
        model = make_model()
        model._training_plan_cls = Norms
        model.train(**{**short_training, "max_epochs": 1}, **options)
        plan = model.trainer.lightning_module
        return plan.norm, plan.entry

    norm, entry = largest()
    assert norm > 0.5 and entry > 0.01
    assert largest(gradient_clip_val=0.01)[0] <= 0.01 * (1 + 1e-4)
    assert largest(trainer_config={"gradient_clip_val": 0.01})[0] <= 0.01 * (1 + 1e-4)
    by_value = largest(gradient_clip_val=0.001, gradient_clip_algorithm="value")
    assert by_value[1] <= 0.001 * (1 + 1e-4) and by_value[0] > 0.001
    assert largest(gradient_clip_val=10.0, plan_kwargs={"gradient_clip_val": 0.01})[0] <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate_grad_batches": 4}, "`accumulate_grad_batches` must be 1, .* `batch_size=256` instead"),
        ({"trainer_config": {"accumulate_grad_batches": 2}}, "`batch_size=128` instead of 64"),
        ({"precision": "16-true"}, "`precision` must be one of .* found '16-true'.*pass 'bf16-mixed'"),
        ({"precision": 64}, "`precision` must be one of .* found 64"),
        ({"strategy": "ddp"}, "`strategy` must be 'ddp_find_unused_parameters_true'"),
        (
            {"strategy": "fsdp"},
            "`strategy` must be 'auto' or 'ddp_find_unused_parameters_true', found 'fsdp'",
        ),
        ({"strategy": DDPStrategy()}, "`strategy` must be .* `find_unused_parameters=True`"),
        ({"strategy": FSDPStrategy()}, "must be a DDPStrategy or a SingleDeviceStrategy, found FSDPStrategy"),
        ({"accelerator": "mps"}, "`accelerator='mps'` lacks .* PYTORCH_ENABLE_MPS_FALLBACK=1"),
        ({"gradient_clip_val": -1.0}, "`gradient_clip_val` must be positive, found -1.0"),
        ({"gradient_clip_algorithm": "log"}, "`gradient_clip_algorithm` must be 'norm' or 'value'"),
    ],
    ids=named,
)
def test_impossible_requests_are_refused_before_any_work(
    make_model: Make, short_training: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_model().train(**{**short_training, **options}, callbacks=[NoWork()])


def test_a_checkpoint_that_does_not_exist_is_refused(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="`ckpt_path`: there is no checkpoint at"):
        make_model().train(**short_training, ckpt_path=tmp_path / "none.ckpt", callbacks=[NoWork()])


def test_defaults_may_be_spelt_out(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    model.train(
        **{**short_training, "max_epochs": 1},
        accumulate_grad_batches=1,
        gradient_clip_val=None,
        precision="32-true",
        strategy="auto",
    )
    assert model.trainer.global_step == N_BATCHES


def test_early_stopping_counts_validations_after_the_warm_up(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    model.train(
        **{**short_training, "start": "embedding", "max_epochs": 40},
        n_warmup_epochs=6,
        check_val_every_n_epoch=3,
        early_stopping_patience=2,
        early_stopping_min_delta=1e9,
    )
    # two validations in the warm-up; the next is the best, and two more are no better
    assert model.trainer.current_epoch == 6 + 3 * 3


def test_other_loggers_and_none(make_model: Make, short_training: dict[str, Any], tmp_path: Path) -> None:
    model = make_model()
    model.train(**short_training, logger=CSVLogger(tmp_path, name="run", version=0))
    header = (tmp_path / "run" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"elbo_validation", "train_loss", "n_utilized_clusters", "prior_loss"} <= set(header)
    model.train(**short_training, logger=False)
    assert len(model.predict()) == 300


def test_checkpoints_of_scvi_tools_are_models(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model()
    callback = SaveCheckpoint(dirpath=tmp_path, monitor="elbo_validation", load_best_on_end=True)
    model.train(**{**short_training, "max_epochs": 3}, callbacks=[callback], early_stopping=False)
    loaded = SCVI_VMM.load(callback.best_model_path, adata=model.adata)
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    np.testing.assert_array_equal(loaded.get_cluster_probabilities(), model.get_cluster_probabilities())
    assert model.is_trained and loaded.is_trained
    scvi.settings.logging_dir = str(tmp_path / "log")
    make_model().train(**short_training, enable_checkpointing=True)
    assert len(list((tmp_path / "log").glob("*/*/model.pt"))) == 1


def test_a_checkpoint_of_scvi_tools_resumes_with_its_prior(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model()
    callback = SaveCheckpoint(dirpath=tmp_path, monitor="elbo_validation", save_top_k=-1)
    options = {**short_training, "start": "embedding", "max_epochs": 4}
    model.train(**options, n_warmup_epochs=2, callbacks=[callback])
    del options["start"]
    for epoch, started in ((0, False), (3, True)):
        path = next(tmp_path.glob(f"epoch={epoch}-*"))
        loaded = SCVI_VMM.load(path, adata=model.adata)
        assert loaded.module.latent_prior.is_fitted is started
        before = loaded.module.latent_prior.pi_logits.detach().clone()
        warmup = {} if started else {"n_warmup_epochs": 0}
        loaded.train(**{**options, "max_epochs": 1, **warmup}, lr=1e-12)
        same = loaded.module.latent_prior.pi_logits.shape == before.shape and torch.allclose(
            loaded.module.latent_prior.pi_logits, before
        )
        assert same is started


def test_without_validation_cells_early_stopping_is_off_by_default(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    model.train(**short_training, train_size=1.0)
    assert model.trainer.early_stopping_callback is None and len(model.predict()) == 300
    model = make_model()
    split = [np.arange(300), np.array([], dtype=int), np.array([], dtype=int)]
    model.train(**short_training, datasplitter_kwargs={"external_indexing": split})
    assert model.trainer.early_stopping_callback is None
    with pytest.raises(ValueError, match="Early Stopping"):
        make_model().train(**short_training, train_size=1.0, early_stopping=True)


def test_no_step_changes_nothing_as_in_stock_scvi(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model(use_batch_norm="none")
    before = {n: p.detach().clone() for n, p in model.module.named_parameters() if "pseudo" not in n}
    model.train(**{**short_training, "start": "cells"}, plan_kwargs={"lr": 0})
    after = dict(model.module.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_small_data_need_no_smaller_number_of_components_to_start_from_the_embedding(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    small = make_model().adata[:60].copy()
    model = make_model(small, n_components=100)
    model.train(**{**short_training, "start": "embedding"})
    assert 1 <= model.module.latent_prior.n_components <= 6


DDP = "ddp_find_unused_parameters_true"


@pytest.mark.parametrize(
    ("options", "accelerator", "devices", "expected"),
    [
        ({}, "gpu", 4, 1),  # one process drives one device, whatever is asked for
        ({"strategy": DDP}, "cpu", 2, 2),
        ({"strategy": DDPStrategy()}, "cpu", "2", 2),
        ({"strategy": DDP}, "cpu", "auto", 1),
        ({"strategy": DDP}, "gpu", "auto", 3),
        ({"strategy": DDP}, "gpu", -1, 3),
        ({"strategy": DDP}, "gpu", [0, 2], 2),
        ({"strategy": DDP}, "gpu", "1,2,", 2),
        ({"strategy": DDP, "num_nodes": 2}, "gpu", "auto", 6),
    ],
    ids=named,
)
def test_every_device_of_every_node_has_a_process(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], accelerator: str, devices: Any, expected: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert n_processes(options, accelerator, devices) == expected


def test_there_is_a_process_where_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert n_processes({"strategy": DDP}, "gpu", "auto") == 1


def test_early_stopping_of_several_processes_has_the_trainers_arguments() -> None:
    options: dict[str, Any] = {}
    default = early_stopping_of(options, 7)
    found = (default.monitor, default.mode, default.min_delta, default.patience, default.warmup_epochs)
    assert found == ("elbo_validation", "min", 0.0, 7, 0)
    assert options == {"check_val_every_n_epoch": 1}
    options = {
        "early_stopping_monitor": "elbo_train",
        "early_stopping_mode": "max",
        "early_stopping_min_delta": 0.5,
        "early_stopping_warmup_epochs": 4,
        "check_val_every_n_epoch": 3,
    }
    chosen = early_stopping_of(options, 2)
    found = (chosen.monitor, chosen.mode, chosen.min_delta, chosen.patience, chosen.warmup_epochs)
    assert found == ("elbo_train", "max", 0.5, 2, 4)
    assert options["check_val_every_n_epoch"] == 3
