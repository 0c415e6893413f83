"""The best epoch's weights are what a training leaves, however it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from vmmscvi import SCVI_VMM
from vmmscvi.train import NonFiniteTrainingError, RestoreBestEpoch

Make = Callable[..., SCVI_VMM]
State = dict[str, Tensor]


class Snapshots(Callback):
    """The weights of every epoch, as they were when it was validated."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.states.append({n: v.clone() for n, v in pl_module.module.state_dict().items()})


class Corrupt(Callback):
    """Set a parameter to NaN when an epoch, or its validation, starts."""

    def __init__(self, name: str, epoch: int, *, validation: bool = False) -> None:
        self.name, self.epoch, self.validation = name, epoch, validation

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.corrupt(trainer, pl_module, wanted=not self.validation)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.corrupt(trainer, pl_module, wanted=self.validation)

    def corrupt(self, trainer: Any, pl_module: Any, *, wanted: bool) -> None:
        if wanted and trainer.current_epoch == self.epoch:
            with torch.no_grad():
                pl_module.module.get_parameter(self.name).fill_(torch.nan)


def assert_same(found: State, expected: State) -> None:
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def validation_elbo(model: SCVI_VMM) -> tuple[float, float]:
    """Negative ELBO of the validation cells and the noise of one evaluation."""
    values = [float(model.get_elbo(indices=model.validation_indices, return_mean=True)) for _ in range(30)]
    return abs(np.mean(values)), np.std(values)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_epochs_weights_are_restored(
    make_model: Make, short_training: dict[str, Any], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="vmmscvi")
    model, snapshots = make_model(), Snapshots()
    # the largest loss is that of the first epoch: there, restoring is not the same as doing nothing
    model.train(**{**short_training, "max_epochs": 4}, early_stopping_mode=mode, callbacks=[snapshots])
    scores = model.history["elbo_validation"].to_numpy(dtype=float).ravel()
    best = int(scores.argmin() if mode == "min" else scores.argmax())
    assert best == (3 if mode == "min" else 0)
    assert f"weights of epoch {best + 1} (" in caplog.text  # counted from 1, as progress is
    assert_same(model.module.state_dict(), snapshots.states[best])
    elbo, noise = validation_elbo(model)
    assert elbo == pytest.approx(scores[best], abs=5 * noise)
    other = scores[0 if mode == "min" else 3]
    assert abs(other - scores[best]) > 5 * noise, "the epochs are too alike to tell"


def test_the_prior_of_the_restored_epoch_is_the_one_in_use(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    model.train(**{**short_training, "max_epochs": 4}, early_stopping_mode="max")
    z = torch.randn(10, 4)
    with torch.no_grad():
        assert torch.equal(
            model.module.latent_prior.log_prob(z),
            model.module.latent_prior.log_prob(z, model.module.centers()),
        )


def test_training_stops_when_patience_runs_out(make_model: Make, short_training: dict[str, Any]) -> None:
    model = make_model()
    model.train(
        **{**short_training, "max_epochs": 20}, early_stopping_patience=2, early_stopping_min_delta=1e6
    )
    assert len(model.history["elbo_validation"]) == 3


def test_without_early_stopping_the_last_epochs_weights_stay(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    last: State = {}

    class Last(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            last.update({n: p.clone() for n, p in pl_module.module.named_parameters()})

    model = make_model()
    model.train(**short_training, early_stopping=False, callbacks=[Last()])
    assert_same(dict(model.module.named_parameters()), last)
    with torch.no_grad():
        assert torch.equal(model.module.latent_prior.center_loc, model.module.encode_pseudo_inputs().loc)


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("px_r", "reconstruction_loss|theta"),
        ("z_encoder.mean_encoder.bias", "loc|reconstruction_loss"),
        ("pseudo_inputs.z_encoder.values", "kl_divergence_z|loc"),
        ("latent_prior.pi_logits", "kl_divergence_z"),
        ("latent_prior.precision_cholesky.unconstrained", "kl_divergence_z|matrix of the prior"),
        ("latent_prior.inverse_alpha.unconstrained", "hyperprior_nll"),
    ],
)
def test_nan_in_training_names_the_culprit_and_keeps_the_best_epoch(
    make_model: Make, short_training: dict[str, Any], name: str, quantity: str
) -> None:
    model, snapshots = make_model(), Snapshots()
    with pytest.raises(
        NonFiniteTrainingError, match=rf"stopped in epoch 3: .*({quantity}).* became NaN"
    ) as error:
        model.train(**{**short_training, "max_epochs": 4}, callbacks=[snapshots, Corrupt(name, epoch=2)])
    assert f"not finite: {name}" in str(error.value)
    scores = model.history["elbo_validation"].to_numpy(dtype=float).ravel()
    assert len(snapshots.states) == 2
    assert_same(model.module.state_dict(), snapshots.states[int(scores.argmin())])


def test_nan_in_validation_stops_training_and_keeps_the_best_epoch(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model, snapshots = make_model(), Snapshots()
    with pytest.raises(
        NonFiniteTrainingError, match=r"stopped in epoch 3: .*reconstruction_loss.* became NaN"
    ):
        model.train(
            **{**short_training, "max_epochs": 4},
            callbacks=[snapshots, Corrupt("px_r", epoch=2, validation=True)],
        )
    scores = model.history["elbo_validation"].to_numpy(dtype=float).ravel()
    assert np.isfinite(scores).all()
    assert_same(model.module.state_dict(), snapshots.states[int(scores.argmin())])


def test_a_model_whose_training_failed_can_be_used_saved_and_trained_on(
    make_model: Make, short_training: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model()
    with pytest.raises(NonFiniteTrainingError):
        model.train(**{**short_training, "max_epochs": 4}, callbacks=[Corrupt("px_r", epoch=1)])
    assert model.is_trained and not model.module.training
    probabilities = model.get_cluster_probabilities()
    assert np.isfinite(probabilities.to_numpy()).all()
    model.save(tmp_path / "model")
    model.train(**short_training)
    assert len(model.history["prior_loss"]) == 3


def test_nan_before_any_epoch_has_ended_leaves_the_model_untrained(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    with pytest.raises(NonFiniteTrainingError):
        model.train(**short_training, callbacks=[Corrupt("px_r", epoch=0)])
    assert not model.is_trained
    with pytest.raises(RuntimeError, match="has not been trained"):
        model.predict()


def test_a_step_size_far_too_large_is_explained(make_model: Make, short_training: dict[str, Any]) -> None:
    with pytest.raises(NonFiniteTrainingError, match="smaller learning rate"):
        make_model().train(**{**short_training, "max_epochs": 20}, lr=1e18)


def test_an_interrupted_training_keeps_the_best_epoch(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    class Interrupt(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    model, snapshots = make_model(), Snapshots()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        model.train(**{**short_training, "max_epochs": 4}, callbacks=[snapshots, Interrupt()])
    scores = model.history["elbo_validation"].to_numpy(dtype=float).ravel()
    assert_same(model.module.state_dict(), snapshots.states[int(scores.argmin())])
    assert len(model.predict()) == 300


def test_errors_of_the_user_are_not_called_numerical(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    class Fail(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            batch.pop("batch")

    with pytest.raises(KeyError):
        make_model().train(**short_training, callbacks=[Fail()])


def report(callback: RestoreBestEpoch, layer: nn.Module, score: float, epoch: int) -> None:
    metrics = {callback.monitor: torch.tensor(score)}
    trainer: Any = SimpleNamespace(sanity_checking=False, callback_metrics=metrics, current_epoch=epoch)
    callback.on_validation_end(trainer, SimpleNamespace(module=layer))  # type: ignore[arg-type]


def test_a_nan_score_is_never_the_best() -> None:
    callback, layer = RestoreBestEpoch(), nn.Linear(1, 1)
    for epoch, score in enumerate([float("nan"), 3.0, 2.0, float("nan"), 2.5]):
        report(callback, layer, score, epoch)
    assert (callback.best_score, callback.best_epoch) == (2.0, 2)


def test_kept_weights_survive_a_checkpoint_and_later_changes() -> None:
    callback, layer = RestoreBestEpoch(), nn.Linear(1, 1)
    report(callback, layer, 1.0, epoch=0)
    best = {n: v.clone() for n, v in layer.state_dict().items()}
    with torch.no_grad():
        layer.weight.add_(1.0)
    resumed = RestoreBestEpoch()
    resumed.load_state_dict(callback.state_dict())
    resumed.on_train_end(SimpleNamespace(), SimpleNamespace(module=layer))  # type: ignore[arg-type]
    assert_same(layer.state_dict(), best)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="`mode` must be 'min' or 'max', found 'up'"):
        RestoreBestEpoch(mode="up")
