"""Empirical-Bayes steps on the latent positions of the variational step, instead of encoding cells again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.train import EmpiricalBayesTrainingPlan

Make = Callable[..., SCVI_VMM]
N_BATCHES = 5


class WatchingPlan(EmpiricalBayesTrainingPlan):
    """Notes what is encoded, and what empirical-Bayes steps are given."""

    def on_fit_start(self) -> None:
        self.encoded: list[Tensor] = []
        self.fitted_to: list[Tensor] = []
        self.networks_moved = False
        inference, objective = self.module.inference, self.module.latent_prior.empirical_bayes_loss

        def watched_inference(*args: Any, **kwargs: Any) -> Any:
            outputs = inference(*args, **kwargs)
            if self.trainer.training:
                self.encoded.append(outputs["z"].detach().clone())
            return outputs

        def watched_objective(z: Tensor, *args: Any, **kwargs: Any) -> Any:
            assert not z.requires_grad
            self.fitted_to.append(z.clone())
            return objective(z, *args, **kwargs)

        object.__setattr__(self.module, "inference", watched_inference)
        object.__setattr__(self.module.latent_prior, "empirical_bayes_loss", watched_objective)

    def _empirical_bayes_step(self, *args: Any) -> None:
        networks = [
            p for n, p in self.module.named_parameters() if not n.startswith(("latent_prior", "pseudo"))
        ]
        before = [p.detach().clone() for p in networks]
        super()._empirical_bayes_step(*args)
        self.networks_moved |= not all(map(torch.equal, before, networks))


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
@pytest.mark.parametrize("reuse", [False, True])
def test_cells_are_encoded_once_or_twice_in_a_step(
    make_model: Make, short_training: dict[str, Any], prior: str, reuse: bool
) -> None:
    model = make_model(prior=prior)
    model._training_plan_cls = WatchingPlan
    options = {**short_training, "max_epochs": 1, "early_stopping": False}
    model.train(**options, plan_kwargs={"reuse_encoding": reuse})
    plan = model.trainer.lightning_module
    assert len(plan.fitted_to) == N_BATCHES
    assert len(plan.encoded) == N_BATCHES * (1 if reuse else 2)
    in_steps = plan.encoded if reuse else plan.encoded[1::2]
    assert all(map(torch.equal, in_steps, plan.fitted_to))
    assert not plan.networks_moved


def test_encoding_again_is_the_default(make_model: Make) -> None:
    assert not EmpiricalBayesTrainingPlan(make_model().module).reuse_encoding
