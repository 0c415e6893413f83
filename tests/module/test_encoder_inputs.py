"""Pseudo-inputs: what goes in comes out, and whatever the optimizer does the encoder can take it."""

from __future__ import annotations

import math

import pytest
import torch
from scvi.nn import Encoder
from torch import nn

from vmmscvi.module import VMMVAE, EncoderInputs, EncoderLayout, InputValues
from vmmscvi.module._encoder_inputs import MeanInputs, count_nonnegative

SCALES = ("linear", "log1p", "expm1")
LAYOUT = EncoderLayout(4, (2, 3))


def filled(values: torch.Tensor, scale: str = "linear", n_nonnegative: int | None = None) -> EncoderInputs:
    """Inputs without categories that start from values, all of them positive by default."""
    n_values = values.shape[1]
    inputs = EncoderInputs(3, EncoderLayout(n_values), scale)
    return inputs.initialised_from(InputValues(values), n_values if n_nonnegative is None else n_nonnegative)


@pytest.mark.parametrize("scale", SCALES)
def test_initial_values_are_returned_including_negative_ones(scale: str) -> None:
    values = torch.cat((5 * torch.rand(6, 20) + 0.02, torch.randn(6, 2)), dim=1)
    inputs = filled(values, scale, n_nonnegative=20)
    assert inputs.n_components == 6
    torch.testing.assert_close(inputs()[0], values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", SCALES)
def test_zeros_are_almost_zero_and_keep_a_gradient(scale: str) -> None:
    values = torch.zeros(3, 4)
    values[:, 0] = 2.0
    inputs = filled(values, scale)
    (found,) = inputs()
    found[:, 1:].sum().backward()
    assert (found[:, 1:] > 0).all() and (found[:, 1:] < 0.02).all()
    assert (inputs.values.grad[:, 1:] > 1e-3).all()


def test_the_floor_of_zeros_stays_below_the_mean_of_sparse_data() -> None:
    values = torch.zeros(3, 100)
    values[:, 0] = 0.5  # mean 0.005, half of the default floor
    (found,) = filled(values)()
    assert found[:, 1:].max() < 0.2 * values.mean()
    assert torch.isfinite(filled(torch.zeros(3, 4)).values).all()


@pytest.mark.parametrize("scale", SCALES)
def test_positive_values_stay_positive_and_finite_wherever_the_optimizer_goes(scale: str) -> None:
    inputs = filled(torch.ones(2, 3), scale, n_nonnegative=3)
    with torch.no_grad():
        inputs.values.copy_(torch.tensor([[-100.0, -1.0, 0.0], [1.0, 10.0, 15.0]]))
    (found,) = inputs()
    assert (found >= 0).all() and torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("scale", "same"), [("linear", lambda v: v), ("log1p", torch.expm1), ("expm1", torch.log1p)]
)
def test_a_step_of_the_optimizer_means_the_same_on_the_scale_that_was_asked_for(scale, same) -> None:
    """Far from zero the softplus is the identity, and the parameter is the value on the other scale."""
    inputs = filled(torch.tensor([[3.0, 4.0, 5.0]]), scale)
    with torch.no_grad():
        inputs.values.add_(2.0) if scale != "expm1" else inputs.values.add_(0.2)
    step = 2.0 if scale != "expm1" else 0.2
    before = same(torch.tensor([[3.0, 4.0, 5.0]]))
    torch.testing.assert_close(same(inputs()[0].detach()), before + step, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("space", "log_variational", "scale"),
    [
        ("log1p", True, "linear"),
        ("counts", True, "log1p"),
        ("log1p", False, "expm1"),
        ("counts", False, "linear"),
    ],
)
def test_counts_are_moved_on_the_scale_that_was_asked_for_whatever_the_encoder_sees(
    space: str, log_variational: bool, scale: str
) -> None:
    module = VMMVAE(5, pseudo_input_space=space, log_variational=log_variational, n_components=2)
    assert module.pseudo_inputs["z_encoder"].scale == scale


def test_categories_start_uniform_and_stay_on_the_simplex() -> None:
    inputs = EncoderInputs(4, EncoderLayout(3, (5, 2, 0)))
    _, batch, two, ignored = inputs()
    torch.testing.assert_close(batch, torch.full((4, 5), 0.2))
    assert two.shape == (4, 2) and torch.equal(ignored, torch.ones(4, 1))
    with torch.no_grad():
        inputs.category_logits[0].normal_(std=10)
    torch.testing.assert_close(inputs()[1].sum(-1), torch.ones(4))


def test_categories_are_those_that_are_filled_in_and_certain_ones_keep_a_gradient() -> None:
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    uncertain = torch.softmax(torch.randn(2, 3), dim=-1)
    inputs = EncoderInputs(7, LAYOUT).initialised_from(InputValues(torch.ones(2, 4), (certain, uncertain)), 4)
    _, found, other = inputs()
    torch.testing.assert_close(found, certain, atol=2e-3, rtol=0)
    torch.testing.assert_close(other, uncertain)
    found[:, 0].sum().backward()
    assert (inputs.category_logits[0].grad[:, 0] > 1e-4).all()


def test_unknown_categories_are_uniform_and_others_unchanged() -> None:
    inputs = EncoderInputs(2, LAYOUT)
    with torch.no_grad():
        for parameter in inputs.parameters():
            parameter.normal_()
    before = inputs()
    fresh = inputs.initialised_from(InputValues(torch.ones(5, 4)), 4)
    _, two, three = fresh()
    torch.testing.assert_close(two, torch.full((5, 2), 0.5))
    torch.testing.assert_close(three, torch.full((5, 3), 1 / 3))
    assert all(map(torch.equal, inputs(), before))


def test_batches_that_were_appended_for_a_query_are_doubted_and_others_keep_their_ratio() -> None:
    inputs = EncoderInputs(3, EncoderLayout(1, (4, 3)))
    with torch.no_grad():
        inputs.category_logits[0][:, :2].normal_()
        inputs.category_logits[1].normal_()
    ratio = inputs.category_logits[0][:, 0] - inputs.category_logits[0][:, 1]
    untouched = inputs.category_logits[1].clone()
    inputs.doubt_new_categories()
    _, batch, other = inputs()
    torch.testing.assert_close(batch[:, 2:].sum(-1), torch.full((3,), 0.002 / 1.002))
    torch.testing.assert_close((batch[:, 0] / batch[:, 1]).log(), ratio)
    torch.testing.assert_close(other, torch.softmax(untouched, dim=-1))


def test_uniform_categories_are_not_taken_for_new_ones() -> None:
    inputs = EncoderInputs(3, EncoderLayout(1, (2,)))
    inputs.doubt_new_categories()
    torch.testing.assert_close(inputs()[1], torch.full((3, 2), 0.5))


def test_how_many_values_are_positive_survives_a_state_dict() -> None:
    values = torch.tensor([[0.5, 1.0, -2.0], [1.5, 2.0, -3.0], [1.5, 2.0, 3.0]])
    inputs, loaded = filled(values, n_nonnegative=2), EncoderInputs(3, EncoderLayout(3))
    loaded.load_state_dict(inputs.state_dict())
    assert loaded.n_nonnegative == 2
    torch.testing.assert_close(loaded()[0], values)


@pytest.mark.parametrize(
    ("values", "categories", "message"),
    [
        (torch.ones(2, 5), (), r"`inputs.values` must have shape \(K, 4\), found \(2, 5\)"),
        (torch.ones(4), (), r"`inputs.values` must have shape \(K, 4\), found \(4,\)"),
        (
            torch.ones(2, 4),
            (torch.ones(2, 3),),
            r"`inputs.categories` must have widths \(2, 3\), found \(3,\)",
        ),
    ],
)
def test_inputs_that_the_encoder_cannot_take_are_refused(
    values: torch.Tensor, categories: tuple[torch.Tensor, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EncoderInputs(3, LAYOUT).initialised_from(InputValues(values, categories), 4)


def test_an_unknown_space_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`pseudo_input_space` must be one of .* found 'sqrt'"):
        VMMVAE(5, pseudo_input_space="sqrt")


# -- what an encoder is called with --------------------------------------------------------------------------


@pytest.mark.parametrize(("n_input", "n_cat_list"), [(7, []), (7, [3]), (9, [2, 4]), (5, [1, 3])], ids=str)
def test_the_encoder_accepts_inputs_of_its_layout(n_input: int, n_cat_list: list[int]) -> None:
    encoder = Encoder(n_input, 2, n_cat_list=n_cat_list, n_hidden=6).eval()
    layout = EncoderLayout.of(encoder)
    assert layout.n_values == n_input
    mean, *_ = encoder(*EncoderInputs(4, layout)())
    assert mean.shape == (4, 2)


def test_an_encoder_that_is_not_scvi_tools_own_is_named() -> None:
    with pytest.raises(ValueError, match="Linear has no FCLayers of scvi-tools"):
        EncoderLayout.of(nn.Linear(3, 2))


def test_codes_of_categories_are_read_as_certain_ones() -> None:
    codes = torch.tensor([[1.0], [0.0], [2.0]])
    found = InputValues.of_call((torch.ones(3, 4), codes, torch.zeros(3, 1)), EncoderLayout(4, (3, 0)))
    assert torch.equal(found.categories[0], torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
    assert torch.equal(found.categories[1], torch.ones(3, 1))


# -- means ---------------------------------------------------------------------------------------------------


def test_means_do_not_depend_on_how_cells_are_split_into_minibatches() -> None:
    values, one_hot = torch.randn(12, 4), nn.functional.one_hot(torch.arange(12) % 3, 3).float()
    shares = torch.softmax(torch.randn(2, 12), dim=-1)
    at_once, in_parts = MeanInputs(), MeanInputs()
    at_once.add(InputValues(values, (one_hot,)), shares)
    for rows in (slice(0, 5), slice(5, 6), slice(6, 12)):
        in_parts.add(InputValues(values[rows], (one_hot[rows],)), shares[:, rows])
    (found, n_found), (expected, n_expected) = in_parts.result(), at_once.result()
    torch.testing.assert_close(found.values, shares @ values)
    torch.testing.assert_close(found.values, expected.values)
    torch.testing.assert_close(found.categories[0], expected.categories[0])
    assert n_found == n_expected


def test_what_some_cells_lack_is_averaged_over_those_that_have_it() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0], [5.0, 5.0]])
    present = torch.tensor([True, True, False, True])
    weights = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    means = MeanInputs()
    for rows in (slice(0, 2), slice(2, 4)):
        means.add(InputValues(values[rows], (), present[rows]), weights[:, rows])
    found, n_nonnegative = means.result()
    assert n_nonnegative == 2
    torch.testing.assert_close(found.values[0], (0.5 * values[0] + 0.25 * values[1]) / 0.75)
    torch.testing.assert_close(found.values[1], values[3])
    overall = (0.5 * values[0] + 0.25 * values[1] + values[3]) / 1.75
    torch.testing.assert_close(found.values[2], overall)  # none of its cells has any


@pytest.mark.parametrize(
    ("minimum", "expected"),
    [([0.0, 1.0, -1.0, 2.0], 2), ([0.0, 0.0], 2), ([-1.0, 3.0], 0), ([0.0, math.inf], 2)],
)
def test_leading_values_that_are_never_negative_are_counted(minimum: list[float], expected: int) -> None:
    assert count_nonnegative(torch.tensor(minimum)) == expected


def test_a_mean_without_minibatches_is_refused() -> None:
    with pytest.raises(ValueError, match="No minibatch"):
        MeanInputs().result()
