"""Extreme data, and settings drawn at random: two epochs without NaN, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch
from anndata import AnnData
from hypothesis import strategies as st

from vmmscvi import SCVI_VMM
from vmmscvi.train import NonFiniteTrainingError

Make = Callable[..., SCVI_VMM]

TRAINING: dict[str, Any] = {
    "max_epochs": 2,
    "batch_size": 64,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}
STARTS = ("embedding", "cells")

MakeData = Callable[[np.random.Generator], AnnData]


def cells(counts: Any, batches: Any = "a") -> AnnData:
    adata = AnnData(sp.csr_matrix(np.asarray(counts, dtype=np.float32)))
    adata.obs["batch"] = pd.Categorical(np.broadcast_to(batches, adata.n_obs).astype(str))
    return adata


def few_genes(rng: np.random.Generator, n_genes: int, n_cells: int = 60) -> AnnData:
    return cells(rng.poisson(3.0, (n_cells, n_genes)) + 1)


def one_dominant_gene(rng: np.random.Generator) -> AnnData:
    counts = rng.poisson(0.2, (80, 30))
    counts[:, 0] = rng.poisson(20_000, 80)
    return cells(counts)


def almost_empty(rng: np.random.Generator) -> AnnData:
    """99.9% zeros: most cells have one or two counts in 1,000 genes."""
    counts = np.zeros((100, 1000))
    counts[np.arange(100), rng.integers(1000, size=100)] = 1
    return cells(counts)


def duplicated(rng: np.random.Generator) -> AnnData:
    return cells(np.repeat(rng.poisson(2.0, (3, 25)) + (np.arange(25) == 0), 30, axis=0))


SMALL: dict[str, MakeData] = {
    "one gene": lambda rng: few_genes(rng, 1),
    "two genes": lambda rng: few_genes(rng, 2),
    "thirty cells": lambda rng: few_genes(rng, 20, n_cells=30),
    "one dominant gene": one_dominant_gene,
    "almost empty": almost_empty,
    "counts of a million": lambda rng: cells(rng.poisson(1e6, (60, 10))),
    "a million beside zeros": lambda rng: cells(
        rng.poisson(1e6, (60, 10)) * (rng.random((60, 10)) < 0.3) + 1
    ),
    "duplicated cells": duplicated,
    "one cell repeated": lambda rng: cells(np.tile(rng.poisson(4.0, 20) + 1, (50, 1))),
    "a gene without counts": lambda rng: cells(
        rng.poisson(3.0, (60, 10)) * (np.arange(10) > 0) + (np.arange(10) == 1)
    ),
    "twenty batches": lambda rng: cells(rng.poisson(3.0, (60, 10)) + 1, np.arange(60) % 20),
}


def assert_finite(model: SCVI_VMM) -> None:
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    for name, table in model.history.items():
        assert np.isfinite(table.to_numpy(dtype=float)).all(), name
    probabilities = model.get_cluster_probabilities().to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-4)
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(float(model.get_elbo()))
    assert np.isfinite(model.sample_prior(5).X.toarray()).all()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("make", SMALL.values(), ids=SMALL.keys())
def test_extreme_data_train(make: MakeData, start: str) -> None:
    adata = make(np.random.default_rng(0))
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_components=10, n_hidden=16, n_latent=4)
    model.train(**TRAINING, start=start)
    assert_finite(model)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(40, 20_000), (30, 50_000)], ids=["20,000 genes", "50,000 genes"])
def test_many_genes_and_few_cells_train(shape: tuple[int, int]) -> None:
    adata = cells(np.random.default_rng(0).poisson(0.05, shape))
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_components=10)
    model.train(**TRAINING)
    assert_finite(model)


@pytest.mark.slow
@pytest.mark.parametrize("representation", ["one-hot", "embedding"])
def test_a_thousand_batches_train(representation: str) -> None:
    adata = cells(
        np.random.default_rng(0).poisson(2.0, (2000, 20)) + (np.arange(20) == 0), np.arange(2000) % 1000
    )
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, n_components=20, batch_representation=representation)
    model.train(**TRAINING)
    assert_finite(model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rng: cells(rng.poisson(3.0, (21, 10)) + 1, np.arange(21) // 2), "batches of a single cell"),
        (
            lambda rng: cells(rng.poisson(3.0, (20, 10)) * (np.arange(20) > 0)[:, None]),
            "cells without any count",
        ),
    ],
    ids=["a batch of one cell", "an empty cell"],
)
def test_data_that_cannot_be_trained_on_are_refused(make: MakeData, message: str) -> None:
    adata = make(np.random.default_rng(0))
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    with pytest.raises(ValueError, match=message):
        SCVI_VMM(adata, n_components=10, n_hidden=16).train(**TRAINING)


SETTINGS: dict[str, Any] = {
    "prior": st.sampled_from(["vmm", "gmm", "vampprior", "standard_normal"]),
    "n_components": st.integers(1, 30),
    "n_hidden": st.sampled_from([4, 16]),
    "n_latent": st.integers(1, 8),
    "n_layers": st.integers(1, 2),
    "dropout_rate": st.sampled_from([0.0, 0.5]),
    "dispersion": st.sampled_from(["gene", "gene-batch", "gene-label", "gene-cell"]),
    "gene_likelihood": st.sampled_from(["zinb", "nb", "poisson"]),
    "inference": st.sampled_from(["MAP-DP", "MAP", "MLE"]),
    "wishart_scale": st.sampled_from(["half", "paper", "reference", 0.01, 3.0]),
    "pseudo_input_space": st.sampled_from(["log1p", "counts"]),
    "use_observed_lib_size": st.booleans(),
    "encode_covariates": st.booleans(),
    "deeply_inject_covariates": st.booleans(),
    "batch_representation": st.sampled_from(["one-hot", "embedding"]),
    "use_batch_norm": st.sampled_from(["encoder", "decoder", "none", "both"]),
    "use_layer_norm": st.sampled_from(["encoder", "decoder", "none", "both"]),
    "log_variational": st.booleans(),
}
SETUPS: dict[str, Any] = {
    "batch_key": st.sampled_from([None, "batch"]),
    "labels_key": st.sampled_from([None, "cell_type"]),
    "size_factor_key": st.sampled_from([None, "size_factor"]),
    "categorical_covariate_keys": st.sampled_from([None, ["donor"], ["donor", "phase"]]),
    "continuous_covariate_keys": st.sampled_from([None, ["stress"]]),
}
TRAININGS: dict[str, Any] = {
    "start": st.sampled_from(STARTS),
    "batch_size": st.sampled_from([16, 128]),
    "lr": st.sampled_from([1e-4, 1e-2]),
    "prior_lr_ratio": st.sampled_from([0.1, 10.0]),
    "n_effective": st.sampled_from([10.0, 1e5]),
}


@pytest.mark.slow
@hypothesis.settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    setup=st.fixed_dictionaries(SETUPS),
    options=st.fixed_dictionaries(SETTINGS),
    training=st.fixed_dictionaries(TRAININGS),
)
def test_any_valid_settings_train(
    counts: AnnData, setup: dict[str, Any], options: dict[str, Any], training: dict[str, Any]
) -> None:
    scvi.settings.seed = 0
    adata = counts[:120, :30].copy()
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    SCVI_VMM.setup_anndata(adata, **setup)
    model = SCVI_VMM(adata, **options)
    overflows = not options["log_variational"] and not options["use_observed_lib_size"]
    try:
        model.train(**{**TRAINING, **training})
    except NonFiniteTrainingError as error:  # stock scVI is no better there, see the test below
        assert overflows and "a network's output for raw counts" in str(error)
        return
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert all(np.isfinite(table.to_numpy(dtype=float)).all() for table in model.history.values())
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(float(model.get_elbo())) or overflows
    if options["prior"] in ("vmm", "gmm"):
        np.testing.assert_allclose(model.get_cluster_probabilities().sum(axis=1), 1, rtol=1e-4)


def test_a_size_encoder_that_overflows_is_explained_where_stock_scvi_fails() -> None:
    options = {"n_hidden": 16, "use_observed_lib_size": False, "log_variational": False}
    adata = SMALL["counts of a million"](np.random.default_rng(0))
    for model_class, refusal, message in (
        (scvi.model.SCVI, ValueError, "invalid values"),
        (SCVI_VMM, NonFiniteTrainingError, "`use_observed_lib_size=False`, a cell's size is the exponential"),
    ):
        scvi.settings.seed = 0
        model_class.setup_anndata(adata)
        model = model_class(adata, use_batch_norm="none", **options)
        with pytest.raises(refusal, match=message):
            model.train(**TRAINING)
