"""Where gradients go: the KL's to the encoder by way of the pseudo-inputs, empirical Bayes' to the prior."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vmmscvi import SCVI_VMM
from vmmscvi.priors import Centers

Make = Callable[..., SCVI_VMM]
Fill = Callable[[SCVI_VMM], SCVI_VMM]


def gradient_norm(parameters: Any) -> float:
    return sum(float(p.grad.abs().sum()) for p in parameters if p.grad is not None)


@pytest.mark.parametrize("prior", ["vmm", "vampprior"])
def test_kl_gradient_reaches_the_encoder_through_the_pseudo_inputs(
    make_model: Make, fill_pseudo_inputs: Fill, prior: str
) -> None:
    module = fill_pseudo_inputs(make_model(prior=prior)).module
    z = torch.randn(16, 4)  # no cell is encoded: what arrives has come by way of the centres
    (-module.latent_prior.log_prob(z, module.centers()).mean()).backward()
    assert gradient_norm(module.z_encoder.parameters()) > 0
    assert gradient_norm(module.decoder.parameters()) == 0


def test_the_loss_contains_the_gradient_by_way_of_the_centres(
    make_model: Make, fill_pseudo_inputs: Fill, minibatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fill_pseudo_inputs(make_model())
    module, tensors = model.module.eval(), minibatch(model)

    def encoder_and_decoder_gradients() -> tuple[torch.Tensor, torch.Tensor]:
        module.zero_grad()
        torch.manual_seed(0)
        module(tensors)[2].loss.backward()
        encoder = torch.cat([p.grad.ravel() for p in module.z_encoder.parameters()])
        decoder = torch.cat([p.grad.ravel() for p in module.decoder.parameters() if p.grad is not None])
        return encoder, decoder

    encoder, decoder = encoder_and_decoder_gradients()
    centers = module.centers()
    monkeypatch.setattr(module, "centers", lambda: Centers(centers.loc.detach(), centers.scale.detach()))
    encoder_without, decoder_without = encoder_and_decoder_gradients()
    assert (encoder - encoder_without).norm() > 1e-4 * encoder.norm()
    torch.testing.assert_close(decoder, decoder_without)


def test_empirical_bayes_gradient_reaches_every_parameter_of_the_prior_and_the_pseudo_inputs(
    make_model: Make, fill_pseudo_inputs: Fill, minibatch: Any
) -> None:
    model = fill_pseudo_inputs(
        make_model(
            setup={
                "batch_key": "batch",
                "categorical_covariate_keys": ["donor"],
                "continuous_covariate_keys": ["stress"],
            }
        )
    )
    module = model.module.train()
    loss, _ = module.empirical_bayes_loss(minibatch(model))
    loss.loss.backward()
    for name, parameter in (
        *module.latent_prior.named_parameters(),
        *module.pseudo_inputs.named_parameters(),
    ):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_empirical_bayes_differentiates_the_centres_but_not_the_cells(
    make_model: Make, fill_pseudo_inputs: Fill, minibatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fill_pseudo_inputs(make_model())
    module, tensors = model.module, minibatch(model)
    centers = module.centers()
    monkeypatch.setattr(module, "centers", lambda: Centers(centers.loc.detach(), centers.scale.detach()))
    module.empirical_bayes_loss(tensors)[0].loss.backward()
    assert gradient_norm(module.z_encoder.parameters()) == 0


@pytest.mark.parametrize(
    "options", [{}, {"use_observed_lib_size": False}], ids=["observed", "latent library"]
)
def test_empirical_bayes_loss_leaves_statistics_and_modes_alone(
    make_model: Make, fill_pseudo_inputs: Fill, minibatch: Any, options: dict[str, Any]
) -> None:
    model = fill_pseudo_inputs(make_model(**options))
    module, tensors = model.module.train(), minibatch(model)
    before = {name: value.clone() for name, value in module.named_buffers()}
    module.empirical_bayes_loss(tensors)
    for name, value in module.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert all(m.training for m in module.modules())


@pytest.mark.parametrize("prior", ["vampprior", "standard_normal"])
def test_priors_without_an_empirical_bayes_step_have_no_parameters_for_it(
    make_model: Make, minibatch: Any, prior: str
) -> None:
    model = make_model(prior=prior)
    assert model.module.prior_parameters() == []
    with pytest.raises(ValueError, match="not fitted by empirical Bayes"):
        model.module.empirical_bayes_loss(minibatch(model))


def test_cells_are_assigned_to_their_most_responsible_component(
    make_model: Make, fill_pseudo_inputs: Fill
) -> None:
    module = fill_pseudo_inputs(make_model()).module.eval()
    with torch.no_grad():
        module.latent_prior.pi_logits.normal_(std=3)
    z, centers = torch.randn(50, 4), module.centers()
    responsibilities = module.latent_prior.responsibilities(z, centers)
    assert torch.equal(module.assign(z, centers), responsibilities.argmax(-1))
