"""With a prior that is N(0, I) the module is scVI's, term by term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import scvi
import torch
from scvi.module import VAE

from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]

LIBRARIES = {"observed library": True, "latent library": False}
CATEGORIES = {"batch_key": "batch", "categorical_covariate_keys": ["donor", "phase"]}
COVARIATES = {**CATEGORIES, "continuous_covariate_keys": ["stress"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "single batch": {"setup": {}},
    "covariates": {"setup": COVARIATES},
    "covariates, encoder without": {"setup": COVARIATES, "encode_covariates": False},
    "covariates, two layers": {"setup": COVARIATES, "n_layers": 2, "deeply_inject_covariates": False},
    "batch embedding": {"batch_representation": "embedding"},
    "size factors": {"setup": {"batch_key": "batch", "size_factor_key": "size_factor"}},
    "latent library, covariates": {"setup": COVARIATES, "use_observed_lib_size": False},
    "layer norm": {"use_batch_norm": "none", "use_layer_norm": "both"},
    "counts as they are": {"log_variational": False},
}
LABELS = {"batch_key": "batch", "labels_key": "cell_type"}


def scvi_twin(model: SCVI_VMM, setup: dict[str, Any] | None = None, **options: Any) -> VAE:
    """scVI's own module with the same weights."""
    stock = scvi.model.SCVI
    stock.setup_anndata(model.adata, **({"batch_key": "batch"} if setup is None else setup))
    ours = model.module
    sizes = {"n_hidden": ours.n_hidden, "n_latent": ours.n_latent}
    switches = {"encode_covariates": True, "use_observed_lib_size": ours.use_observed_lib_size}
    twin = stock(model.adata, **{**sizes, **switches, **options}).module
    weights = ours.state_dict()
    twin.load_state_dict(
        {k: v for k, v in weights.items() if not k.startswith(("latent_prior.", "pseudo_inputs."))}
    )
    return twin


def pinned(model: SCVI_VMM) -> SCVI_VMM:
    """One component, pinned to N(0, I); its precision is the identity from the start."""
    with torch.no_grad():
        model.module.latent_prior.loc.zero_()
    return model


def seeded(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    torch.manual_seed(1)
    return function(*args, **kwargs)


@pytest.mark.parametrize("observed", LIBRARIES.values(), ids=LIBRARIES.keys())
@pytest.mark.parametrize("fast", [True, False])
def test_standard_normal_loss_is_scvis_with_the_same_seed(
    make_model: Make, minibatch: Any, observed: bool, fast: bool
) -> None:
    model = make_model(prior="standard_normal", use_observed_lib_size=observed, fast_likelihood=fast)
    module, twin, tensors = model.module.train(), scvi_twin(model).train(), minibatch(model)
    found = seeded(module, tensors, loss_kwargs={"kl_weight": 0.3})[2]
    expected = seeded(twin, tensors, loss_kwargs={"kl_weight": 0.3})[2]
    assert found.reconstruction_loss.keys() == expected.reconstruction_loss.keys()
    assert found.kl_local.keys() == expected.kl_local.keys()
    for key, value in {**expected.reconstruction_loss, **expected.kl_local}.items():
        tolerance = {"rtol": 1e-6 if fast and key == "reconstruction_loss" else 0.0, "atol": 0.0}
        torch.testing.assert_close({**found.reconstruction_loss, **found.kl_local}[key], value, **tolerance)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-6, atol=0)  # order of summation


def assert_same_loss(model: SCVI_VMM, twin: VAE, tensors: dict[str, torch.Tensor]) -> None:
    found = seeded(model.module.train(), tensors)[2]
    expected = seeded(twin.train(), tensors)[2]
    for ours, theirs in (
        (found.reconstruction_loss, expected.reconstruction_loss),
        (found.kl_local, expected.kl_local),
    ):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-4, msg=name)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=0)


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_standard_normal_loss_is_scvis_with_all_covariates_and_settings(
    make_model: Make, minibatch: Any, options: dict[str, Any]
) -> None:
    model = make_model(prior="standard_normal", **options)
    assert_same_loss(model, scvi_twin(model, **options), minibatch(model))


@pytest.mark.parametrize("gene_likelihood", ["zinb", "nb", "poisson", "normal"])
@pytest.mark.parametrize("dispersion", ["gene", "gene-batch", "gene-label", "gene-cell"])
def test_standard_normal_loss_is_scvis_with_every_dispersion_and_likelihood(
    make_model: Make, minibatch: Any, dispersion: str, gene_likelihood: str
) -> None:
    options = {"dispersion": dispersion, "gene_likelihood": gene_likelihood}
    model = make_model(prior="standard_normal", setup=LABELS, **options)
    assert_same_loss(model, scvi_twin(model, LABELS, **options), minibatch(model))


@pytest.mark.parametrize("observed", LIBRARIES.values(), ids=LIBRARIES.keys())
def test_loss_of_one_component_pinned_to_the_standard_normal_is_scvis_in_expectation(
    make_model: Make, minibatch: Any, observed: bool
) -> None:
    model = pinned(make_model(prior="gmm", n_components=1, use_observed_lib_size=observed))
    module, twin, tensors = model.module.eval(), scvi_twin(model).eval(), minibatch(model)
    n_samples = 1000
    with torch.no_grad():
        many = {"inference_kwargs": {"n_samples": n_samples}, "loss_kwargs": {"kl_weight": 0.7}}
        outputs, _, found = seeded(module, tensors, **many)
        expected = seeded(twin, tensors, **many)[2]
        # the loss is a mean over cells and samples; its only noise against scVI's is that of log p(z)
        cross_entropy = 0.5 * outputs["z"].square().sum(-1).mean(-1)
        standard_error = 0.7 * float(cross_entropy.std()) / n_samples**0.5
    assert standard_error < 0.05
    assert abs(float(found.loss - expected.loss)) < 4 * standard_error
    assert (found.kl_local["kl_divergence_l"] == expected.kl_local["kl_divergence_l"]).all()


@pytest.mark.parametrize("observed", LIBRARIES.values(), ids=LIBRARIES.keys())
@pytest.mark.parametrize("per_pass", [1, 5])
@pytest.mark.parametrize("prior", ["gmm", "standard_normal"])
def test_marginal_likelihood_under_the_standard_normal_is_scvis(
    make_model: Make, minibatch: Any, prior: str, per_pass: int, observed: bool
) -> None:
    model = make_model(prior=prior, n_components=1, use_observed_lib_size=observed)
    model = pinned(model) if prior == "gmm" else model
    module, twin, tensors = model.module.eval(), scvi_twin(model).eval(), minibatch(model)
    arguments = {"n_mc_samples": 10, "n_mc_samples_per_pass": per_pass}
    found = seeded(module.marginal_ll, tensors, **arguments)
    expected = seeded(twin.marginal_ll, tensors, **arguments)
    assert found.shape == (32,)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)  # the same samples: rounding alone


def test_marginal_likelihood_does_not_depend_on_how_samples_are_split_into_passes(
    make_model: Make, minibatch: Any
) -> None:
    model = make_model(prior="gmm")
    module, tensors = model.module.eval(), minibatch(model)
    means = [
        seeded(module.marginal_ll, tensors, 400, return_mean=True, n_mc_samples_per_pass=per_pass)
        for per_pass in (400, 150)  # 150 does not divide 400
    ]
    assert all(isinstance(mean, float) for mean in means)
    assert means[0] == pytest.approx(means[1], abs=0.3)


def test_marginal_likelihood_uses_the_models_own_prior(make_model: Make, minibatch: Any) -> None:
    model = pinned(make_model(prior="gmm", n_components=1))
    module, tensors = model.module.eval(), minibatch(model)
    before = seeded(module.marginal_ll, tensors, 200, return_mean=True, n_mc_samples_per_pass=200)
    with torch.no_grad():
        module.latent_prior.loc.add_(5.0)
    after = seeded(module.marginal_ll, tensors, 200, return_mean=True, n_mc_samples_per_pass=200)
    assert after < before - 5


@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior", "standard_normal"])
def test_generative_offers_the_models_own_prior(make_model: Make, minibatch: Any, prior: str) -> None:
    model = make_model(prior=prior)
    module = model.module.eval()
    with torch.no_grad():
        outputs, generated = module(minibatch(model), compute_loss=False)
    pz, z = generated["pz"], outputs["z"]
    assert torch.equal(pz.log_prob(z), module.latent_prior.log_prob(z, module.centers()))
    assert pz.sample([3, 2]).shape == (3, 2, 4)
    assert pz.event_shape == (4,)


@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior", "standard_normal"])
def test_kl_is_the_log_ratio_in_expectation(make_model: Make, minibatch: Any, prior: str) -> None:
    model = make_model(prior=prior)
    module, tensors = model.module.eval(), minibatch(model)
    with torch.no_grad():
        outputs, generated, loss = module(tensors, inference_kwargs={"n_samples": 1000})
        log_q = outputs["qz"].log_prob(outputs["z"]).sum(-1)
        ratio = log_q - generated["pz"].log_prob(outputs["z"])
    kl = loss.kl_local["kl_divergence_z"]
    assert kl.shape == (32,)
    # mixtures estimate the cross-entropy with the same samples, N(0, I) has a closed form
    noisy_part = ratio if prior == "standard_normal" else log_q
    assert ((kl - ratio.mean(0)).abs() < 4 * noisy_part.std(0) / 1000**0.5).all()


def test_a_logistic_normal_latent_space_is_refused() -> None:
    from vmmscvi.module import VMMVAE

    with pytest.raises(ValueError, match="`latent_distribution` must be 'normal', found 'ln'"):
        VMMVAE(10, latent_distribution="ln")
