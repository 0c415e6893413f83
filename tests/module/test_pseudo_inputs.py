"""Pseudo-cells: what goes in comes out, and whatever the optimizer does they stay cells."""

from __future__ import annotations

import pytest
import torch

from vmmscvi.module import PseudoCells, PseudoInputs

SPACES = ("log1p", "counts")


@pytest.mark.parametrize("space", SPACES)
def test_cells_that_are_filled_in_are_what_comes_out(space: str) -> None:
    counts = torch.poisson(torch.full((5, 20), 30.0))
    pseudo_inputs = PseudoInputs(5, 20, space=space)
    pseudo_inputs.fill(PseudoCells(counts=counts))
    torch.testing.assert_close(pseudo_inputs().counts, counts, rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("space", SPACES)
def test_zero_counts_are_almost_zero_and_keep_a_gradient(space: str) -> None:
    pseudo_inputs = PseudoInputs(3, 4, space=space)
    pseudo_inputs.fill(PseudoCells(counts=torch.zeros(3, 4)))
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
    pseudo_inputs.fill(PseudoCells(counts=torch.ones(4, 3), continuous=covariates))
    torch.testing.assert_close(pseudo_inputs().continuous, covariates)


def test_filling_is_remembered_with_the_parameters() -> None:
    pseudo_inputs, other = PseudoInputs(4, 3), PseudoInputs(4, 3)
    assert not pseudo_inputs.is_initialized
    pseudo_inputs.fill(PseudoCells(counts=torch.ones(4, 3)))
    other.load_state_dict(pseudo_inputs.state_dict())
    assert other.is_initialized


@pytest.mark.parametrize("space", SPACES)
def test_the_number_of_components_becomes_that_of_the_cells(space: str) -> None:
    pseudo_inputs = PseudoInputs(4, 3, n_batch=2, n_continuous=1, n_categories=[3], space=space)
    parameters = dict(pseudo_inputs.named_parameters())
    cells = PseudoCells(
        counts=torch.poisson(torch.full((6, 3), 30.0)),
        batch=torch.softmax(torch.randn(6, 2), dim=-1),
        continuous=torch.randn(6, 1),
        categorical=(torch.softmax(torch.randn(6, 3), dim=-1),),
    )
    pseudo_inputs.fill(cells)
    found = pseudo_inputs()
    assert pseudo_inputs.n_components == 6
    torch.testing.assert_close(found.counts, cells.counts, rtol=1e-4, atol=0.02)
    torch.testing.assert_close(found.batch, cells.batch)
    torch.testing.assert_close(found.continuous, cells.continuous)
    torch.testing.assert_close(found.categorical[0], cells.categorical[0])
    # the same objects: an optimizer that has been told of them goes on with them
    assert all(parameters[name] is p for name, p in pseudo_inputs.named_parameters())


def test_certain_categories_keep_a_gradient() -> None:
    pseudo_inputs = PseudoInputs(2, 3, n_batch=2, n_categories=[3])
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    three = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    pseudo_inputs.fill(PseudoCells(counts=torch.ones(2, 3), batch=certain, categorical=(three,)))
    cells = pseudo_inputs()
    torch.testing.assert_close(cells.batch, certain, atol=2e-3, rtol=0)
    torch.testing.assert_close(cells.categorical[0], three, atol=3e-3, rtol=0)
    (cells.batch[:, 0].sum() + cells.categorical[0][:, 0].sum()).backward()
    for logits in (pseudo_inputs.batch_logits, *pseudo_inputs.category_logits):
        assert (logits.grad[:, 0] > 1e-4).all()


def test_what_is_not_known_of_the_cells_is_uniform_or_zero() -> None:
    pseudo_inputs = PseudoInputs(2, 3, n_batch=4, n_continuous=2, n_categories=[3])
    with torch.no_grad():
        for parameter in pseudo_inputs.parameters():
            parameter.normal_()
    pseudo_inputs.fill(PseudoCells(counts=torch.ones(5, 3)))
    cells = pseudo_inputs()
    torch.testing.assert_close(cells.batch, torch.full((5, 4), 0.25))
    torch.testing.assert_close(cells.continuous, torch.zeros(5, 2))
    torch.testing.assert_close(cells.categorical[0], torch.full((5, 3), 1 / 3))


def test_a_state_with_another_number_of_cells_is_taken_over() -> None:
    pseudo_inputs, other = (PseudoInputs(n, 3, n_batch=2, n_categories=[3]) for n in (4, 6))
    other.fill(PseudoCells(counts=torch.poisson(torch.full((6, 3), 30.0))))
    pseudo_inputs.load_state_dict(other.state_dict())
    assert pseudo_inputs.n_components == 6
    assert torch.equal(pseudo_inputs().counts, other().counts)


def test_a_state_with_other_genes_is_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for expression"):
        PseudoInputs(4, 3).load_state_dict(PseudoInputs(6, 5).state_dict())


def test_cells_with_other_genes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`cells.counts` must have shape \(K, 3\), found \(4, 5\)"):
        PseudoInputs(4, 3).fill(PseudoCells(counts=torch.ones(4, 5)))


def test_an_unknown_space_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`pseudo_input_space` must be one of .* found 'sqrt'"):
        PseudoInputs(4, 3, space="sqrt")
