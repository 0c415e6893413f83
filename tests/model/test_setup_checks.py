"""Invalid arguments are refused with a suggestion, before anything is registered."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
from anndata import AnnData

from vmmscvi import PEAKVI_VMM, SCVI_VMM, TOTALVI_VMM, LinearSCVI_VMM
from vmmscvi.data import simulate_cite

Make = Callable[..., SCVI_VMM]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("batch", "batch_key"), ("labels", "labels_key"), ("counts", "layer"), ("batch_kye", "batch_key")],
)
def test_an_unknown_argument_of_setup_names_the_one_that_was_meant(
    adata: AnnData, name: str, meant: str
) -> None:
    columns = list(adata.obs)
    with pytest.raises(TypeError, match=rf"`setup_anndata` has no argument `{name}`. Did you mean `{meant}`"):
        SCVI_VMM.setup_anndata(adata, **{name: "batch"})
    assert list(adata.obs) == columns


@pytest.mark.parametrize(
    ("name", "meant"),
    [("n_clusters", "n_components"), ("resolution", "n_effective"), ("n_latnt", "n_latent")],
)
def test_an_unknown_argument_of_the_model_names_the_one_that_was_meant(
    adata: AnnData, name: str, meant: str
) -> None:
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    with pytest.raises(TypeError, match=rf"`SCVI_VMM` has no argument `{name}`. Did you mean `{meant}`"):
        SCVI_VMM(adata, **{name: 10})
    with pytest.raises(TypeError, match=r"no argument `zzz`. Its arguments are .*'n_latent'"):
        SCVI_VMM(adata, zzz=10)
    SCVI_VMM(adata, fast_likelihood=False, log_variational=True)  # arguments of the module are known


@pytest.mark.parametrize(
    ("name", "meant"),
    [("epochs", "max_epochs"), ("resolution", "n_effective"), ("early_stoping", "early_stopping")],
)
@pytest.mark.parametrize("model_class", [SCVI_VMM, LinearSCVI_VMM], ids=["SCVI_VMM", "LinearSCVI_VMM"])
def test_an_unknown_argument_of_training_names_the_one_that_was_meant(
    adata: AnnData, model_class: Any, name: str, meant: str
) -> None:
    model_class.setup_anndata(adata)
    model = model_class(adata)
    with pytest.raises(TypeError, match=rf"`train` has no argument `{name}`. Did you mean `{meant}`"):
        model.train(**{name: 3})
    assert not model.is_trained


@pytest.mark.parametrize("model_class", [PEAKVI_VMM, TOTALVI_VMM], ids=["PEAKVI_VMM", "TOTALVI_VMM"])
def test_unknown_arguments_are_answered_by_other_models_too(model_class: Any) -> None:
    adata = simulate_cite(n_cells=60, n_genes=40, seed=0)
    setup = {"protein_expression_obsm_key": "protein"} if model_class is TOTALVI_VMM else {}
    with pytest.raises(TypeError, match=r"`setup_anndata` has no argument `batch`. Did you mean `batch_key`"):
        model_class.setup_anndata(adata, batch="batch", **setup)
    model_class.setup_anndata(adata, **setup)
    with pytest.raises(TypeError, match=f"`{model_class.__name__}` has no argument `n_clusters`. Did you"):
        model_class(adata, n_clusters=3)


@pytest.mark.parametrize("argument", ["categorical_covariate_keys", "continuous_covariate_keys"])
def test_a_list_of_columns_may_not_be_a_string(adata: AnnData, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"`{argument}` must be a list of columns, .* pass \['stress'\]"):
        SCVI_VMM.setup_anndata(adata, **{argument: "stress"})


def as_setup(argument: str) -> dict[str, Any]:
    return {argument: ["donor"] if argument.endswith("keys") and argument != "labels_key" else "donor"}


ARGUMENTS = ("batch_key", "labels_key", "categorical_covariate_keys")


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("missing", [np.nan, None])
def test_categories_without_a_value_are_counted(adata: AnnData, argument: str, missing: Any) -> None:
    adata.obs["donor"] = adata.obs["donor"].astype(object)
    adata.obs.iloc[:3, adata.obs.columns.get_loc("donor")] = missing
    with pytest.raises(ValueError, match=rf"`{argument}`: 'donor' has no value \(NaN\) for 3 of 300 cells"):
        SCVI_VMM.setup_anndata(adata, **as_setup(argument))


def test_labels_without_a_value_are_pointed_to_the_unlabeled_category(adata: AnnData) -> None:
    adata.obs["donor"] = adata.obs["donor"].where(np.arange(300) > 2)
    with pytest.raises(ValueError, match="unlabeled_category='unknown'"):
        SCVI_VMM.setup_anndata(adata, labels_key="donor")


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_text_and_numbers_in_one_column_are_named(adata: AnnData, argument: str) -> None:
    adata.obs["donor"] = [1 if i % 2 else "anna" for i in range(300)]
    with pytest.raises(ValueError, match=rf"`{argument}`: 'donor' mixes text and numbers .*'anna' and 1"):
        SCVI_VMM.setup_anndata(adata, **as_setup(argument))


def test_one_cell_cannot_be_trained_on_but_can_be_predicted(adata: AnnData, trained: Any) -> None:
    with pytest.raises(ValueError, match="at least two cells to train on, found 1"):
        SCVI_VMM.setup_anndata(adata[:1].copy(), batch_key="batch")
    assert len(trained().predict(adata[:1].copy())) == 1


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("layer", [None, "raw"])
@pytest.mark.filterwarnings("ignore:Training will be faster")
def test_sparse_arrays_are_read_as_sparse_matrices(
    counts: AnnData, make_model: Make, short_training: dict[str, Any], make: Any, layer: str | None
) -> None:
    embeddings = []
    for form in (sp.csr_matrix, make):
        scvi.settings.seed = 0
        adata = counts.copy()
        adata.layers["raw"] = form(counts.X)
        if layer is None:
            adata.X = form(counts.X)
        model = make_model(adata, setup={"batch_key": "batch", "layer": layer})
        model.train(**short_training)
        new = counts.copy()
        new.layers["raw"] = form(counts.X)
        if layer is None:
            new.X = form(counts.X)
        embeddings.append(model.get_latent_representation(new))
        np.testing.assert_array_equal(model.get_latent_representation(), embeddings[-1])
    np.testing.assert_allclose(*embeddings, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda x: np.log1p(x), "fractional"),
        (lambda x: x - x.mean(0), "negative"),
    ],
)
@pytest.mark.parametrize("layer", [None, "scaled"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_values_that_are_not_counts_are_found_at_setup(
    adata: AnnData, spoil: Any, found: str, layer: str | None, form: Any
) -> None:
    values = form(spoil(adata.X.toarray()))
    if layer is None:
        adata.X = values
    else:
        adata.layers[layer] = values
    with pytest.warns(UserWarning) as caught:
        SCVI_VMM.setup_anndata(adata, layer=layer)
    where = "`adata.X`" if layer is None else "`adata.layers['scaled']`"
    (message,) = [str(w.message) for w in caught if "raw counts" in str(w.message).lower()]
    assert message.startswith(f"{where} has {found} values (for example ")
    assert not [w for w in caught if "unnormalized" in str(w.message)]


def test_counts_are_registered_without_a_word(adata: AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        SCVI_VMM.setup_anndata(adata, batch_key="batch")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"group1": "type9"}, r"`group1`: 'type9' is not a group of `adata.obs\['cell_type'\]`, .*'type0'"),
        ({"group1": "type0", "group2": "tpye1"}, "`group2`: 'tpye1' is not a group"),
        ({"group1": "type0", "group2": "rest"}, "'rest' is not a group .* Leave `group2` out"),
        ({"groupby": "celltype", "group1": "type0"}, "`groupby`: 'celltype' is not a column"),
    ],
)
def test_an_unknown_group_is_named_with_those_that_are_there(
    trained: Any, given: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        trained().differential_expression(**{"groupby": "cell_type", **given})


def test_a_number_as_text_for_a_group_says_which_type_groups_have(make_model: Make, adata: AnnData) -> None:
    adata.obs["number"] = np.arange(300) % 2
    model = make_model(adata)
    with pytest.raises(ValueError, match="groups are int, not str"):
        model.differential_expression(groupby="number", group1="1")


def test_known_groups_are_compared(trained: Any) -> None:
    options = {"mode": "change", "silent": True}
    model = trained()
    assert len(model.differential_expression(groupby="cell_type", group1="type0", **options)) == 100
    several = model.differential_expression(groupby="cell_type", group1=["type0", "type1"], **options)
    assert len(several) == 200
    cells = {"idx1": list(range(100)), "idx2": list(range(100, 200))}
    assert len(model.differential_expression(**cells, **options)) == 100
