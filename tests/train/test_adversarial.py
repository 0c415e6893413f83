"""The adversary learns batches from the embedding, the networks hide them, and no step moves the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.train import AdversarialEmpiricalBayesPlan

Make = Callable[..., SCVI_VMM]
N_CELLS, N_LATENT = 40, 4


def plan_of(make_model: Make, **options: Any) -> AdversarialEmpiricalBayesPlan:
    torch.manual_seed(0)
    plan = AdversarialEmpiricalBayesPlan(
        make_model().module, **{"adversarial_classifier": True, "scale_adversarial_loss": 0.7, **options}
    )
    return plan.eval()


def cells() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A minibatch of two batches, and what inference returned for it."""
    torch.manual_seed(1)
    z = torch.randn(N_CELLS, N_LATENT, requires_grad=True)
    return {"batch": torch.arange(N_CELLS).remainder(2).unsqueeze(1)}, {"z": z}


def error_of_adversary(plan: AdversarialEmpiricalBayesPlan, z: Tensor, batch: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(plan.adversarial_classifier(z), batch.ravel())


def test_networks_are_paid_for_embeddings_that_the_adversary_gets_wrong(make_model: Make) -> None:
    plan, (batch, outputs) = plan_of(make_model), cells()
    loss, z = plan.extra_loss(batch, outputs), outputs["z"]
    assert loss is not None
    # of two batches, the adversary is to name the other one
    expected = 0.7 * error_of_adversary(plan, z, 1 - batch["batch"])
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, z)
    with torch.no_grad():
        before, after = (error_of_adversary(plan, at, batch["batch"]) for at in (z, z - gradient))
    assert after > before


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        ({"scale_adversarial_loss": 2.0}, 2.0),
        ({"scale_adversarial_loss": "auto", "n_epochs_kl_warmup": 4}, 1.0),  # in the first epoch
        ({"scale_adversarial_loss": "auto", "n_epochs_kl_warmup": None}, None),
        ({"scale_adversarial_loss": 0.0}, None),
        ({"adversarial_classifier": False}, None),
    ],
    ids=str,
)
def test_the_adversary_counts_as_much_as_was_asked(
    make_model: Make, options: dict[str, Any], weight: float | None
) -> None:
    plan, (batch, outputs) = plan_of(make_model, **options), cells()
    loss = plan.extra_loss(batch, outputs)
    if weight is None:
        assert loss is None
    else:
        torch.testing.assert_close(loss, weight * error_of_adversary(plan, outputs["z"], 1 - batch["batch"]))


def test_the_adversary_has_an_optimizer_as_in_scvi_tools(make_model: Make) -> None:
    plan = plan_of(make_model, weight_decay=0.25)
    next(plan.adversarial_classifier.parameters()).requires_grad_(False)
    (optimizer,) = plan.other_optimizers()
    (group,) = optimizer.param_groups
    assert type(optimizer) is torch.optim.Adam
    assert (group["lr"], group["eps"], group["weight_decay"]) == (1e-3, 0.01, 0.25)
    trained = {id(p) for p in plan.adversarial_classifier.parameters() if p.requires_grad}
    assert {id(p) for p in group["params"]} == trained
    assert plan_of(make_model, adversarial_classifier=False).other_optimizers() == []


class WatchedPlan(AdversarialEmpiricalBayesPlan):
    """Notes what the adversary's step changes, and its error before and after."""

    def after_variational_step(self, batch: Any, outputs: Any, optimizers: Any) -> None:
        networks = dict(self.module.named_parameters())
        before = {name: p.detach().clone() for name, p in networks.items()}
        gradients = {name: None if p.grad is None else p.grad.clone() for name, p in networks.items()}
        z = outputs["z"].detach()
        with torch.no_grad():
            error = float(error_of_adversary(self.eval(), z, batch["batch"]))
        self.train()
        super().after_variational_step(batch, outputs, optimizers)
        with torch.no_grad():
            self.errors = (error, float(error_of_adversary(self.eval(), z, batch["batch"])))
        self.train()
        self.moved = {name for name, p in networks.items() if not torch.equal(p, before[name])}
        self.new_gradients = {
            name
            for name, p in networks.items()
            if p.grad is not None and (gradients[name] is None or not torch.equal(p.grad, gradients[name]))
        }
        self.n_optimizers = len(optimizers)


def test_the_adversarys_step_improves_the_adversary_and_leaves_everything_else(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model()
    model._training_plan_cls = WatchedPlan
    model.train(
        **{**short_training, "max_epochs": 1},
        limit_train_batches=1,
        plan_kwargs={"adversarial_classifier": True, "scale_adversarial_loss": 1.0},
    )
    plan = model.trainer.lightning_module
    assert plan.n_optimizers == 1 and len(model.trainer.optimizers) == 3
    assert not plan.moved and not plan.new_gradients
    assert plan.errors[1] < plan.errors[0]
    assert model.trainer.global_step == 1
