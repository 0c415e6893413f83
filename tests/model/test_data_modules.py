"""Data that do not fit into memory: collections of AnnData, backed files, data modules with a registry."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from anndata import AnnData
from anndata.experimental import AnnCollection
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback
from scvi.dataloaders import CollectionAdapter
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import vmmscvi
from vmmscvi import SCVI_VMM

Make = Callable[..., SCVI_VMM]
SIZES = {"n_components": 8, "n_hidden": 16, "n_latent": 4}


def parts(adata: AnnData) -> list[AnnData]:
    """The cells of the first and of the second half, counts in a layer, named apart."""
    adata.layers["counts"] = sp.csr_matrix(adata.X)
    return [adata[:150].copy(), adata[150:].copy()]


@pytest.mark.parametrize("start", ["cells", "embedding"])
def test_a_collection_trains_the_same_model_as_its_concatenation(
    adata: AnnData, short_training: dict[str, Any], tmp_path: Path, start: str
) -> None:
    pieces, results = parts(adata), []
    together = anndata.concat(pieces, label="dataset", keys=["0", "1"])
    collection = CollectionAdapter(
        AnnCollection(pieces, join_vars="inner", join_obs="inner", label="dataset")
    )
    for data in (together, collection):
        scvi.settings.seed = 0
        SCVI_VMM.setup_anndata(data, layer="counts", batch_key="dataset")
        model = SCVI_VMM(data, dropout_rate=0.0, **SIZES)
        model.train(**{**short_training, "start": start})
        results.append(model.history["elbo_train"].to_numpy(float))
        assert len(model.predict()) == 300
        assert model.sample_prior(5).shape == (5, 100)
    # the cells of a minibatch of a collection are in the collection's order: the noise is another
    np.testing.assert_allclose(results[1], results[0], rtol=1e-2)
    model.save(tmp_path / "model")
    loaded = SCVI_VMM.load(tmp_path / "model", adata=collection)
    np.testing.assert_array_equal(loaded.get_cluster_probabilities(), model.get_cluster_probabilities())


class PseudoInputsAtStart(Callback):
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.values = pl_module.module.pseudo_inputs["z_encoder"].values.detach().clone()


@pytest.mark.parametrize("convert", [sp.csr_matrix, lambda X: X.toarray()], ids=["CSR", "dense"])
def test_counts_on_disk_train_what_counts_in_memory_would(
    make_model: Make, adata: AnnData, short_training: dict[str, Any], tmp_path: Path, convert: Any
) -> None:
    adata.X = convert(sp.csr_matrix(adata.X))
    adata.write_h5ad(tmp_path / "counts.h5ad")
    pseudo_inputs, losses, models = [], [], []
    for data in (adata, anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")):
        scvi.settings.seed = 0
        model, start = make_model(data, dropout_rate=0.0), PseudoInputsAtStart()
        model.train(**short_training, callbacks=[start])
        pseudo_inputs.append(start.values)
        losses.append(model.history["elbo_train"].to_numpy(float))
        models.append(model)
    assert torch.equal(*pseudo_inputs)
    # a file is read in its order, so that cells of a minibatch change places: the noise is another
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)
    np.testing.assert_allclose(
        models[0].get_cluster_probabilities(models[1].adata), models[0].get_cluster_probabilities(), rtol=1e-4
    )


def test_labels_of_cells_on_disk_are_their_own(
    make_model: Make, adata: AnnData, short_training: dict[str, Any], tmp_path: Path
) -> None:
    adata.write_h5ad(tmp_path / "counts.h5ad")
    found = []
    for data in (adata, anndata.read_h5ad(tmp_path / "counts.h5ad", backed="r")):
        scvi.settings.seed = 0
        model = make_model(data, setup={"batch_key": "batch", "labels_key": "cell_type"}, dropout_rate=0.0)
        # nothing moves in the warm-up: the start is that of the initial networks
        start = {**short_training, "start": "labels", "n_warmup_epochs": 1, "lr": 1e-9}
        model.train(**start)
        found.append(model.get_cluster_weights().to_numpy())
        found.append(model.get_cluster_centers().to_numpy())
    np.testing.assert_allclose(found[2], found[0], rtol=1e-3)
    np.testing.assert_allclose(found[3], found[1], rtol=1e-2, atol=1e-2)


class Rows(IterableDataset[dict[str, Tensor]]):
    """Minibatches that are read from a file one after the other."""

    def __init__(self, path: Path, start: int, stop: int, batch_size: int) -> None:
        self.path, self.range, self.batch_size = path, range(start, stop, batch_size), batch_size
        self.stop, self.largest = stop, 0

    def __len__(self) -> int:
        return len(self.range)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        with h5py.File(self.path) as file:
            for first in self.range:
                rows = slice(first, min(first + self.batch_size, self.stop))
                n_cells = rows.stop - rows.start
                self.largest = max(self.largest, n_cells)
                yield {
                    "X": torch.as_tensor(file["X"][rows]),
                    "batch": torch.as_tensor(file["batch"][rows])[:, None],
                    "labels": torch.zeros(n_cells, 1, dtype=torch.long),
                }


class FromDisk(LightningDataModule):
    """A data module with the attributes of scvi-tools' own (Lamin's MappedCollection, TileDB's Census)."""

    batch_labels = np.array(["a", "b"])
    n_obs, n_vars, n_batch, n_labels, n_samples = 300, 100, 2, 1, 1
    label_keys = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.train, self.validation = Rows(path, 0, 260, 64), Rows(path, 260, 300, 64)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.train, batch_size=None)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.validation, batch_size=None)

    @property
    def registry(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"data_registry": {}, "state_registry": {}, "summary_stats": {}}
        field = {"X": {"attr_name": "X", "attr_key": None}, "batch": {"attr_name": "obs", "attr_key": "_b"}}
        return {
            "scvi_version": scvi.__version__,
            "model_name": "SCVI_VMM",
            "setup_args": {"layer": None, "batch_key": "batch", "labels_key": None, "size_factor_key": None}
            | {"categorical_covariate_keys": None, "continuous_covariate_keys": None},
            "field_registries": {
                "X": {
                    "data_registry": field["X"],
                    "state_registry": {
                        "n_obs": 300,
                        "n_vars": 100,
                        "column_names": np.arange(100).astype(str),
                    },
                    "summary_stats": {"n_vars": 100, "n_cells": 300},
                },
                "batch": {
                    "data_registry": field["batch"],
                    "state_registry": {"categorical_mapping": self.batch_labels, "original_key": "batch"},
                    "summary_stats": {"n_batch": 2},
                },
                "labels": {**empty, "summary_stats": {"n_labels": 1}},
                "size_factor": empty,
                "extra_categorical_covs": {**empty, "summary_stats": {"n_extra_categorical_covs": 0}},
                "extra_continuous_covs": {**empty, "summary_stats": {"n_extra_continuous_covs": 0}},
            },
            "setup_method_name": "setup_datamodule",
        }


@pytest.fixture
def datamodule(counts: AnnData, tmp_path: Path) -> FromDisk:
    path = tmp_path / "counts.h5"
    order = np.random.default_rng(0).permutation(counts.n_obs)
    with h5py.File(path, "w") as file:
        file["X"] = counts.X[order].toarray().astype(np.float32)
        file["batch"] = counts.obs["batch"].astype("category").cat.codes.to_numpy()[order].astype(np.int64)
    return FromDisk(path)


@pytest.mark.parametrize(
    ("prior", "start"),
    [*product(("vmm", "gmm"), ("cells", "embedding")), ("vampprior", None), ("standard_normal", None)],
)
def test_a_data_module_trains_from_disk(
    datamodule: FromDisk,
    short_training: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    prior: str,
    start: str | None,
) -> None:
    training = {**short_training, "start": start, "max_epochs": 4}
    model = SCVI_VMM(registry=datamodule.registry, prior=prior, **SIZES)
    with caplog.at_level(logging.WARNING, logger="vmmscvi"):
        model.train(datamodule=datamodule, **training)
    approximate = prior in ("vmm", "vampprior") and (start == "cells" or prior == "vampprior")
    assert ("shuffle the data" in caplog.text) is approximate
    assert datamodule.train.largest == 64, "minibatches are all that is in memory"
    z = model.get_latent_representation(dataloader=datamodule.train_dataloader())
    assert z.shape == (260, 4) and np.isfinite(z).all()
    if prior != "standard_normal":
        assert len(model.get_cluster_weights()) == model.module.latent_prior.n_components
        batches = iter(datamodule.train_dataloader())
        with torch.no_grad():
            qz = model.module.inference(**model.module._get_inference_input(next(batches)))["qz"]
            shares = model.module.latent_prior.responsibilities(qz.loc)
        torch.testing.assert_close(shares.sum(1), torch.ones(64))
    model.save(tmp_path / "model", datamodule=datamodule)
    loaded = SCVI_VMM.load(tmp_path / "model", adata=False)
    found = loaded.get_latent_representation(dataloader=datamodule.train_dataloader())
    np.testing.assert_array_equal(found, z)


def test_a_data_module_trains_the_same_model_as_the_same_minibatches_of_anndata(
    datamodule: FromDisk, short_training: dict[str, Any]
) -> None:
    """The order of the cells and their split are the file's; what is compared is the first epoch's loss."""
    with h5py.File(datamodule.train.path) as file:
        adata = AnnData(sp.csr_matrix(file["X"][:]), obs={"batch": file["batch"][:].astype(str)})
    training = {**short_training, "start": "embedding", "max_epochs": 2, "n_warmup_epochs": 1}
    losses = []
    for in_memory in (False, True):
        scvi.settings.seed = 0
        if in_memory:
            SCVI_VMM.setup_anndata(adata, batch_key="batch")
            model = SCVI_VMM(adata, dropout_rate=0.0, **SIZES)
            split = [np.arange(260), np.arange(260, 300), np.array([], dtype=int)]
            model.train(**training, datasplitter_kwargs={"external_indexing": split}, lr=1e-9)
        else:
            model = SCVI_VMM(registry=datamodule.registry, dropout_rate=0.0, **SIZES)
            model.train(**training, datamodule=datamodule, lr=1e-9)
        losses.append(model.history["elbo_train"].to_numpy(float).ravel())
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


def test_a_data_module_of_unknown_length_needs_the_number_of_epochs(
    datamodule: FromDisk, short_training: dict[str, Any]
) -> None:
    model = SCVI_VMM(registry=datamodule.registry, **SIZES)
    datamodule.n_obs = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="`max_epochs` is missing"):
        model.train(datamodule=datamodule, **{**short_training, "max_epochs": None})


def test_a_registry_alone_does_not_give_a_prior_of_library_sizes(make_model: Make) -> None:
    registry = make_model().registry
    with pytest.raises(ValueError, match="`use_observed_lib_size=False` needs `adata`"):
        SCVI_VMM(registry=registry, use_observed_lib_size=False)


@pytest.mark.parametrize("model_class", [vmmscvi.LinearSCVI_VMM, vmmscvi.PEAKVI_VMM])
def test_a_registry_builds_a_model_or_is_refused_by_name(datamodule: FromDisk, model_class: type) -> None:
    stock = {"LinearSCVI_VMM": scvi.model.LinearSCVI, "PEAKVI_VMM": scvi.model.PEAKVI}[model_class.__name__]
    if "registry" in inspect.signature(stock).parameters:
        assert model_class(registry=datamodule.registry).adata is None
    else:
        with pytest.raises(ValueError, match=r"`registry` is not supported by .*: pass `adata`, or install"):
            model_class(registry=datamodule.registry)


@pytest.mark.parametrize("start", ["cells", "embedding"])
def test_a_single_cell_that_a_data_module_leaves_over_is_skipped_and_reported_once(
    datamodule: FromDisk, short_training: dict[str, Any], caplog: pytest.LogCaptureFixture, start: str
) -> None:
    training = {**short_training, "start": start, "max_epochs": 3, "n_warmup_epochs": None, "lr": 1e-9}
    losses = []
    for stop in (257, 256):
        scvi.settings.seed = 0
        datamodule.train = Rows(datamodule.train.path, 0, stop, 64)
        model = SCVI_VMM(registry=datamodule.registry, dropout_rate=0.0, **SIZES)
        with caplog.at_level(logging.WARNING, logger="vmmscvi"):
            model.train(datamodule=datamodule, **training)
        losses.append(model.history["elbo_train"].to_numpy(float).ravel()[0])
    assert caplog.text.count("skipped in every epoch") == 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-6 if start == "embedding" else 1e-2)


def test_networks_without_batch_normalisation_train_on_a_single_cell(
    datamodule: FromDisk, short_training: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    datamodule.train = Rows(datamodule.train.path, 0, 257, 64)
    model = SCVI_VMM(registry=datamodule.registry, use_batch_norm="none", use_layer_norm="both", **SIZES)
    model.train(datamodule=datamodule, **{**short_training, "max_epochs": 4})
    assert "skipped" not in caplog.text


def test_an_epoch_of_single_cells_is_refused(datamodule: FromDisk, short_training: dict[str, Any]) -> None:
    datamodule.train = Rows(datamodule.train.path, 0, 5, 1)
    model = SCVI_VMM(registry=datamodule.registry, **SIZES)
    with pytest.raises(ValueError, match="Every minibatch has a single cell"):
        model.train(datamodule=datamodule, **{**short_training, "start": "embedding", "max_epochs": 4})
