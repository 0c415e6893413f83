"""Half precision is for the networks, the prior computes in float32; compiling changes no result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import scvi
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.overrides import TorchFunctionMode

from vmmscvi import SCVI_VMM
from vmmscvi.priors import Centers, Prior
from vmmscvi.train import EmpiricalBayesTrainingPlan

Make = Callable[..., SCVI_VMM]

LINEAR_ALGEBRA = ("cholesky", "solve_triangular", "cholesky_inverse", "logsumexp", "vecdot")


class DtypesOfLinearAlgebra(TorchFunctionMode):
    """Which dtypes Cholesky factorisations, triangular solves and sums of exponentials get and return."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = next((n for n in LINEAR_ALGEBRA if n in getattr(func, "__name__", "")), None)
        if name is not None:
            tensors = [t for t in (*args, result) if isinstance(t, Tensor)]
            self.seen.setdefault(name, set()).update(t.dtype for t in tensors)
        return result


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("start", ["cells", "embedding"])
def test_mixed_precision_trains_and_the_prior_stays_in_float32(
    make_model: Make, short_training: dict[str, Any], precision: str, start: str
) -> None:
    with DtypesOfLinearAlgebra() as dtypes:
        model = make_model()
        options = {**short_training, "start": start, "max_epochs": 3}
        model.train(**options, precision=precision)
    assert {"cholesky", "solve_triangular", "logsumexp"} <= set(dtypes.seen)
    halves = {torch.float16, torch.bfloat16}
    assert not {name for name, seen in dtypes.seen.items() if seen & halves}
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert np.isfinite(model.get_cluster_probabilities()).all(axis=None)
    scvi.settings.seed = 0
    full = make_model()
    full.train(**options)
    for name in ("elbo_validation", "elbo_train"):
        found, expected = (m.history[name].to_numpy(float) for m in (model, full))
        np.testing.assert_allclose(found, expected, rtol=0.02)


def test_networks_are_in_half_precision_and_no_backward_pass_is_autocast(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    class Backward(EmpiricalBayesTrainingPlan):
        autocast: ClassVar[list[bool]] = []

        def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            self.autocast.append(torch.is_autocast_enabled("cpu"))
            super().manual_backward(loss, *args, **kwargs)

    model, seen = make_model(), set()
    model._training_plan_cls = Backward
    model.module.z_encoder.mean_encoder.register_forward_hook(lambda *a: seen.add(a[-1].dtype))
    model.train(**short_training, precision="bf16-mixed")
    assert torch.bfloat16 in seen
    assert Backward.autocast and not any(Backward.autocast)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior", "standard_normal"])
def test_a_prior_gives_the_same_values_and_gradients_under_autocast(
    make_model: Make, prior: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    density: Prior = make_model(prior=prior).module.latent_prior
    centers = Centers(torch.randn(8, 4), 0.1 + torch.rand(8, 4)) if density.uses_pseudo_inputs else None
    qz = Normal(torch.randn(50, 4), 0.1 + torch.rand(50, 4))

    def evaluate(enabled: bool) -> list[Tensor]:
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            values = forward()
        parameters = [p for p in density.parameters() if p.requires_grad]
        total = torch.stack([v.sum() for v in values]).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True) if parameters else ()
        return [*values, *(g for g in gradients if g is not None)]

    def forward() -> list[Tensor]:
        z = qz.rsample().detach()
        values = [density.log_prob(z, centers), density.kl_divergence(qz, z, centers)]
        if density.fitted_by_empirical_bayes:
            values.append(density.empirical_bayes_loss(z, centers).loss)
        return values

    for value, truth in zip(evaluate(True), evaluate(False), strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, truth)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "start"), [("eager", "cells"), ("eager", "embedding"), (None, "cells")])
def test_compiled_training_is_the_same_training(
    make_model: Make, short_training: dict[str, Any], backend: str | None, start: str
) -> None:
    if backend is None and shutil.which("g++") is None:
        pytest.skip("torch's own backend needs a C++ compiler")
    compiling: dict[str, Any] = {"compile": True, "compile_kwargs": {"backend": backend} if backend else {}}
    options = {**short_training, "start": start, "max_epochs": 4, "batch_size": 150, "lr": 1e-3}
    models, starts = [], []
    for plan_kwargs in ({}, compiling):
        scvi.settings.seed = 0
        model = make_model(dropout_rate=0.0)
        starts.append({name: p.detach().clone() for name, p in model.module.named_parameters()})
        model.train(**options, plan_kwargs=plan_kwargs)
        models.append(model)
    plain, compiled = models
    assert isinstance(compiled.trainer.lightning_module.module, torch._dynamo.OptimizedModule)
    for name in ("elbo_validation", "elbo_train", "prior_loss"):
        found, expected = (m.history[name].to_numpy(float) for m in (compiled, plain))
        np.testing.assert_allclose(found, expected, rtol=1e-2)
    assert compiled.module.state_dict().keys() == plain.module.state_dict().keys()
    # what training has changed, not where it began, is to be the same
    steps = [
        {name: p.detach() - start[name] for name, p in m.module.named_parameters() if name in MOVED}
        for m, start in zip(models, starts, strict=True)
    ]
    assert set(steps[0]) == set(MOVED)
    for name in MOVED:
        difference, moved = (steps[1][name] - steps[0][name]).norm(), steps[0][name].norm()
        assert moved > 0 and difference < 0.2 * moved, f"{name}: {difference / moved:.3f}"


MOVED = (
    "z_encoder.encoder.fc_layers.Layer 0.0.weight",
    "z_encoder.mean_encoder.weight",
    "decoder.px_decoder.fc_layers.Layer 0.0.weight",
    "decoder.px_scale_decoder.0.weight",
    "px_r",
)
"""Parameters of each part of the networks."""
