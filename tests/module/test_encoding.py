"""The centres are the encoder's posteriors at the pseudo-inputs, and encoding them changes nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from vmmscvi import SCVI_VMM
from vmmscvi.module import VMMVAE
from vmmscvi.priors import PriorConfig, PriorState

Make = Callable[..., SCVI_VMM]
Fill = Callable[[SCVI_VMM], SCVI_VMM]

COVARIATES = {
    "batch_key": "batch",
    "categorical_covariate_keys": ["donor", "phase"],
    "continuous_covariate_keys": ["stress"],
}
ENCODERS: dict[str, dict[str, Any]] = {
    "batch": {},
    "no covariates": {"encode_covariates": False},
    "all covariates": {"setup": COVARIATES},
    "all covariates, not encoded": {"setup": COVARIATES, "encode_covariates": False},
    "batch embedding": {"batch_representation": "embedding"},
    "batch embedding and covariates": {"batch_representation": "embedding", "setup": COVARIATES},
    "counts as they are": {"log_variational": False},
    "single batch": {"setup": {}},
}


def buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.named_buffers()}


@pytest.mark.parametrize("options", ENCODERS.values(), ids=ENCODERS.keys())
def test_a_pseudo_input_that_is_a_cell_is_encoded_as_that_cell(
    make_model: Make, fill_pseudo_inputs: Fill, minibatch: Any, options: dict[str, Any]
) -> None:
    model = fill_pseudo_inputs(make_model(**options))
    module: VMMVAE = model.module.eval()
    tensors = minibatch(model, module.latent_prior.n_components)
    pseudo_inputs = module.pseudo_inputs["z_encoder"]
    _, inputs = module.capture_inputs(tensors)
    with torch.no_grad():
        categories = inputs["z_encoder"].categories
        for logits, one_hot in zip(pseudo_inputs.category_logits, categories, strict=True):
            logits.copy_(1e3 * one_hot)  # certain, to float precision
        # counts of zero are not quite zero
        values = pseudo_inputs()[0][:, : tensors["X"].shape[1]]
        tensors["X"] = torch.expm1(values) if module.log_variational else values
        expected = module.inference(**module._get_inference_input(tensors))["qz"]
        found = module.encode_pseudo_inputs()
    torch.testing.assert_close(found.loc, expected.loc)
    torch.testing.assert_close(found.scale, expected.scale)


def test_encoding_pseudo_inputs_leaves_statistics_and_modes_alone(
    make_model: Make, fill_pseudo_inputs: Fill
) -> None:
    module = fill_pseudo_inputs(make_model()).module.train()
    next(m for m in module.z_encoder.modules() if isinstance(m, nn.BatchNorm1d)).eval()
    modes = {name: m.training for name, m in module.named_modules()}
    before = buffers(module)
    module.encode_pseudo_inputs()
    assert {name: m.training for name, m in module.named_modules()} == modes
    for name, value in module.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_centres_are_the_same_in_training_and_evaluation_mode(
    make_model: Make, fill_pseudo_inputs: Fill
) -> None:
    module = fill_pseudo_inputs(make_model(dropout_rate=0.5)).module
    in_training = module.train().encode_pseudo_inputs()
    in_evaluation = module.eval().encode_pseudo_inputs()
    assert torch.equal(in_training.loc, in_evaluation.loc)
    assert torch.equal(in_training.scale, in_evaluation.scale)


def test_modes_come_back_also_after_an_error(make_model: Make, fill_pseudo_inputs: Fill) -> None:
    module = fill_pseudo_inputs(make_model()).module.train()
    module.z_encoder.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        module.encode_pseudo_inputs()
    assert all(m.training for m in module.modules())


def test_a_prior_without_pseudo_inputs_has_none_to_encode(make_model: Make) -> None:
    module = make_model(prior="gmm").module
    assert module.centers() is None
    with pytest.raises(ValueError, match="GaussianMixturePrior has no pseudo-inputs"):
        module.encode_pseudo_inputs()


def test_a_frozen_prior_keeps_its_centres_when_the_encoder_changes(
    make_model: Make, fill_pseudo_inputs: Fill
) -> None:
    module = fill_pseudo_inputs(make_model()).module.eval()
    z = torch.randn(10, 4)
    with torch.no_grad():
        before = module.latent_prior.log_prob(z, module.centers())
    module.cache_centers()
    module.freeze_prior()
    with torch.no_grad():
        after = module.latent_prior.log_prob(z, module.centers())
        for parameter in module.z_encoder.parameters():
            parameter.add_(0.1)
    assert module.centers() is None
    with torch.no_grad():
        assert torch.equal(module.latent_prior.log_prob(z, module.centers()), after)
    torch.testing.assert_close(after, before)  # by the centres that are kept, and by those of the encoder
    assert not any(
        p.requires_grad for p in (*module.latent_prior.parameters(), *module.pseudo_inputs.parameters())
    )


def test_cached_centres_do_not_follow_later_changes(make_model: Make, fill_pseudo_inputs: Fill) -> None:
    module = fill_pseudo_inputs(make_model()).module
    module.cache_centers()
    cached = module.latent_prior.center_loc.clone()
    with torch.no_grad():
        module.pseudo_inputs["z_encoder"].values.add_(1.0)
    assert torch.equal(module.latent_prior.center_loc, cached)
    assert not torch.equal(module.encode_pseudo_inputs().loc, cached)


def test_a_prior_that_was_frozen_can_be_trained_again(make_model: Make) -> None:
    module = make_model().module
    trainable = {id(p) for p in module.prior_parameters()}
    module.freeze_prior()
    assert module.prior_parameters() == [] and module.latent_prior.state is PriorState.FROZEN
    assert not any(p.requires_grad for owner in module.prior_owners() for p in owner.parameters())
    module.unfreeze_prior()
    assert {id(p) for p in module.prior_parameters()} == trainable and trainable
    assert module.latent_prior.state is PriorState.FITTED


def test_what_has_no_components_assigns_no_cells_and_what_is_transformed_takes_no_prior(
    make_model: Make,
) -> None:
    module = make_model(prior="standard_normal").module
    with pytest.raises(ValueError, match="StandardNormalPrior has no components"):
        module.assign(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="StandardNormalPrior is not fitted by empirical Bayes"):
        module.empirical_bayes_loss({})
    module.latent_distribution = "ln"
    with pytest.raises(ValueError, match="`latent_distribution` must be 'normal', found 'ln'"):
        module.init_prior(PriorConfig("vmm", 4))
