"""scvi-tools' hyper-parameter search over our arguments, with a scIB metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scvi
from anndata import AnnData

from vmmscvi import SCVI_VMM

pytestmark = pytest.mark.slow


def test_a_search_over_the_priors_arguments_ranks_by_a_scib_metric(adata: AnnData, tmp_path: Path) -> None:
    for package in ("ray", "hyperopt", "scib_metrics"):
        pytest.importorskip(package, reason=f"needs {package}")
    from ray import tune
    from scvi.autotune import run_autotune

    scvi.settings.logging_dir = str(tmp_path)
    SCVI_VMM.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    choices = {"n_latent": [3, 5], "prior_lr_ratio": [1.0, 5.0], "n_effective": [200.0, 1000.0]}
    experiment = run_autotune(
        SCVI_VMM,
        adata,
        metrics=["Total"],
        mode="max",
        search_space={
            "model_params": {
                "n_latent": tune.choice(choices["n_latent"]),
                "n_components": tune.choice([10]),
                "n_hidden": 16,
            },
            "train_params": {
                "prior_lr_ratio": tune.choice(choices["prior_lr_ratio"]),
                "n_effective": tune.choice(choices["n_effective"]),
                "max_epochs": 4,
                "batch_size": 64,
            },
        },
        num_samples=2,
        scib_subsample_rows=100,
        seed=0,
        scheduler="fifo",
        searcher="hyperopt",
        resources={"cpu": 1},
        solver="randomized",  # what scvi-tools hands scib-metrics has no expression, and ARPACK no start
        ignore_reinit_error=True,
    )
    results = [result for result in experiment.result_grid]
    assert len(results) == 2 and not any(result.error for result in results)
    totals = [result.metrics["Total"] for result in results]
    assert np.isfinite(totals).all() and all(0.0 < total < 1.0 for total in totals)
    for result in results:
        assert result.config["model_params"]["n_latent"] in choices["n_latent"]
        for name in ("prior_lr_ratio", "n_effective"):
            assert result.config["train_params"][name] in choices[name]
    assert experiment.result_grid.get_best_result("Total", "max").metrics["Total"] == max(totals)
