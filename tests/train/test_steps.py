"""The two steps of a minibatch keep to their own parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vmmscvi import SCVI_VMM
from vmmscvi.train import EmpiricalBayesTrainingPlan
from vmmscvi.train._optimizers import held

Make = Callable[..., SCVI_VMM]
State = dict[str, Tensor]


def state(module: nn.Module) -> State:
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}


def of_prior(name: str) -> bool:
    return name.startswith(("latent_prior.", "pseudo_inputs."))


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    def same(a: Tensor | None, b: Tensor | None) -> bool:
        if a is None or b is None:
            return a is b
        return (
            bool(((a == b) | (a.isnan() & b.isnan())).all()) if a.is_floating_point() else torch.equal(a, b)
        )

    return {name for name in after if not same(before[name], after[name])}


class RecordingPlan(EmpiricalBayesTrainingPlan):
    """Notes what each step changes: parameters and buffers, and gradients that stay behind."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.steps: list[tuple[str, set[str], set[str]]] = []

    def _record(self, kind: str, step: Callable[..., Any], *args: Any) -> Any:
        before, gradients_before = state(self.module), gradients(self.module)
        result = step(*args)
        self.steps.append(
            (
                kind,
                changed(before, state(self.module)),
                changed(gradients_before, gradients(self.module)),
            )
        )
        return result

    def _variational_step(self, *args: Any) -> Any:
        return self._record("VI", super()._variational_step, *args)

    def _empirical_bayes_step(self, *args: Any) -> None:
        self._record("EB", super()._empirical_bayes_step, *args)


def recorded(model: SCVI_VMM, training: dict[str, Any]) -> list[tuple[str, set[str], set[str]]]:
    model._training_plan_cls = RecordingPlan
    model.train(**{**training, "max_epochs": 1})
    return model.trainer.lightning_module.steps


@pytest.mark.parametrize(
    "options", [{}, {"use_observed_lib_size": False}], ids=["observed", "latent library"]
)
@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_each_step_moves_its_own_parameters_and_leaves_the_others_bit_identical(
    make_model: Make, short_training: dict[str, Any], prior: str, options: dict[str, Any]
) -> None:
    model = make_model(prior=prior, **options)
    steps = recorded(model, short_training)
    assert [kind for kind, _, _ in steps] == ["VI", "EB"] * 5
    trainable = {name for name, p in model.module.named_parameters() if p.requires_grad}
    # parts of scVI's networks that these settings do not use
    idle = ("decoder.px_r_decoder.", *(() if options else ("l_encoder.",)))
    for kind, moved, with_new_gradient in steps:
        own = {name for name in trainable if of_prior(name) == (kind == "EB")}
        assert not {name for name in moved if of_prior(name) != (kind == "EB")}
        assert not {name for name in with_new_gradient if of_prior(name) != (kind == "EB")}
        assert moved >= {name for name in own if not name.startswith(idle)}


def test_a_vi_step_updates_batch_norm_statistics_and_an_eb_step_does_not(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    for kind, moved, _ in recorded(make_model(use_observed_lib_size=False), short_training):
        statistics = {name for name in moved if "running" in name or "num_batches" in name}
        encoders = {name.split(".")[0] for name in statistics}
        assert encoders == ({"z_encoder", "l_encoder", "decoder"} if kind == "VI" else set())


@pytest.mark.parametrize("prior", ["vampprior", "standard_normal"])
def test_priors_fitted_with_the_elbo_have_variational_steps_only(
    make_model: Make, short_training: dict[str, Any], prior: str
) -> None:
    steps = recorded(make_model(prior=prior), short_training)
    assert [kind for kind, _, _ in steps] == ["VI"] * 5
    assert ("pseudo_inputs.z_encoder.values" in steps[0][1]) == (prior == "vampprior")


@pytest.mark.parametrize("inference", ["MAP", "MLE"])
def test_the_concentration_is_held_where_it_is_not_inferred(
    make_model: Make, short_training: dict[str, Any], inference: str
) -> None:
    model = make_model(inference=inference)
    recorded(model, short_training)
    assert float(model.module.latent_prior.alpha) == pytest.approx(1.0)
    np.testing.assert_allclose(model.history["alpha"].astype(float), 1.0, rtol=1e-6)


def test_held_parameters_get_no_gradient_and_are_trained_again_afterwards() -> None:
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.bias.requires_grad_(False)
    with held(other.parameters()):
        other(layer(torch.ones(1, 2))).sum().backward()
    assert other.weight.grad is None and layer.weight.grad is not None
    assert other.weight.requires_grad and not other.bias.requires_grad


def test_held_parameters_are_trained_again_after_an_error() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), held(layer.parameters()):
        raise ZeroDivisionError
    assert all(p.requires_grad for p in layer.parameters())
