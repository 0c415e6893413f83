"""Pseudo-cells: what goes in comes out, and whatever the optimizer does they stay cells."""

from __future__ import annotations

import pytest
import torch

from vmmscvi.module import PseudoInputs

SPACES = ("log1p", "counts")


@pytest.mark.parametrize("space", SPACES)
def test_cells_that_are_filled_in_are_what_comes_out(space: str) -> None:
    counts = torch.poisson(torch.full((5, 20), 30.0))
    pseudo_inputs = PseudoInputs(5, 20, space=space)
    pseudo_inputs.fill(counts)
    torch.testing.assert_close(pseudo_inputs().counts, counts, rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("space", SPACES)
def test_zero_counts_are_almost_zero_and_keep_a_gradient(space: str) -> None:
    pseudo_inputs = PseudoInputs(3, 4, space=space)
    pseudo_inputs.fill(torch.zeros(3, 4))
    counts = pseudo_inputs().counts
    counts.sum().backward()
    assert (counts > 0).all() and (counts < 0.02).all()
    assert (pseudo_inputs.expression.grad > 1e-3).all()


@pytest.mark.parametrize("space", SPACES)
def test_expression_stays_non_negative_and_finite_wherever_the_optimizer_goes(space: str) -> None:
    pseudo_inputs = PseudoInputs(2, 3, space=space)
    with torch.no_grad():
        pseudo_inputs.expression.copy_(torch.tensor([[-100.0, -1.0, 0.0], [1.0, 10.0, 15.0]]))
    counts = pseudo_inputs().counts
    assert (counts >= 0).all() and torch.isfinite(counts).all()


def test_categories_start_uniform_and_stay_on_the_simplex() -> None:
    pseudo_inputs = PseudoInputs(4, 3, n_batch=5, n_categories=[2, 3])
    cells = pseudo_inputs()
    torch.testing.assert_close(cells.batch, torch.full((4, 5), 0.2))
    assert [tuple(c.shape) for c in cells.categorical] == [(4, 2), (4, 3)]
    with torch.no_grad():
        pseudo_inputs.batch_logits.normal_(std=10)
    torch.testing.assert_close(pseudo_inputs().batch.sum(-1), torch.ones(4))


def test_continuous_covariates_are_those_of_the_cells() -> None:
    pseudo_inputs = PseudoInputs(4, 3, n_continuous=2)
    covariates = torch.randn(4, 2)
    pseudo_inputs.fill(torch.ones(4, 3), covariates)
    torch.testing.assert_close(pseudo_inputs().continuous, covariates)


def test_filling_is_remembered_with_the_parameters() -> None:
    pseudo_inputs, other = PseudoInputs(4, 3), PseudoInputs(4, 3)
    assert not pseudo_inputs.is_initialized
    pseudo_inputs.fill(torch.ones(4, 3))
    other.load_state_dict(pseudo_inputs.state_dict())
    assert other.is_initialized


def test_the_wrong_number_of_cells_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`counts` must have shape \(4, 3\), found \(5, 3\)"):
        PseudoInputs(4, 3).fill(torch.ones(5, 3))


def test_an_unknown_space_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`pseudo_input_space` must be one of .* found 'sqrt'"):
        PseudoInputs(4, 3, space="sqrt")
