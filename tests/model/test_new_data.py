"""New data are read as the training data were: gene by gene, batch by batch; what cannot be is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from scvi.model import SCVI

from vmmscvi import SCVI_VMM
from vmmscvi.dataloaders import StreamedCounts

Make = Callable[..., SCVI_VMM]
ONE_EPOCH: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def model(make_model: Make, short_training: dict[str, Any]) -> SCVI_VMM:
    """A trained model that may be changed."""
    model = make_model()
    model.train(**short_training)
    return model


@pytest.fixture
def shuffled(counts: AnnData) -> AnnData:
    """The training cells with their genes in another order."""
    return counts[:, np.random.default_rng(0).permutation(counts.n_vars)].copy()


METHODS: dict[str, Callable[[SCVI_VMM, AnnData], Any]] = {
    "predict": lambda m, a: m.predict(a).astype(int),
    "get_cluster_probabilities": lambda m, a: m.get_cluster_probabilities(a),
    "get_prior_log_density": lambda m, a: m.get_prior_log_density(a),
    "get_novelty_score": lambda m, a: m.get_novelty_score(a),
    "get_latent_representation": lambda m, a: m.get_latent_representation(a),
    "get_reconstruction_error": lambda m, a: float(m.get_reconstruction_error(a)["reconstruction_loss"]),
    "get_normalized_expression": lambda m, a: m.get_normalized_expression(a, gene_list=["gene3"]),
    "get_cluster_tree": lambda m, a: m.get_cluster_tree(a).assignments.cat.codes,
}


@pytest.mark.parametrize("name", METHODS)
def test_genes_in_another_order_give_the_same_as_in_the_models(
    model: SCVI_VMM, counts: AnnData, shuffled: AnnData, name: str, seed: None
) -> None:
    torch.manual_seed(3)
    expected = METHODS[name](model, counts.copy())
    torch.manual_seed(3)
    np.testing.assert_array_equal(METHODS[name](model, shuffled), expected)


def test_the_users_data_keep_their_order_and_a_warning_is_logged(
    model: SCVI_VMM, shuffled: AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    genes, values = list(shuffled.var_names), shuffled.X.copy()
    with caplog.at_level(logging.WARNING, logger="vmmscvi"):
        model.predict(shuffled)
    assert "100 genes in another order" in caplog.text
    assert list(shuffled.var_names) == genes and (shuffled.X != values).nnz == 0


def test_counts_that_change_between_two_calls_are_read_again(model: SCVI_VMM, shuffled: AnnData) -> None:
    before = model.get_latent_representation(shuffled)
    shuffled.X = shuffled.X * 3
    assert not np.allclose(model.get_latent_representation(shuffled), before)


def test_one_reordered_copy_is_kept_at_most(model: SCVI_VMM, shuffled: AnnData) -> None:
    for _ in range(4):
        model.predict(shuffled)
    assert len(SCVI_VMM._per_instance_manager_store[model.id]) == 2  # the training data, and one


def test_loading_with_genes_in_another_order(
    model: SCVI_VMM, counts: AnnData, shuffled: AnnData, tmp_path: Path
) -> None:
    expected = model.get_latent_representation()
    model.save(str(tmp_path / "m"))
    loaded = SCVI_VMM.load(str(tmp_path / "m"), adata=shuffled)
    np.testing.assert_array_equal(loaded.get_latent_representation(), expected)
    assert list(loaded.adata.var_names) == list(counts.var_names)


@pytest.mark.filterwarnings("ignore:Save path contains no saved anndata")
def test_a_model_loaded_without_data_orders_genes(model: SCVI_VMM, shuffled: AnnData, tmp_path: Path) -> None:
    expected = model.get_latent_representation()
    model.save(str(tmp_path / "m"))
    loaded = SCVI_VMM.load(str(tmp_path / "m"))
    np.testing.assert_array_equal(loaded.get_latent_representation(shuffled), expected)


@pytest.mark.parametrize("saved", [False, True])
def test_a_query_with_genes_in_another_order(
    model: SCVI_VMM, counts: AnnData, shuffled: AnnData, tmp_path: Path, saved: bool
) -> None:
    reference: Any = model
    if saved:
        model.save(str(tmp_path / "m"))
        reference = str(tmp_path / "m")
    found = SCVI_VMM.load_query_data(shuffled, reference)
    expected = SCVI_VMM.load_query_data(counts.copy(), reference)
    found.is_trained_ = expected.is_trained_ = True
    np.testing.assert_array_equal(found.get_latent_representation(), expected.get_latent_representation())


def test_networks_of_scvi_with_genes_in_another_order(counts: AnnData, shuffled: AnnData) -> None:
    adata = counts.copy()
    SCVI.setup_anndata(adata, batch_key="batch")
    scvi_model = SCVI(adata, n_hidden=16, n_latent=4)
    scvi_model.train(**ONE_EPOCH)
    found = SCVI_VMM.from_scvi_model(scvi_model, shuffled)
    assert list(found.adata.var_names) == list(counts.var_names)


def test_other_genes_are_counted_and_the_remedy_named(model: SCVI_VMM, counts: AnnData) -> None:
    other = counts.copy()
    other.var_names = [*counts.var_names[:70], *(f"ENSG{i}" for i in range(30))]
    message = r"30 of the model's 100 genes are missing.*30 of the 100 genes.*prepare_query_anndata"
    for use in (model.predict, model.get_latent_representation, model.get_elbo):
        with pytest.raises(ValueError, match=message):
            use(other)


@pytest.mark.parametrize("kind", ["load", "load_query_data"])
def test_other_genes_are_refused_when_loading(
    model: SCVI_VMM, counts: AnnData, tmp_path: Path, kind: str
) -> None:
    other = counts.copy()
    other.var_names = [f"ENSG{i}" for i in range(100)]
    model.save(str(tmp_path / "m"))
    with pytest.raises(ValueError, match=r"100 of the model's 100 genes are missing.*prepare_query_anndata"):
        if kind == "load":
            SCVI_VMM.load(str(tmp_path / "m"), adata=other)
        else:
            SCVI_VMM.load_query_data(other, str(tmp_path / "m"))


def test_genes_that_were_renamed_after_training_are_known_by_both_names(
    model: SCVI_VMM, counts: AnnData
) -> None:
    expected = model.predict().astype(int)
    model.adata.var_names = [f"symbol{i}" for i in range(100)]
    new = counts.copy()
    np.testing.assert_array_equal(model.predict(new).astype(int), expected)
    new = counts.copy()
    new.var_names = model.adata.var_names
    np.testing.assert_array_equal(model.predict(new).astype(int), expected)


def test_genes_of_one_name_are_no_error_where_the_order_is_the_same(
    counts: AnnData, make_model: Make, short_training: dict[str, Any]
) -> None:
    names = ["gene1", *counts.var_names[1:]]
    adata, new = counts.copy(), counts.copy()
    adata.var_names, new.var_names = names, names
    model = make_model(adata)
    model.train(**short_training)
    np.testing.assert_array_equal(model.predict(new).astype(int), model.predict().astype(int))
    with pytest.raises(ValueError, match="more than once"):
        model.predict(new[:, ::-1].copy())


def test_streamed_counts_of_other_genes_are_refused(
    model: SCVI_VMM, shuffled: AnnData, counts: AnnData, tmp_path: Path
) -> None:
    counts.write_h5ad(tmp_path / "same.h5ad")
    shuffled.write_h5ad(tmp_path / "shuffled.h5ad")
    same = StreamedCounts(tmp_path / "same.h5ad", batch_key="batch")
    assert len(model.predict(dataloader=same.inference_dataloader())) == 300
    other = StreamedCounts(tmp_path / "shuffled.h5ad", batch_key="batch")
    with pytest.raises(ValueError, match="`dataloader` has the model's 100 genes in another order"):
        model.predict(dataloader=other.inference_dataloader())


# -- batches -------------------------------------------------------------------------------------------------


def rename(adata: AnnData) -> None:
    adata.obs["batch"] = adata.obs["batch"].astype("category").cat.rename_categories(["ctrl", "stim"])


def overwrite(adata: AnnData) -> None:
    adata.obs["batch"] = "all"


def delete(adata: AnnData) -> None:
    del adata.obs["batch"]


@pytest.mark.parametrize("change", [rename, overwrite, delete])
@pytest.mark.parametrize("minified", [False, True])
def test_later_changes_of_the_batch_column_have_no_effect(
    model: SCVI_VMM, change: Callable[[AnnData], None], minified: bool
) -> None:
    if minified:
        model.adata.obsm["q_m"], model.adata.obsm["q_v"] = model.get_latent_representation(return_dist=True)
        model.minify_adata(use_latent_qzm_key="q_m", use_latent_qzv_key="q_v")
    before = model.get_latent_representation()
    change(model.adata)
    np.testing.assert_array_equal(model.get_latent_representation(model.adata), before)
    table = model.differential_expression(
        groupby="cell_type", group1="type0", group2="type1", mode="change", silent=True
    )
    assert len(table) == 100
    assert model.differential_abundance(sample_key="cell_type") is None
    assert model.predict(model.adata).index.equals(model.adata.obs_names)


def test_renamed_batches_of_data_that_two_models_share(counts: AnnData, make_model: Make) -> None:
    adata = counts.copy()
    adata.obs["batch"] = adata.obs["batch"].astype("category")
    model = make_model(adata)
    model.train(**ONE_EPOCH)
    before = model.get_latent_representation()
    SCVI.setup_anndata(adata, batch_key="batch")
    rename(adata)
    np.testing.assert_array_equal(model.get_latent_representation(), before)
    np.testing.assert_array_equal(model.get_latent_representation(adata), before)


def test_numbers_converted_to_text_are_distinguished_from_unknown_batches(
    make_model: Make, adata: AnnData
) -> None:
    adata.obs["batch"] = (adata.obs["batch"] == "batch0").astype(int) + 1
    model = make_model(adata)
    model.train(**ONE_EPOCH)
    new = adata.copy()
    new.obs["batch"] = new.obs["batch"].astype(str)
    message = r"another type than the training data: found '1' \(str\), expected 1 \(int\).*\.astype\(int\)"
    with pytest.raises(ValueError, match=message):
        model.predict(new)
    with pytest.raises(ValueError, match=message):  # else two batches would be four, without a word
        SCVI_VMM.load_query_data(new, model)


@pytest.mark.parametrize("kind", ["labels", "categories"])
def test_unknown_labels_and_categories_are_named_with_those_that_are_known(
    make_model: Make, adata: AnnData, kind: str
) -> None:
    setup = {"labels_key": "donor"} if kind == "labels" else {"categorical_covariate_keys": ["donor"]}
    model = make_model(adata, setup={"batch_key": "batch", **setup})
    model.train(**ONE_EPOCH)
    new = adata.copy()
    new.obs["donor"] = ["zoe", *adata.obs["donor"][1:]]
    with pytest.raises(
        ValueError, match=rf"obs\['donor'\]` has {kind} .*\['zoe'\]; it knows \['anna', 'ben', 'carl'\]"
    ):
        model.predict(new)


def test_loading_with_an_unknown_batch_names_it(model: SCVI_VMM, counts: AnnData, tmp_path: Path) -> None:
    model.save(str(tmp_path / "m"))
    new = counts.copy()
    new.obs["batch"] = "lab9"
    with pytest.raises(ValueError, match=r"batches that the model was not trained with: \['lab9'\]"):
        SCVI_VMM.load(str(tmp_path / "m"), adata=new)
