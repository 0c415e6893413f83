"""Gradients with respect to the counts, as saliency maps take them, are those of the plain module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from scvi.distributions import NegativeBinomial, ZeroInflatedNegativeBinomial
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.module import VMMVAE
from vmmscvi.module._sparse_counts import SparseCounts, nonzero
from vmmscvi.module._zero_aware import zero_aware

Make = Callable[..., SCVI_VMM]


@pytest.fixture(params=[1, 4], ids=["NumPy looks for zeros", "torch looks for zeros"], autouse=True)
def n_threads(request: pytest.FixtureRequest, use_threads: Callable[[int], None]) -> int:
    use_threads(request.param)
    return int(request.param)


def counts() -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.poisson(3.0, (6, 9)) * (rng.random((6, 9)) < 0.4)).float()


def by_counts(module: VMMVAE, tensors: dict[str, Tensor], function: Callable[..., Tensor]) -> Tensor:
    x = tensors["X"].clone().requires_grad_()
    torch.manual_seed(0)
    (gradient,) = torch.autograd.grad(function(module, {**tensors, "X": x}), x)
    return gradient


def embedding(module: VMMVAE, tensors: dict[str, Tensor]) -> Tensor:
    loc: Tensor = module.inference(**module._get_inference_input(tensors))["qz"].loc
    return loc.square().sum()


def loss(module: VMMVAE, tensors: dict[str, Tensor]) -> Tensor:
    value: Tensor = module(tensors)[2].loss
    return value


@pytest.mark.parametrize("function", [embedding, loss])
@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb"])
def test_gradient_by_the_counts_is_that_of_the_plain_module(
    make_model: Make,
    sparse_counts: AnnData,
    minibatch: Any,
    gene_likelihood: str,
    function: Callable[..., Tensor],
) -> None:
    model = make_model(sparse_counts.copy(), prior="standard_normal", gene_likelihood=gene_likelihood)
    module, tensors = model.module.eval(), minibatch(model)
    gradient = by_counts(module, tensors, function)
    module.sparse_encoder = module.fast_likelihood = False
    expected = by_counts(module, tensors, function)
    assert expected.any()
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("likelihood", ["nb", "zinb"])
def test_gradient_of_a_likelihood_by_the_counts_is_that_of_scvi(likelihood: str) -> None:
    x = counts().requires_grad_()
    given = {"mu": torch.rand(6, 9) + 0.5, "theta": torch.rand(9) + 0.5}
    if likelihood == "nb":
        theirs: Any = NegativeBinomial(**given)
    else:
        theirs = ZeroInflatedNegativeBinomial(**given, zi_logits=torch.zeros(6, 9))
    gradients = [
        torch.autograd.grad(distribution.log_prob(x).sum(), x)[0]
        for distribution in (zero_aware(theirs, given["theta"]), theirs)
    ]
    assert gradients[0].any()
    torch.testing.assert_close(gradients[0], gradients[1])


def test_counts_that_require_a_gradient_are_found_like_others() -> None:
    x = counts()
    assert torch.equal(nonzero(x.ravel().requires_grad_()), nonzero(x.ravel()))
    assert torch.equal(SparseCounts.of(x.clone().requires_grad_()).index, SparseCounts.of(x).index)


def test_counts_without_a_gradient_are_still_read_sparsely(
    make_model: Make, sparse_counts: AnnData, minibatch: Any, readings: Any
) -> None:
    model = make_model(sparse_counts.copy(), prior="standard_normal")
    model.module(minibatch(model))
    assert readings.n_found == 1
