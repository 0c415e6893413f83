"""Labels in the prior of every model that can register them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi

from vmmscvi.model import PEAKVI_VMM, POISSONVI_VMM, SCVI_VMM, TOTALVI_VMM, LinearSCVI_VMM

Case = Any
BY_BATCH = (LinearSCVI_VMM, PEAKVI_VMM, POISSONVI_VMM, SCVI_VMM)
LABELS = {"labels_key": "known"}


def labelled(case: Case) -> Any:
    """Data in which every third cell has no label."""
    data = case.make_data()
    types = data.obs["cell_type"].to_numpy(str)
    data.obs["known"] = np.where(np.arange(data.n_obs) % 3 == 0, "unknown", types)
    return data


def register(case: Case, data: Any) -> bool:
    """Register data with their labels, if the model can."""
    if case.stock is scvi.model.TOTALVI:
        assert case.ours is TOTALVI_VMM
        case.ours.setup_anndata(data, "protein", batch_key="batch", **LABELS)
    elif case.ours in BY_BATCH or case.stock in (scvi.model.AUTOZI, scvi.external.CYTOVI):
        case.ours.setup_anndata(data, batch_key="batch", **LABELS)
    elif case.stock is scvi.external.SCAR:
        case.ours.setup_anndata(data, **LABELS)
    else:
        return False
    return True


def test_labels_are_predicted_saved_and_given_to_queries(
    case: Case, training: dict[str, Any], tmp_path: Path
) -> None:
    if case.stock is scvi.model.MULTIVI:
        pytest.skip("scvi-tools registers no labels in MuData")
    data = labelled(case)
    if not register(case, data):
        model = case.model()
        with pytest.raises(ValueError, match="needs labels"):
            model.train(**training, start="labels")
        return
    scvi.settings.seed = 0
    model = case.ours(data, **{**case.small, "n_latent": 3, "n_components": 8})
    model.train(**training, start="labels", unlabeled_category="unknown")
    soft = model.predict_labels(soft=True)
    np.testing.assert_allclose(soft.sum(1), 1.0, rtol=1e-4)
    types = set(data.obs["known"]) - {"unknown"}
    assert types <= set(soft) and all(name.startswith("new ") for name in set(soft) - types)
    doubt = model.get_label_disagreement()
    assert (doubt.isna() == (data.obs["known"] == "unknown")).all() and doubt.dropna().between(0, 1).all()
    model.save(tmp_path / "model", save_anndata=False)
    loaded = case.ours.load(tmp_path / "model", adata=labelled(case), accelerator="cpu")
    np.testing.assert_allclose(loaded.predict_labels(soft=True), soft, rtol=1e-4, atol=1e-5)
    if case.can_query:
        query = labelled(case)[:100].copy()
        query.obs["batch"], query.obs["known"] = "later", "unknown"
        mapped = case.ours.load_query_data(query, str(tmp_path / "model"), accelerator="cpu")
        mapped.train(max_epochs=1, batch_size=32, accelerator="cpu", enable_progress_bar=False)
        assert list(mapped.predict_labels(soft=True)) == list(soft)
