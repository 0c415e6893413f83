"""What cannot work says so before training, names culprit and remedy, and leaves the data as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from vmmscvi import SCVI_VMM
from vmmscvi.model._validation import ROWS_PER_CHUNK

Make = Callable[..., SCVI_VMM]


def set_count(adata: AnnData, value: float) -> None:
    X = adata.X.toarray()
    X[17, 3] = value
    adata.X = type(adata.X)(X)


def empty_cell(adata: AnnData) -> None:
    X = adata.X.toarray()
    X[17] = 0
    adata.X = sp.csr_matrix(X)


def lonely_batch(adata: AnnData) -> None:
    adata.obs["batch"] = adata.obs["batch"].astype(str)
    adata.obs.loc[adata.obs_names[4], "batch"] = "alone"


def nan_covariate(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[4], "stress"] = np.nan


def size_factor_of_zero(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[4], "size_factor"] = 0.0


BAD_DATA: dict[str, tuple[Callable[[AnnData], None], str]] = {
    "negative": (lambda a: set_count(a, -2), r"`adata\.X` has negative values \(smallest: -2\).*layer"),
    "fractional": (lambda a: set_count(a, 1.5), r"`adata\.X` has fractional values .*1\.5.*layer"),
    "NaN": (lambda a: set_count(a, np.nan), r"`adata\.X` has NaN or infinite values.*Remove"),
    "infinite": (lambda a: set_count(a, np.inf), r"`adata\.X` has NaN or infinite values.*Remove"),
    "empty cell": (empty_cell, r"1 cells without any count .*cell17.*filter_cells"),
    "one cell in a batch": (
        lonely_batch,
        r"`batch_key` 'batch' has batches of a single cell: \['alone'\].*merge",
    ),
    "NaN covariate": (nan_covariate, r"`continuous_covariate_keys`: 'stress' has NaN.*Impute"),
    "size factor of zero": (
        size_factor_of_zero,
        r"`size_factor_key`: size factors must be positive.*found 0",
    ),
}
SETUP = {"batch_key": "batch", "continuous_covariate_keys": ["stress"], "size_factor_key": "size_factor"}


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def assert_refused(model: SCVI_VMM, message: str, **training: Any) -> None:
    """Training raises, no epoch has run, and neither data nor weights have changed."""
    adata = model.adata
    before, obs = dense(adata.X).copy(), adata.obs.copy()
    weights = {n: v.clone() for n, v in model.module.state_dict().items()}
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, **training}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        model.train(**options)
    assert not model.is_trained and model.history is None
    for name, value in model.module.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), weights[name].numpy())
    np.testing.assert_array_equal(dense(adata.X), before)
    assert adata.obs.equals(obs)


@pytest.mark.parametrize("form", ["CSR", "CSC", "dense"])
@pytest.mark.parametrize(("spoil", "message"), BAD_DATA.values(), ids=BAD_DATA.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_data(make_model: Make, adata: AnnData, spoil: Any, message: str, form: str) -> None:
    spoil(adata)
    adata.X = {"CSR": sp.csr_matrix, "CSC": sp.csc_matrix, "dense": dense}[form](adata.X)
    assert_refused(make_model(adata, setup=SETUP), message)


@pytest.mark.parametrize("name", ["negative", "fractional", "NaN", "empty cell"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_data_in_a_layer_names_the_layer(make_model: Make, adata: AnnData, name: str) -> None:
    original = adata.X.copy()
    BAD_DATA[name][0](adata)
    adata.layers["raw"], adata.X = adata.X, original
    assert_refused(make_model(adata, setup={"layer": "raw"}), r"`adata\.layers\['raw'\]` has ")


def test_negative_integers_are_found_too(make_model: Make, adata: AnnData) -> None:
    set_count(adata, -2)
    adata.X = adata.X.astype(np.int32)
    assert_refused(make_model(adata), "negative values")


def test_bad_data_beyond_the_first_rows_are_found(make_model: Make, adata: AnnData) -> None:
    n_copies = ROWS_PER_CHUNK // adata.n_obs + 2
    x = sp.vstack([adata.X] * n_copies, format="lil")
    x[ROWS_PER_CHUNK + 1] = 0
    names = [f"cell{i}" for i in range(x.shape[0])]
    many = AnnData(x.tocsr(), pd.DataFrame({"batch": "a"}, index=names))
    expected = rf"1 cells without any count \(for example \['cell{ROWS_PER_CHUNK + 1}'\]\)"
    assert_refused(make_model(many), expected)


def test_normal_likelihood_still_refuses_nan(make_model: Make, adata: AnnData) -> None:
    set_count(adata, np.nan)
    assert_refused(make_model(adata, gene_likelihood="normal"), "NaN or infinite")


@pytest.mark.parametrize(
    ("n_components", "training", "found"),
    [(301, {}, 270), (280, {}, 270), (200, {"train_size": 0.5}, 150)],
)
def test_fewer_cells_than_components(
    make_model: Make, n_components: int, training: dict[str, Any], found: int
) -> None:
    message = rf"`n_components` is {n_components}, but there are only {found} training cells.*at most {found}"
    assert_refused(make_model(n_components=n_components), message, start="cells", **training)


def test_fewer_cells_than_components_in_a_split_of_the_user(make_model: Make) -> None:
    model = make_model(n_components=60)
    split = [np.arange(50), np.arange(50, 300), np.array([], dtype=int)]
    with pytest.raises(ValueError, match="`n_components` is 60, but there are only 50 training cells"):
        model.train(
            max_epochs=1,
            start="cells",
            accelerator="cpu",
            enable_progress_bar=False,
            datasplitter_kwargs={"external_indexing": split},
        )
    assert not model.is_trained


def test_a_mixture_without_pseudo_inputs_may_have_more_components_than_cells(
    make_model: Make, short_training: dict[str, Any]
) -> None:
    model = make_model(prior="gmm", n_components=320)
    model.train(**{**short_training, "max_epochs": 1})
    assert model.get_cluster_probabilities().shape == (300, 320)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"lr": -1e-3}, "`lr` must be positive, found -0.001"),
        ({"plan_kwargs": {"lr": -1.0}}, "`lr` must be positive, found -1.0"),
        ({"prior_lr_ratio": 0.0}, "`prior_lr_ratio` must be positive, found 0.0"),
        ({"plan_kwargs": {"hyperprior_n_obs": 0}}, "`hyperprior_n_obs` must be positive, found 0"),
        ({"max_epochs": 0}, "`max_epochs` must be a positive integer, found 0"),
        ({"max_epochs": -1}, "`max_epochs` must be a positive integer, found -1"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer, found 0"),
        ({"train_size": 1.5}, "train_size"),
        ({"train_size": 1.0, "early_stopping": True}, "Early Stopping with validation monitor with no valid"),
        ({"early_stopping_mode": "up"}, "`mode` must be 'min' or 'max', found 'up'"),
    ],
)
def test_bad_training_arguments(make_model: Make, training: dict[str, Any], message: str) -> None:
    assert_refused(make_model(), message, **training)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prior": "vamp"},
            r"`prior` must be one of \('vmm', 'gmm', 'vampprior', 'standard_normal'\), found 'vamp'",
        ),
        ({"inference": "EM"}, "`inference` must be one of .*'MAP-DP', 'MAP', 'MLE'.* found 'EM'"),
        ({"pseudo_input_space": "sqrt"}, r"`pseudo_input_space` must be one of .* found 'sqrt'"),
        (
            {"wishart_scale": "prototype"},
            "`wishart_scale` must be 'learned', 'half', 'paper', 'reference' or a positive number",
        ),
        ({"wishart_scale": 0.0}, "`wishart_scale` must be .* found 0.0"),
        ({"wishart_scale": float("nan")}, "`wishart_scale` must be .* found nan"),
        ({"n_components": 0}, "`n_components` must be a positive integer, found 0"),
        ({"latent_distribution": "ln"}, "`latent_distribution` must be 'normal', found 'ln'"),
    ],
)
def test_bad_model_arguments(make_model: Make, adata: AnnData, options: dict[str, Any], message: str) -> None:
    before = adata.X.copy()
    with pytest.raises(ValueError, match=message):
        make_model(adata, **options)
    assert (adata.X != before).nnz == 0


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        ({"layer": "spliced"}, r"`layer`: 'spliced' is not in `adata\.layers`, which has \['other'\]"),
        (
            {"batch_key": "plate"},
            r"`batch_key`: 'plate' is not a column of `adata\.obs`, which has \['batch'",
        ),
        ({"labels_key": "type"}, "`labels_key`: 'type' is not a column"),
        ({"size_factor_key": "depth"}, "`size_factor_key`: 'depth' is not a column"),
        ({"categorical_covariate_keys": ["donor", "plate"]}, "`categorical_covariate_keys`: 'plate' is not"),
        ({"continuous_covariate_keys": ["age"]}, "`continuous_covariate_keys`: 'age' is not a column"),
    ],
)
def test_a_missing_layer_or_column_is_named(adata: AnnData, setup: dict[str, Any], message: str) -> None:
    adata.layers["other"] = adata.X
    columns, entries = list(adata.obs), list(adata.uns)
    with pytest.raises(ValueError, match=message):
        SCVI_VMM.setup_anndata(adata, **setup)
    assert (list(adata.obs), list(adata.uns)) == (columns, entries)


def test_a_batch_that_is_nan_is_refused_at_setup(adata: AnnData) -> None:
    adata.obs["batch"] = adata.obs["batch"].astype(object)
    adata.obs.loc[adata.obs_names[0], "batch"] = np.nan
    with pytest.raises(ValueError, match="batch"):
        SCVI_VMM.setup_anndata(adata, batch_key="batch")


def test_data_that_are_not_registered_are_refused(counts: AnnData) -> None:
    with pytest.raises(ValueError, match="setup_anndata"):
        SCVI_VMM(AnnData(counts.X.copy()))


@pytest.mark.parametrize("method", ["get_cluster_probabilities", "predict", "get_latent_representation"])
def test_an_unknown_batch_in_new_data_is_named(trained: Any, counts: AnnData, method: str) -> None:
    new = counts[:20].copy()
    new.obs["batch"] = ["lab9"] * 5 + ["batch0"] * 15
    with pytest.raises(
        ValueError, match=r"(?s)not trained with: \['lab9'\]; it knows \['batch0', 'batch1'\]"
    ):
        getattr(trained(), method)(new)


def test_an_unknown_batch_called_zero_is_found(
    make_model: Make, adata: AnnData, short_training: dict[str, Any]
) -> None:
    adata.obs["batch"] = (adata.obs["batch"] == "batch0").astype(int) + 1
    model = make_model(adata)
    model.train(**{**short_training, "max_epochs": 1})
    new = AnnData(adata.X[:20], obs=adata.obs[["batch"]][:20].copy(), var=adata.var)
    new.obs["batch"] = 0
    with pytest.raises(ValueError, match=r"not trained with: \['0'\]; it knows \['1', '2'\]"):
        model.predict(new)


def test_new_data_with_other_genes_or_without_the_batch_are_refused(trained: Any, counts: AnnData) -> None:
    with pytest.raises(ValueError, match="50 of the model's 100 genes are missing"):
        trained().predict(counts[:, :50].copy())
    new = counts[:10].copy()
    del new.obs["batch"]
    with pytest.raises(KeyError, match="batch not found in"):
        trained().predict(new)
