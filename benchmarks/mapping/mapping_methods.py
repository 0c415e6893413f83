"""The models that are compared: a reference is trained once and kept; a query is mapped into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SCARCHES = {
    "encode_covariates": True,
    "deeply_inject_covariates": False,
    "use_layer_norm": "both",
    "use_batch_norm": "none",
    "dropout_rate": 0.2,
    "n_layers": 2,
}
"""What scvi-tools' tutorial of scArches advises."""

STOCK = {"scVI": {}, "scVI, scArches": SCARCHES}
METHODS = ("VMM", *STOCK)


def trained(method: str, reference: ad.AnnData, epochs: int | None, folder: Path) -> Any:
    """Return the trained reference, from ``folder`` if it was kept there."""
    cls = _class_of(method)
    if (folder / "model.pt").exists():
        return cls.load(str(folder), reference, accelerator="cpu")
    cls.setup_anndata(reference, batch_key="batch")
    model = cls(reference, **STOCK.get(method, {}))
    model.train(max_epochs=epochs, **QUIET)
    model.save(str(folder), overwrite=True)
    return model


def loaded_query(method: str, query: ad.AnnData, reference_model: Any) -> Any:
    """Return the query before any training."""
    return _class_of(method).load_query_data(query.copy(), reference_model)


def map_query(method: str, model: Any, epochs: int | None) -> None:
    """Train on the query, with defaults; stock scVI as scArches' tutorial does."""
    more: dict[str, Any] = {}
    if method != "VMM":
        more = {"plan_kwargs": {"weight_decay": 0.0}}
    model.train(max_epochs=epochs, **more, **QUIET)


def _class_of(method: str) -> Any:
    if method == "VMM":
        from vmmscvi import SCVI_VMM

        return SCVI_VMM
    from scvi.model import SCVI

    return SCVI
