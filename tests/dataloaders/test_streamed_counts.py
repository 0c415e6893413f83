"""Counts on disk are read unchanged, in bounded memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch
from anndata import AnnData
from lightning.pytorch.callbacks import Callback
from sklearn.metrics import adjusted_rand_score

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts
from vmmscvi.dataloaders import StreamedCounts
from vmmscvi.dataloaders._count_files import OpenCounts
from vmmscvi.train import ResumableCheckpoint

SMALL = {"batch_size": 16, "block_size": 4, "buffer_size": 64}


@pytest.fixture
def files(adata: AnnData, tmp_path: Path) -> list[Path]:
    """The cells in two files, counts as integers in a layer, in ``X`` as they come."""
    paths = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
    adata.layers["counts"] = adata.X.astype(np.int64)
    adata[:130].write_h5ad(paths[0])
    adata[130:].write_h5ad(paths[1], compression="gzip")
    return paths


def gathered(loader: Any) -> dict[str, np.ndarray]:
    minibatches = list(loader)
    return {name: torch.cat([m[name] for m in minibatches]).numpy() for name in minibatches[0]}


def cells(counts: np.ndarray) -> list[bytes]:
    """Cells of these counts, of which no two are alike, in an order that does not depend on theirs."""
    return sorted(row.astype(np.float32).tobytes() for row in counts)


@pytest.mark.parametrize("layer", [None, "counts"])
def test_minibatches_are_those_of_anndata(adata: AnnData, files: list[Path], layer: str | None) -> None:
    setup = {
        "layer": layer,
        "batch_key": "batch",
        "labels_key": "cell_type",
        "size_factor_key": "size_factor",
        "categorical_covariate_keys": ["donor", "phase"],
        "continuous_covariate_keys": ["stress"],
    }
    streamed = StreamedCounts(files, **setup, **SMALL)
    SCVI_VMM.setup_anndata(adata, **setup)
    model = SCVI_VMM(adata)
    expected = list(model._make_data_loader(adata=adata, batch_size=16))
    found = list(streamed.inference_dataloader())
    assert len(found) == len(expected) == len(streamed.inference_dataloader())
    for minibatch, of_anndata in zip(found, expected, strict=True):
        assert minibatch.keys() == of_anndata.keys()
        for name, values in of_anndata.items():
            torch.testing.assert_close(minibatch[name], values, rtol=0, atol=0)
    assert list(streamed.obs_names) == list(adata.obs_names)
    assert list(streamed.var_names) == list(adata.var_names)
    own, theirs = streamed.registry, model.registry_
    assert own["setup_args"] == theirs["setup_args"]
    assert own["field_registries"].keys() == theirs["field_registries"].keys()
    for name, field in theirs["field_registries"].items():
        assert own["field_registries"][name]["summary_stats"] == field["summary_stats"]


@pytest.mark.parametrize("batch_size", [16, 17, 64])
def test_every_training_cell_comes_once_in_an_epoch(
    adata: AnnData, files: list[Path], batch_size: int
) -> None:
    streamed = StreamedCounts(files, **{**SMALL, "batch_size": batch_size})
    everything = adata.X.toarray()
    assert len(set(cells(everything))) == adata.n_obs
    loader = streamed.train_dataloader()
    for _ in range(2):
        found = gathered(loader)
        assert cells(found["X"]) == cells(everything[streamed.train_idx])
    sizes = [len(m["X"]) for m in loader]
    assert len(sizes) == len(loader)
    assert min(sizes) > 1
    assert set(sizes[:-1]) == {batch_size}


@pytest.mark.parametrize("n_parts", [2, 3, 7])
def test_processes_share_the_cells_of_an_epoch(adata: AnnData, files: list[Path], n_parts: int) -> None:
    loaders = []
    for part in range(n_parts):
        loaders.append(StreamedCounts(files, **SMALL).train_dataloader())
        loaders[-1].part, loaders[-1].n_parts = part, n_parts
    assert len({len(loader) for loader in loaders}) == 1, (
        "a process with more minibatches would wait for ever"
    )
    for _ in range(2):
        parts = [gathered(loader)["X"] for loader in loaders]
        assert len({len(part) for part in parts}) == 1
        n_twice = sum(map(len, parts)) - len(StreamedCounts(files, **SMALL).train_idx)
        assert 0 <= n_twice < n_parts
        found = {row.tobytes() for row in np.concatenate(parts)}
        expected = adata.X.toarray()[StreamedCounts(files, **SMALL).train_idx]
        assert found == set(cells(expected))


def test_a_single_cell_is_not_left_over(files: list[Path]) -> None:
    streamed = StreamedCounts(files, **{**SMALL, "train_size": 1.0, "batch_size": 23})  # 300 = 13 * 23 + 1
    assert [len(m["X"]) for m in streamed.train_dataloader()] == [*[23] * 12, 24]


def test_validation_cells_are_not_trained_on(adata: AnnData, files: list[Path]) -> None:
    streamed = StreamedCounts(files, train_size=0.8, **SMALL)
    everything = adata.X.toarray()
    train, validation = gathered(streamed.train_dataloader()), gathered(streamed.val_dataloader())
    assert len(train["X"]) == 240
    assert cells(np.concatenate([train["X"], validation["X"]])) == cells(everything)
    assert set(cells(gathered(streamed.sample_dataloader(100))["X"])) <= set(cells(train["X"]))
    np.testing.assert_array_equal(
        gathered(streamed.inference_dataloader("validation"))["X"], everything[streamed.val_idx]
    )


def test_order_and_split_depend_on_the_seed(files: list[Path]) -> None:
    def first_epochs(seed: int | None) -> list[np.ndarray]:
        loader = StreamedCounts(files, seed=seed, **SMALL).train_dataloader()
        return [gathered(loader)["X"] for _ in range(2)]

    scvi.settings.seed = 0
    one, same, other = first_epochs(None), first_epochs(0), first_epochs(1)
    np.testing.assert_array_equal(one, same)
    assert cells(one[0]) != cells(other[0]), "the split"
    assert not np.array_equal(one[0], one[1]), "the order of the second epoch"
    splits = [StreamedCounts(files, seed=seed, **SMALL).val_idx for seed in (0, 0, 1)]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_minibatches_mix_cells_from_all_over_the_files(adata: AnnData, files: list[Path]) -> None:
    streamed = StreamedCounts(files, train_size=1.0, **SMALL)
    position = {row.astype(np.float32).tobytes(): i for i, row in enumerate(adata.X.toarray())}
    minibatches = list(streamed.train_dataloader())[:-1]
    found = [[position[row.tobytes()] for row in m["X"].numpy()] for m in minibatches]
    # 16 of 300 cells drawn evenly spread with a standard deviation of 87; neighbours with one of 5
    assert np.mean([np.std(rows) for rows in found]) > 60
    neighbours = np.mean([np.mean(np.abs(np.diff(rows)) == 1) for rows in found])
    assert neighbours < 0.1


def test_the_buffer_is_bounded(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read = OpenCounts.read
    buffers: list[Any] = []
    sizes, alive = [], []

    def instrumented(self: OpenCounts, rows: np.ndarray) -> sp.csr_matrix:
        gc.collect()
        alive.append(sum(buffer() is not None for buffer in buffers))
        matrix = read(self, rows)
        sizes.append(matrix.shape[0])
        buffers.append(weakref.ref(matrix))
        return matrix

    streamed = StreamedCounts(files, train_size=1.0, **SMALL)
    monkeypatch.setattr(OpenCounts, "read", instrumented)
    for _ in streamed.train_dataloader():
        pass
    assert sizes == [64, 64, 64, 64, 44]
    assert alive == [0] * 5, "a buffer is gone before the next one is read"
    sizes.clear()
    for _ in streamed.inference_dataloader():
        pass
    assert max(sizes) == 16


def test_the_sample_for_the_start_is_uniform(files: list[Path]) -> None:
    chosen = np.zeros(300)
    streamed = StreamedCounts(files, train_size=1.0, **SMALL)
    for seed in range(200):
        streamed.seed = seed
        loader = streamed.sample_dataloader(30)
        assert len(set(loader.rows)) == 30
        chosen[loader.rows] += 1
    # 200 draws of one in ten: a chi-squared statistic with 299 degrees of freedom, 1e-4 quantiles
    statistic = ((chosen - 20) ** 2 / (20 * 0.9)).sum()
    assert 213 < statistic < 398


def test_files_can_be_batches(files: list[Path]) -> None:
    streamed = StreamedCounts(files, file_key="dataset", batch_key="dataset", **SMALL)
    codes = gathered(streamed.inference_dataloader())["batch"].ravel()
    np.testing.assert_array_equal(codes, np.repeat([0, 1], [130, 170]))
    state = streamed.registry["field_registries"]["batch"]["state_registry"]
    assert list(state["categorical_mapping"]) == ["one", "two"]


def test_other_cells_are_coded_as_those_of_the_model(adata: AnnData, files: list[Path]) -> None:
    setup = {"batch_key": "batch", "labels_key": "cell_type", "categorical_covariate_keys": ["donor"]}
    registry = StreamedCounts(files, **setup, **SMALL).registry
    second = adata[adata.obs["batch"] == adata.obs["batch"].unique()[1]].copy()
    path = files[0].with_name("second.h5ad")
    second.write_h5ad(path)
    other = StreamedCounts(path, registry=registry, **SMALL)
    assert other.registry is registry
    known = list(registry["field_registries"]["batch"]["state_registry"]["categorical_mapping"])
    expected = known.index(str(second.obs["batch"].iloc[0]))
    assert set(gathered(other.inference_dataloader())["batch"].ravel()) == {expected}
    for column in ("batch", "cell_type", "donor"):
        changed = second.copy()
        changed.obs[column] = "elsewhere"
        changed.write_h5ad(path)
        with pytest.raises(ValueError, match=rf"`obs\['{column}'\]` has .* trained with: \['elsewhere'\]"):
            StreamedCounts(path, registry=registry, **SMALL)
    second[:, 1:].write_h5ad(path)
    with pytest.raises(ValueError, match="`files` has 99 genes, but 1 of the model's 100 genes are missing"):
        StreamedCounts(path, registry=registry, **SMALL)


def no_file(path: Path, adata: AnnData) -> dict[str, Any]:
    path.unlink()
    return {}


def text(path: Path, adata: AnnData) -> dict[str, Any]:
    path.write_text("no counts")
    return {}


def other_hdf5(path: Path, adata: AnnData) -> dict[str, Any]:
    with h5py.File(path, "w") as file:
        file["X"] = np.ones((3, 3))
    return {}


def transformed(change: Callable[[AnnData], None]) -> Callable[[Path, AnnData], dict[str, Any]]:
    def write(path: Path, adata: AnnData) -> dict[str, Any]:
        change(adata)
        adata.write_h5ad(path)
        return {}

    return write


def dense(adata: AnnData) -> None:
    adata.X = adata.X.toarray()


def columns(adata: AnnData) -> None:
    adata.X = sp.csc_matrix(adata.X)


def logarithms(adata: AnnData) -> None:
    adata.X = adata.X.log1p()


def negative(adata: AnnData) -> None:
    adata.X = -adata.X


def missing_values(adata: AnnData) -> None:
    adata.X.data[-1] = np.nan


def an_empty_cell(adata: AnnData) -> None:
    keep = sp.diags(np.r_[np.ones(adata.n_obs - 1), 0])
    adata.X = sp.csr_matrix(keep @ adata.X)
    adata.X.eliminate_zeros()


def infinite_covariate(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[0], "stress"] = np.inf


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (no_file, {}, "`files`: there is no file"),
        (text, {}, "`files`: .* is not HDF5"),
        (other_hdf5, {}, "`files`: .* has no table 'obs'"),
        (transformed(dense), {}, "`layer`: 'X' .* stored as 'array'"),
        (transformed(columns), {}, "`layer`: 'X' .* stored as 'csc_matrix'"),
        (transformed(logarithms), {}, "`layer`: `X` has values that are not counts"),
        (transformed(negative), {}, "`layer`: `X` has values that are not counts"),
        (transformed(missing_values), {}, "`layer`: `X` has values that are not counts \\(for example nan"),
        (transformed(an_empty_cell), {}, "`layer`: `X` has at least 1 cells without any count"),
        (None, {"layer": "raw"}, r"`layer`: .* has no 'layers/raw'; its layers are \['counts'\]"),
        (None, {"batch_key": "plate"}, "`batch_key`: 'plate' is not a column"),
        (None, {"continuous_covariate_keys": ["age"]}, "`continuous_covariate_keys`: 'age' is not a column"),
        (transformed(infinite_covariate), {"continuous_covariate_keys": ["stress"]}, "'stress' has NaN or"),
        (None, {"train_size": 0.0}, "`train_size` must be above 0"),
        (None, {"batch_size": 0}, "`batch_size` must be a positive"),
        (None, {"buffer_size": 8}, "`buffer_size` must be at least `batch_size`"),
        (None, {"block_size": 500}, "`block_size` is 500, which is too large to split 130 cells"),
    ],
)
def test_errors_name_the_problem(
    adata: AnnData, files: list[Path], spoil: Any, arguments: dict[str, Any], message: str
) -> None:
    if spoil is not None:
        arguments = {**arguments, **spoil(files[0], adata)}
    with pytest.raises(ValueError, match=message):
        StreamedCounts(files[0], **{**SMALL, **arguments})


def test_an_unknown_column_argument_is_refused(files: list[Path]) -> None:
    with pytest.raises(TypeError, match=r"unexpected argument 'batch'; expected one of \['batch_key'"):
        StreamedCounts(files[0], batch="batch", **SMALL)  # type: ignore[call-arg]


def test_files_must_have_the_same_genes(adata: AnnData, files: list[Path]) -> None:
    adata[:, ::-1].write_h5ad(files[1])
    with pytest.raises(ValueError, match=r"`files`: .*genes of .*two\.h5ad' differ from"):
        StreamedCounts(files, **SMALL)
    with pytest.raises(ValueError, match="`files` is empty"):
        StreamedCounts([], **SMALL)
    with pytest.raises(ValueError, match="`file_key` needs files of different names"):
        StreamedCounts([files[0], files[0]], file_key="dataset", **SMALL)


def test_a_batch_of_one_cell_is_refused(adata: AnnData, files: list[Path]) -> None:
    adata.obs["plate"] = np.where(np.arange(adata.n_obs) == 3, "lonely", "other")
    adata.write_h5ad(files[0])
    with pytest.raises(ValueError, match="`batch_key` 'plate' has batches of a single cell"):
        StreamedCounts(files[0], batch_key="plate", **SMALL)


@pytest.mark.parametrize("start", ["cells", "embedding"])
def test_a_model_trains_embeds_and_predicts_from_disk(
    adata: AnnData,
    files: list[Path],
    short_training: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    start: str,
) -> None:
    streamed = StreamedCounts(files, batch_key="batch", continuous_covariate_keys=["stress"], **SMALL)
    model = SCVI_VMM(registry=streamed.registry, n_components=8, n_hidden=16, n_latent=4)
    model.train(datamodule=streamed, **{**short_training, "start": start, "max_epochs": 4})
    assert "shuffle the data" not in caplog.text
    loader = streamed.inference_dataloader()
    z = model.get_latent_representation(dataloader=loader)
    clusters, density = model.predict(dataloader=loader), model.get_prior_log_density(dataloader=loader)
    probabilities = model.get_cluster_probabilities(dataloader=loader)
    pd.testing.assert_frame_equal(model.predict(soft=True, dataloader=loader), probabilities)
    # with the same cells in memory
    model.save(tmp_path / "model")
    in_memory = SCVI_VMM.load(tmp_path / "model", adata=adata)
    np.testing.assert_allclose(z, in_memory.get_latent_representation(), rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(probabilities, in_memory.get_cluster_probabilities(), rtol=1e-3, atol=1e-5)
    pd.testing.assert_series_equal(density, in_memory.get_prior_log_density(), rtol=1e-4)
    pd.testing.assert_series_equal(clusters, in_memory.predict())
    without_data = SCVI_VMM.load(tmp_path / "model", adata=False)
    pd.testing.assert_series_equal(without_data.predict(dataloader=loader), clusters)
    with pytest.raises(ValueError, match="pass `adata` or `dataloader`"):
        without_data.predict()
    with pytest.raises(ValueError, match="`indices` cannot be used"):
        model.predict(indices=[0], dataloader=loader)


def test_training_without_validation_cells_needs_no_early_stopping(
    files: list[Path], short_training: dict[str, Any]
) -> None:
    streamed = StreamedCounts(files, train_size=1.0, **SMALL)
    model = SCVI_VMM(registry=streamed.registry, n_components=8, n_hidden=16, n_latent=4)
    model.train(datamodule=streamed, **short_training)
    assert len(model.history["elbo_train"]) == 2
    assert "elbo_validation" not in model.history
    with pytest.raises(ValueError, match="`cells` must be one of"):
        streamed.inference_dataloader("validation")


class Kill(Callback):
    """End the training in the middle of its third epoch."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 2 * trainer.num_training_batches + 3:
            raise KeyboardInterrupt


def test_an_interrupted_training_resumes_exactly(
    files: list[Path], short_training: dict[str, Any], tmp_path: Path
) -> None:
    def train(**arguments: Any) -> SCVI_VMM:
        streamed = StreamedCounts(files, batch_key="batch", **SMALL)
        model = SCVI_VMM(registry=streamed.registry, n_components=8, n_hidden=16, n_latent=4)
        training = {**short_training, "start": "embedding", "max_epochs": 4, "n_warmup_epochs": 1}
        model.train(datamodule=streamed, **training, **arguments)
        return model

    expected = train()
    scvi.settings.seed = 0
    checkpoint = ResumableCheckpoint(tmp_path / "run.ckpt")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(callbacks=[checkpoint, Kill()])
    scvi.settings.seed = 7
    resumed = train(ckpt_path=checkpoint.resume_path)
    for name, value in expected.module.state_dict().items():
        torch.testing.assert_close(resumed.module.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_clusters_are_as_good_as_in_memory(tmp_path: Path) -> None:
    adata = simulate_counts(
        n_cells=400, n_genes=100, n_types=4, n_batches=2, marker_log_fold_change=3.0, seed=1
    )
    adata = adata[np.argsort(adata.obs["cell_type"].astype(str), kind="stable")].copy()  # the hardest order
    adata.write_h5ad(tmp_path / "counts.h5ad")
    training = {"max_epochs": 20, "lr": 1e-2, "accelerator": "cpu", "enable_progress_bar": False}
    sizes = {"n_components": 10, "n_hidden": 32, "n_latent": 5}
    scvi.settings.seed = 0
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    in_memory = SCVI_VMM(adata, **sizes)
    in_memory.train(**training, batch_size=32)
    scvi.settings.seed = 0
    streamed = StreamedCounts(
        tmp_path / "counts.h5ad", batch_key="batch", batch_size=32, block_size=8, buffer_size=128
    )
    from_disk = SCVI_VMM(registry=streamed.registry, **sizes)
    from_disk.train(**training, datamodule=streamed)
    found = [in_memory.predict(), from_disk.predict(dataloader=streamed.inference_dataloader())]
    qualities = [adjusted_rand_score(adata.obs["cell_type"], clusters) for clusters in found]
    together = adjusted_rand_score(*found)
    assert min(*qualities, together) > 0.6, (qualities, together)
    assert qualities[1] > qualities[0] - 0.1
