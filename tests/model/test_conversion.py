"""Networks go from a trained scVI into this model, and from this model into scVI and scANVI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from scvi.model import SCANVI, SCVI

from vmmscvi import SCVI_VMM
from vmmscvi.dataloaders import StreamedCounts

Make = Callable[..., SCVI_VMM]

TRAINING: dict[str, Any] = {
    "max_epochs": 3,
    "batch_size": 64,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}
COVARIATES = {
    "batch_key": "batch",
    "labels_key": "cell_type",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["stress"],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "encoder sees covariates": {"encode_covariates": True},
    "another architecture": {
        "encode_covariates": True,
        "n_layers": 2,
        "gene_likelihood": "nb",
        "dispersion": "gene-batch",
        "deeply_inject_covariates": False,
        "dropout_rate": 0.2,
    },
    "batch embedding": {"batch_representation": "embedding", "encode_covariates": True},
    "latent library": {"use_observed_lib_size": False},
}


def trained_scvi(adata: AnnData, setup: dict[str, Any] | None = None, **kwargs: Any) -> SCVI:
    SCVI.setup_anndata(adata, **(setup or COVARIATES))
    model = SCVI(adata, n_hidden=16, n_latent=4, **kwargs)
    model.train(**TRAINING)
    return model


def posterior_means(model: Any, adata: AnnData | None = None) -> np.ndarray:
    """By the module, which unlike the model needs no training."""
    loader = model._make_data_loader(adata=model.adata if adata is None else adata)
    with torch.no_grad():
        batches = [model.module.inference(**model.module._get_inference_input(t)) for t in loader]
    return np.concatenate([outputs["qz"].loc.numpy() for outputs in batches])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_embedding_and_decoder_are_scvis_until_training(adata: AnnData, options: dict[str, Any]) -> None:
    stock = trained_scvi(adata, **options)
    expected = stock.get_latent_representation()
    model = SCVI_VMM.from_scvi_model(stock, n_components=10)
    assert not model.is_trained and model.module.latent_prior.n_components == 10
    np.testing.assert_allclose(posterior_means(model), expected, atol=1e-6)
    state = model.module.state_dict()
    assert all(torch.equal(state[name], value) for name, value in stock.module.state_dict().items())
    # the scVI model goes on as it was
    np.testing.assert_array_equal(stock.get_latent_representation(), expected)


def test_training_starts_the_prior_from_scvis_embedding_without_a_warm_up(
    adata: AnnData, found_mixtures: list[Any]
) -> None:
    stock = trained_scvi(adata)
    model = SCVI_VMM.from_scvi_model(stock, n_components=10)
    model.train(**TRAINING)
    (z, mixture), = found_mixtures  # fmt: skip
    expected = stock.get_latent_representation(indices=np.sort(model.train_indices))
    order, expected_order = np.lexsort(z.numpy().T), np.lexsort(expected.T)
    np.testing.assert_allclose(z.numpy()[order], expected[expected_order], atol=1e-5)
    assert list(model.history["prior_loss"].index) == [0, 1, 2]
    assert len(model.predict()) == 300
    assert model.module.latent_prior.n_components == len(mixture.weights)


def test_the_default_warm_up_is_left_out_after_a_save_as_well_and_can_be_asked_for(
    adata: AnnData, tmp_path: Path
) -> None:
    SCVI_VMM.from_scvi_model(trained_scvi(adata)).save(tmp_path / "model")
    for n_warmup_epochs, expected in ((None, [0, 1, 2]), (2, [2])):
        model = SCVI_VMM.load(tmp_path / "model", adata=adata)
        model.train(**TRAINING, n_warmup_epochs=n_warmup_epochs)
        assert list(model.history["prior_loss"].index) == expected


@pytest.mark.parametrize("prior", ["gmm", "vampprior", "standard_normal"])
def test_other_priors_start_from_scvi_as_well(adata: AnnData, prior: str) -> None:
    model = SCVI_VMM.from_scvi_model(trained_scvi(adata), prior=prior, n_components=5)
    model.train(**TRAINING)
    assert np.isfinite(model.get_elbo())


def test_a_subset_of_the_data_keeps_scvis_batches(adata: AnnData) -> None:
    stock = trained_scvi(adata, {"batch_key": "batch"})
    subset = adata[adata.obs["batch"] == "batch1"].copy()
    expected = stock.get_latent_representation(subset)
    model = SCVI_VMM.from_scvi_model(stock, subset)
    assert model.module.n_batch == 2
    np.testing.assert_allclose(posterior_means(model), expected, atol=1e-6)


def test_arguments_that_scvi_has_decided_are_refused(adata: AnnData) -> None:
    stock = trained_scvi(adata, n_layers=2)
    for name, value, found in (("n_latent", 10, 4), ("encode_covariates", True, False), ("n_layers", 1, 2)):
        with pytest.raises(ValueError, match=f"`{name}` is {value}, but `scvi_model` has {found}"):
            SCVI_VMM.from_scvi_model(stock, **{name: value})
    SCVI_VMM.from_scvi_model(stock, n_latent=4)


def test_models_that_cannot_be_taken_over_are_refused(adata: AnnData) -> None:
    SCVI.setup_anndata(adata, batch_key="batch")
    with pytest.raises(ValueError, match="`scvi_model` has not been trained"):
        SCVI_VMM.from_scvi_model(SCVI(adata))
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    with pytest.raises(ValueError, match=r"`scvi_model` must be a `scvi.model.SCVI`, found vmmscvi"):
        SCVI_VMM.from_scvi_model(SCVI_VMM(adata, n_components=5))
    stock = trained_scvi(adata, latent_distribution="ln")
    with pytest.raises(ValueError, match="has `latent_distribution='ln'`; expected 'normal'"):
        SCVI_VMM.from_scvi_model(stock)
    stock = trained_scvi(adata)
    qzm, qzv = stock.get_latent_representation(return_dist=True)
    stock.adata.obsm["X_latent_qzm"], stock.adata.obsm["X_latent_qzv"] = qzm, qzv
    stock.minify_adata()
    with pytest.raises(ValueError, match="`scvi_model` has minified data: pass the full counts as `adata`"):
        SCVI_VMM.from_scvi_model(stock)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_scvi_that_comes_back_has_the_same_embedding_and_expression(
    make_model: Make, options: dict[str, Any]
) -> None:
    model = make_model(setup=COVARIATES, **options)
    model.train(**TRAINING)
    stock = model.to_scvi_model()
    assert type(stock) is SCVI and stock.is_trained
    expected = model.get_latent_representation()
    np.testing.assert_allclose(stock.get_latent_representation(), expected, atol=1e-6)
    found = []
    for either in (model, stock):
        torch.manual_seed(0)
        found.append(either.get_normalized_expression(return_numpy=True))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-7)
    # and this model goes on as it was
    np.testing.assert_array_equal(model.get_latent_representation(), expected)


def test_scanvi_starts_from_the_encoder_and_decoder(make_model: Make) -> None:
    model = make_model()
    model.adata.obs["known_type"] = model.adata.obs["cell_type"].astype(str)
    model.adata.obs.loc[model.adata.obs_names[:50], "known_type"] = "unknown"
    model.train(**TRAINING)
    expected = model.get_latent_representation()
    scanvi = SCANVI.from_scvi_model(model.to_scvi_model(), "unknown", labels_key="known_type")
    scanvi.module.eval()
    np.testing.assert_allclose(posterior_means(scanvi), expected, atol=1e-6)
    ours, theirs = model.module.state_dict(), scanvi.module.state_dict()
    carried = [name for name in theirs if name.startswith(("z_encoder.", "decoder.", "px_r"))]
    assert carried and all(torch.equal(theirs[name], ours[name]) for name in carried)
    assert not any(name.startswith(("latent_prior.", "pseudo_inputs.")) for name in theirs)
    scanvi.train(**{**TRAINING, "max_epochs": 2})
    assert set(scanvi.predict()) <= set(model.adata.obs["cell_type"])


def test_scanvi_without_the_way_over_scvi_is_refused(trained: Callable[..., SCVI_VMM]) -> None:
    with pytest.raises(ValueError, match=r"pass `model.to_scvi_model\(\)`, which drops the prior"):
        SCANVI.from_scvi_model(trained(), "unknown", labels_key="cell_type")


def test_an_untrained_model_is_not_handed_over(make_model: Make) -> None:
    with pytest.raises(RuntimeError, match="has not been trained"):
        make_model().to_scvi_model()


def test_a_model_without_anndata_is_handed_over_once_it_is_loaded_with_its_data(
    adata: AnnData, tmp_path: Path
) -> None:
    adata.write_h5ad(tmp_path / "counts.h5ad")
    cells = StreamedCounts(
        tmp_path / "counts.h5ad", batch_key="batch", batch_size=16, block_size=4, buffer_size=64
    )
    model = SCVI_VMM(registry=cells.registry, n_components=5, n_hidden=16, n_latent=4)
    model.train(datamodule=cells, **{**TRAINING, "max_epochs": 1, "start": "cells"})
    with pytest.raises(
        ValueError, match="`to_scvi_model` needs the training data: load the model with `adata`"
    ):
        model.to_scvi_model()
    model.save(tmp_path / "model")
    stock = SCVI_VMM.load(tmp_path / "model", adata=adata).to_scvi_model()
    expected = model.get_latent_representation(dataloader=cells.inference_dataloader())
    np.testing.assert_allclose(stock.get_latent_representation(), expected, atol=1e-5)


def test_solo_classifies_the_embedding_of_cells_and_simulated_doublets(make_model: Make) -> None:
    model = make_model(setup={})
    model.train(**TRAINING)
    solo = scvi.external.SOLO.from_scvi_model(model)
    assert list(solo.adata.obs["_solo_doub_sim"]) == ["singlet"] * 300 + ["doublet"] * 600
    totals = np.log(np.asarray(model.adata.X.sum(1)))
    expected = np.concatenate([model.get_latent_representation(), totals], axis=1)
    np.testing.assert_allclose(solo.adata.X[:300], expected, atol=1e-5)
    assert solo.adata.X[300:, -1].mean() > totals.mean() + 0.5  # doublets have the counts of two cells
    solo.train(**{**TRAINING, "max_epochs": 1})
    assert solo.predict().shape == (300, 2)
