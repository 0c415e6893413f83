"""How these models were made: ``python make.py FOLDER``, with version 0.1.0 installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import scvi
import torch
from anndata import AnnData

from vmmscvi import SCVI_VMM

COVARIATES = {"batch_key": "batch", "continuous_covariate_keys": ["stress"]}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "found": (COVARIATES, {}, {"start": "embedding", "n_warmup_epochs": 30}),
    "drawn": (
        {**COVARIATES, "categorical_covariate_keys": ["donor"]},
        {"batch_representation": "embedding", "pseudo_input_space": "counts"},
        {"start": "cells"},
    ),
}
TRAINING = {"max_epochs": 60, "accelerator": "cpu", "batch_size": 16, "enable_progress_bar": False}


def make_cells() -> AnnData:
    rng = np.random.default_rng(0)
    mean = rng.gamma(1.0, 4.0, (3, 12)) + 0.5
    counts = rng.poisson(mean[np.repeat(range(3), 20)]).astype(np.float32)
    counts[:, 0] += 1
    obs = {
        "batch": np.array(["a", "b"])[np.arange(60) % 2],
        "donor": np.array(["x", "y", "z"])[np.arange(60) % 3],
        "stress": rng.normal(size=60),
    }
    return AnnData(counts, obs=obs)


def describe(model: SCVI_VMM) -> dict[str, np.ndarray]:
    with torch.no_grad():
        centers = model.module.encode_pseudo_inputs()
    return {
        "latent": model.get_latent_representation(),
        "probabilities": model.get_cluster_probabilities().to_numpy(),
        "density": model.get_prior_log_density().to_numpy(),
        "clusters": model.predict().to_numpy().astype("U4"),
        "centers": model.get_cluster_centers().to_numpy(),
        "encoded": np.stack((centers.loc.numpy(), centers.scale.numpy())),
    }


def main(folder: Path) -> None:
    expected = {}
    for name, (setup, options, training) in SETTINGS.items():
        scvi.settings.seed = 0
        adata = make_cells()
        SCVI_VMM.setup_anndata(adata, **setup)
        model = SCVI_VMM(adata, n_components=5, n_hidden=8, n_latent=2, **options)
        model.train(**TRAINING, lr=1e-2, **training)
        model.history_ = {"elbo_train": model.history_["elbo_train"]}  # small files
        model.save(folder / name, overwrite=True)
        expected[name] = describe(model)
        if name == "found":
            query = make_cells()
            query.obs["batch"] = "c"
            mapped = SCVI_VMM.load_query_data(query, model)
            mapped.train(**{**TRAINING, "max_epochs": 2})
            mapped.history_ = {"elbo_train": mapped.history_["elbo_train"]}
            mapped.save(folder / "query", overwrite=True)
            expected["query"] = describe(mapped)
    arrays = {f"{name}/{key}": value for name, found in expected.items() for key, value in found.items()}
    np.savez_compressed(folder / "expected.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
