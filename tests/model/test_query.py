"""New cells are mapped into a reference: its clusters stay, to the last bit, where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import stats
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts

Make = Callable[..., SCVI_VMM]

TRAINING: dict[str, Any] = {
    "max_epochs": 4,
    "batch_size": 32,
    "lr": 1e-2,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "batch seen by the encoder": {},
    "encoder without covariates": {"encode_covariates": False},
    "batch embedding": {"batch_representation": "embedding"},
}


@pytest.fixture
def query(counts: AnnData) -> AnnData:
    """Cells of the same types and genes from one batch that the reference has and one that it has not."""
    adata = simulate_counts(n_cells=120, n_genes=100, n_types=4, n_batches=2, seed=0)
    adata.obs["batch"] = np.where(adata.obs["batch"] == "batch0", "batch0", "new")
    return AnnData(adata.X, obs=adata.obs[["batch"]], var=counts.var.copy())


def clusters_of(model: SCVI_VMM) -> dict[str, Tensor]:
    """Weights, centres and covariances as they are used, and everything that they come from."""
    module = model.module
    with torch.no_grad():
        components = module.latent_prior.component_distribution(module.centers())
        used = {
            "weights": module.latent_prior.weights,
            "loc": components.loc,
            "covariance": components.covariance_matrix,
            "log_prob": module.latent_prior.log_prob(torch.ones(1, module.n_latent), module.centers()),
        }
    kept = {n: v for n, v in module.state_dict().items() if n.startswith("latent_prior.")}
    return {n: v.clone() for n, v in {**used, **kept}.items()}


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
@pytest.mark.parametrize(
    ("options", "start"),
    [*((options, "embedding") for options in OPTIONS.values()), ({}, "cells")],
    ids=[*OPTIONS, "started from cells"],
)
def test_clusters_stay_to_the_last_bit_when_a_query_is_mapped(
    make_model: Make, query: AnnData, prior: str, start: str, options: dict[str, Any]
) -> None:
    reference = make_model(prior=prior, **options)
    reference.train(**TRAINING, start=start)
    expected, names = clusters_of(reference), reference.component_names()
    model = SCVI_VMM.load_query_data(query, reference)
    assert model.module.n_batch == 3
    before = {n: v.clone() for n, v in model.module.state_dict().items()}
    model.train(**{**TRAINING, "max_epochs": 2})
    assert len(model.trainer.optimizers) == 1
    assert model.trainer.current_epoch == 2 and "prior_loss" not in model.history
    found = clusters_of(model)
    for name, value in expected.items():
        if name == "latent_prior._extra_state":
            continue  # says that it is frozen
        assert torch.equal(found[name], value), name
    after = model.module.state_dict()
    changed = {n for n, v in before.items() if v.shape != after[n].shape or not torch.equal(v, after[n])}
    assert changed and not any(name.startswith(("latent_prior.", "pseudo_inputs.")) for name in changed)
    assert model.component_names() == names
    clusters = model.predict()
    assert list(clusters.index) == list(query.obs_names) and set(clusters) <= set(names)


def test_a_mapped_query_can_be_saved_loaded_and_trained_on(
    make_model: Make, query: AnnData, tmp_path: Path
) -> None:
    reference = make_model()
    reference.train(**TRAINING)
    reference.save(tmp_path / "reference")
    model = SCVI_VMM.load_query_data(query, str(tmp_path / "reference"))
    model.save(tmp_path / "untrained")
    for name in ("untrained", "trained"):
        model = SCVI_VMM.load(tmp_path / name, adata=query)
        assert model.module.latent_prior.is_frozen
        model.train(**{**TRAINING, "max_epochs": 1})
        assert len(model.trainer.optimizers) == 1
        if name == "untrained":
            model.save(tmp_path / "trained")
    expected, found = clusters_of(reference), clusters_of(model)
    assert all(torch.equal(found[n], expected[n]) for n in ("weights", "loc", "covariance", "log_prob"))


def test_probabilities_of_a_query_are_those_under_the_references_components(
    make_model: Make, query: AnnData
) -> None:
    reference = make_model(prior="gmm")
    reference.train(**TRAINING)
    prior = reference.module.latent_prior
    with torch.no_grad():
        weights, loc = reference.get_cluster_weights(), prior.loc.numpy().copy()
        covariances = torch.cholesky_inverse(prior.precision_cholesky()).numpy().copy()
    model = SCVI_VMM.load_query_data(query, reference)
    model.train(**{**TRAINING, "max_epochs": 2})
    z = model.get_latent_representation()
    densities = np.stack(
        [
            w * stats.multivariate_normal.pdf(z, m, c)
            for w, m, c in zip(weights, loc, covariances, strict=True)
        ]
    ).T
    np.testing.assert_allclose(
        model.get_cluster_probabilities(), densities / densities.sum(1, keepdims=True), atol=1e-3
    )
    np.testing.assert_allclose(model.get_prior_log_density(), np.log(densities.sum(1)), atol=1e-2)


def test_genes_that_a_query_lacks_are_filled_in_and_their_order_is_the_references(
    make_model: Make, query: AnnData
) -> None:
    reference = make_model()
    reference.train(**TRAINING)
    expected = query.copy()
    expected.X[:, :3] = 0
    shuffled = query[:, np.random.default_rng(0).permutation(np.arange(3, 100))].copy()
    SCVI_VMM.prepare_query_anndata(shuffled, reference)
    assert list(shuffled.var_names) == list(query.var_names)
    found = []
    for adata in (shuffled, expected):
        adata.obs["batch"] = "batch0"
        found.append(reference.get_cluster_probabilities(adata))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_an_unfrozen_prior_goes_on_from_the_reference(make_model: Make, query: AnnData, prior: str) -> None:
    reference = make_model(prior=prior)
    reference.train(**TRAINING, start="cells")
    expected = clusters_of(reference)
    model = SCVI_VMM.load_query_data(query, reference, unfrozen=True)
    assert torch.equal(model.module.latent_prior.weights, expected["weights"])
    model.train(**{**TRAINING, "max_epochs": 2})
    assert len(model.trainer.optimizers) == 2
    assert list(model.history["prior_loss"].index) == [0, 1]
    assert model.component_names() == reference.component_names()
    assert not torch.equal(model.module.latent_prior.weights, expected["weights"])


@pytest.mark.parametrize("inference", ["MAP-DP", "MAP"])
def test_an_unfrozen_query_of_a_mapped_query_trains_the_prior(
    make_model: Make, query: AnnData, inference: str
) -> None:
    reference = make_model(inference=inference)
    reference.train(**{**TRAINING, "max_epochs": 1}, start="cells")
    trainable = {n for n, p in reference.module.named_parameters() if p.requires_grad}
    mapped = SCVI_VMM.load_query_data(query, reference)
    assert mapped.module.prior_parameters() == []
    model = SCVI_VMM.load_query_data(query, mapped, unfrozen=True)
    assert not model.module.latent_prior.is_frozen
    prior_names = {n for n in trainable if n.startswith(("latent_prior.", "pseudo_inputs."))}
    found = {n for n, p in model.module.named_parameters() if p.requires_grad}
    assert {n for n in found if n.startswith(("latent_prior.", "pseudo_inputs."))} == prior_names
    model.train(**{**TRAINING, "max_epochs": 1})
    assert "prior_loss" in model.history


def test_centres_stay_where_they_were_though_a_query_has_a_new_batch(
    make_model: Make, query: AnnData
) -> None:
    reference = make_model()
    reference.train(**TRAINING)
    expected, known = (
        reference.module.encode_pseudo_inputs().loc,
        reference.module.pseudo_inputs["z_encoder"]()[1],
    )
    model = SCVI_VMM.load_query_data(query, reference, unfrozen=True)
    probabilities = model.module.pseudo_inputs["z_encoder"]()[1]
    assert probabilities.shape[1] == 3
    assert probabilities[:, 2].max() < 2e-3
    torch.testing.assert_close(probabilities[:, :2], known, rtol=0, atol=2e-3)
    moved = (model.module.encode_pseudo_inputs().loc - expected).abs().max()
    assert moved < 1e-3 * expected.std()


@pytest.mark.parametrize("prior", ["vampprior", "standard_normal"])
def test_other_priors_can_be_mapped_into_as_well(make_model: Make, query: AnnData, prior: str) -> None:
    reference = make_model(prior=prior)
    reference.train(**{**TRAINING, "max_epochs": 1})
    model = SCVI_VMM.load_query_data(query, reference)
    z = torch.ones(1, 4)
    with torch.no_grad():
        before = model.module.latent_prior.log_prob(z, model.module.centers())
        model.train(**{**TRAINING, "max_epochs": 1})
        assert torch.equal(model.module.latent_prior.log_prob(z, model.module.centers()), before)
        assert torch.equal(reference.module.latent_prior.log_prob(z, reference.module.centers()), before)


# -- how cells of new batches are mapped -----------------------------------------------------------------


@pytest.fixture
def shifted(counts: AnnData) -> AnnData:
    """Cells of the reference's types from a batch of its own, with a batch effect."""
    adata = simulate_counts(n_cells=400, n_genes=100, n_types=4, n_batches=2, batch_effect=0.3, seed=0)
    adata = adata[adata.obs["batch"] == "batch1"].copy()
    adata.obs["batch"] = "new"
    return AnnData(adata.X, obs=adata.obs[["batch"]], var=counts.var.copy())


@pytest.fixture
def mapped(make_model: Make, shifted: AnnData) -> SCVI_VMM:
    reference = make_model()
    reference.train(**{**TRAINING, "max_epochs": 10})
    model = SCVI_VMM.load_query_data(shifted, reference)
    model.train(**{**TRAINING, "max_epochs": 2})
    return model


def test_weights_of_new_batches_are_the_average_of_the_references(make_model: Make, query: AnnData) -> None:
    reference = make_model()
    reference.train(**{**TRAINING, "max_epochs": 1})
    model = SCVI_VMM.load_query_data(query, reference)
    for layers in (model.module.z_encoder.encoder, model.module.decoder.px_decoder):
        columns = layers.fc_layers[0][0].weight[:, -3:]
        torch.testing.assert_close(columns[:, 2], columns[:, :2].mean(1))


def test_a_reference_of_one_batch_encodes_its_cells_in_the_query_as_before(
    make_model: Make, adata: AnnData, query: AnnData
) -> None:
    adata.obs["batch"] = "batch0"
    reference = make_model(adata)
    reference.train(**{**TRAINING, "max_epochs": 2})
    expected = reference.get_latent_representation(query[query.obs["batch"] == "batch0"].copy())
    model = SCVI_VMM.load_query_data(query, reference)
    model.is_trained_ = True
    of_batch0 = np.flatnonzero(query.obs["batch"] == "batch0")
    np.testing.assert_allclose(model.get_latent_representation(indices=of_batch0), expected, atol=1e-5)


def test_batch_normalisation_keeps_the_references_statistics(mapped: SCVI_VMM) -> None:
    layers = [layer for layer in mapped.module.modules() if isinstance(layer, torch.nn.BatchNorm1d)]
    before = [layer.running_mean.clone() for layer in layers]
    mapped.train(**{**TRAINING, "max_epochs": 1})
    assert layers
    assert all(torch.equal(b, layer.running_mean) for b, layer in zip(before, layers, strict=True))
    mapped.module.train()
    assert mapped.module.training and not any(layer.training for layer in layers)


def test_cells_of_new_batches_are_moved_and_those_of_known_ones_are_not(
    make_model: Make, query: AnnData
) -> None:
    reference = make_model()
    reference.train(**TRAINING)
    model = SCVI_VMM.load_query_data(query, reference)
    model.is_trained_ = True
    before = model.get_latent_representation()
    model.train(**{**TRAINING, "max_epochs": 1})
    moved = np.abs(model.get_latent_representation() - before).max(1)
    assert list(model.latent_maps_) == [2]
    is_new = (query.obs["batch"] == "new").to_numpy()
    assert (moved[~is_new] < 1e-6).all() and (moved[is_new] > 1e-6).all()


def test_samples_move_with_their_posteriors(mapped: SCVI_VMM) -> None:
    tensors = next(iter(mapped._make_data_loader(adata=mapped.adata, batch_size=32)))
    module = mapped.module
    arguments = module._get_inference_input(tensors)
    found = []
    for maps in ({}, module.latent_maps):
        module.latent_maps = maps
        torch.manual_seed(0)
        with torch.no_grad():
            outputs = module.inference(**arguments)
        found.append((outputs["qz"].loc, outputs["z"], outputs["qz"].scale))
    (loc, z, scale), (moved_loc, moved_z, moved_scale) = found
    assert (moved_loc - loc).abs().max() > 1e-3
    torch.testing.assert_close(moved_z - z, moved_loc - loc, atol=1e-5, rtol=0)
    assert torch.equal(scale, moved_scale)


def test_the_map_goes_along_to_a_file(mapped: SCVI_VMM, tmp_path: Path) -> None:
    expected = mapped.get_latent_representation()
    mapped.save(tmp_path / "mapped")
    loaded = SCVI_VMM.load(tmp_path / "mapped", adata=mapped.adata.copy())
    np.testing.assert_allclose(loaded.get_latent_representation(), expected, atol=1e-5)


def test_a_query_of_a_mapped_query_keeps_the_first_ones_map(mapped: SCVI_VMM, query: AnnData) -> None:
    second = SCVI_VMM.load_query_data(query, mapped)
    query.obs["batch"] = "another"
    third = query[:50].copy()
    model = SCVI_VMM.load_query_data(third, mapped)
    model.train(**{**TRAINING, "max_epochs": 1})
    assert set(model.latent_maps_) == {2, 3}
    for name, values in mapped.latent_maps_[2].items():
        np.testing.assert_array_equal(model.latent_maps_[2][name], values)
    assert set(second.latent_maps_) == {2}


def test_a_query_whose_clusters_are_trained_is_not_moved(mapped: SCVI_VMM, query: AnnData) -> None:
    model = SCVI_VMM.load_query_data(query, mapped, unfrozen=True)
    assert not model.module.latent_maps and model.latent_maps_ is None


def test_the_mapping_is_reported(
    mapped: SCVI_VMM, make_model: Make, caplog: pytest.LogCaptureFixture
) -> None:
    report = mapped.get_mapping_report()
    assert report.n_cells == mapped.adata.n_obs and 0 < report.mixing <= 1
    assert 0 < report.expected_mixing < 1 and report.unknown < 0.5
    with caplog.at_level("INFO", logger="vmmscvi"):
        mapped.train(**{**TRAINING, "max_epochs": 1})
    assert "of their neighbours are query cells" in caplog.text
    reference = make_model()
    reference.train(**{**TRAINING, "max_epochs": 1})
    with pytest.raises(RuntimeError, match="needs a query model"):
        reference.get_mapping_report()


def test_an_annotated_query_has_a_verdict_for_each_cell(mapped: SCVI_VMM) -> None:
    mapped.annotate(tree=False)
    expected = mapped.get_verdict()
    obs = mapped.adata.obs
    np.testing.assert_array_equal(obs["vmm_verdict"].astype(str), expected["verdict"].astype(str))
    unknown = expected["novelty"] > 0.95
    assert unknown.any() and (obs["vmm_verdict"][unknown.to_numpy()] == "unknown").all()
