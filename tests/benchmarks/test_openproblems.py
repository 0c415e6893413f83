"""The component for Open Problems, built by viash, runs and writes the output that the task requires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from anndata import AnnData, read_h5ad

COMPONENT = Path(__file__).parents[2] / "benchmarks" / "openproblems" / "scvi_vmm"


def as_viash_runs_it(par: dict[str, Any], meta: dict[str, Any]) -> None:
    """Run the script with other parameters in the place that viash replaces."""
    head, rest = (COMPONENT / "script.py").read_text().split("## VIASH START")
    tail = rest.split("## VIASH END")[1]
    exec(compile(f"{head}par = {par!r}\nmeta = {meta!r}\n{tail}", "script.py", "exec"), {})


def test_the_script_takes_the_arguments_of_the_config_and_writes_an_embedding(
    adata: AnnData, tmp_path: Path
) -> None:
    config = yaml.safe_load((COMPONENT / "config.vsh.yaml").read_text())
    par = {argument["name"].lstrip("-"): argument.get("default") for argument in config["arguments"]}
    par |= {
        "input": str(tmp_path / "in.h5ad"),
        "output": str(tmp_path / "out.h5ad"),
        "n_hvg": 40,
        "max_epochs": 2,
    }
    adata.layers["counts"] = adata.X.copy()
    adata.var["hvg_score"] = np.arange(adata.n_vars)
    adata.uns = {"dataset_id": "simulated", "normalization_id": "log_cp10k"}
    adata.varm.clear()
    adata.write_h5ad(par["input"])
    as_viash_runs_it(par, {"name": config["name"]})
    found = read_h5ad(par["output"])
    assert found.obsm["X_emb"].shape == (adata.n_obs, par["n_latent"])
    assert list(found.obs_names) == list(adata.obs_names)
    assert set(found.var_names) == set(adata.var_names[-40:])
    assert dict(found.uns) == {**adata.uns, "method_id": "scvi_vmm"}
