"""Arguments of models' constructors reach the module: none is dropped for a default."""

from __future__ import annotations

import inspect
from typing import Any

import mudata
import pytest
from anndata import AnnData

import vmmscvi
from vmmscvi.data import simulate_cite, simulate_peaks

OTHERS: dict[str, Any] = {
    "n_hidden": 7,
    "n_latent": 3,
    "n_layers": 2,
    "n_layers_encoder": 3,
    "n_layers_decoder": 4,
    "dropout_rate": 0.3,
    "dispersion": "gene-batch",
    "gene_dispersion": "gene-batch",
    "protein_dispersion": "protein-batch",
    "use_batch_norm": "decoder",
    "use_layer_norm": "encoder",
    "modality_weights": "universal",
    "modality_penalty": "MMD",
    "pseudo_input_space": "counts",
    "prior": "gmm",
    "n_components": 5,
    "inference": "MAP",
    "wishart_scale": "half",
    "responsibilities_in_gradient": True,
    "region_factors": False,
    "model_depth": False,
    "use_observed_lib_size": False,
}
"""Values that are nobody's default."""
OF_MODELS = {"self", "adata", "registry", "model_kwargs", "kwargs", "n_genes", "n_regions"} | {
    "empirical_protein_background_prior",
    "override_missing_proteins",
}
"""What is not the module's."""


class Reached(Exception):
    """The module's constructor was called."""


def counts() -> AnnData:
    return simulate_cite(n_cells=120, n_genes=20, n_types=4, n_proteins=8, n_batches=2, seed=0)


def peaks() -> AnnData:
    return simulate_peaks(n_cells=100, n_peaks=60, n_types=2, n_batches=2, seed=0)


def multiome() -> mudata.MuData:
    parts = {"rna": peaks(), "atac": peaks()}
    parts["atac"].var_names = [f"peak{i}" for i in range(60)]
    return mudata.MuData(parts)


MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "SCVI": (vmmscvi.SCVI_VMM, counts, {}),
    "LinearSCVI": (vmmscvi.LinearSCVI_VMM, counts, {}),
    "TOTALVI": (vmmscvi.TOTALVI_VMM, counts, {"protein_expression_obsm_key": "protein"}),
    "PEAKVI": (vmmscvi.PEAKVI_VMM, peaks, {}),
    "POISSONVI": (vmmscvi.POISSONVI_VMM, peaks, {}),
    "MULTIVI": (vmmscvi.MULTIVI_VMM, multiome, {}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "TOTALVI": {"empirical_protein_background_prior": False},
    "MULTIVI": {"n_genes": 60, "n_regions": 60},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_argument_of_a_model_reaches_its_module(name: str) -> None:
    parent, make, setup = MODELS[name]
    data = make()
    found: dict[str, Any] = {}

    class Recorder(parent._module_cls):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            found.update(kwargs)
            raise Reached

    class Model(parent):  # type: ignore[misc]
        _module_cls = Recorder

    cls: Any = Model
    if name == "MULTIVI":
        modalities = {"rna_layer": "rna", "atac_layer": "atac", "batch_key": "rna"}
        cls.setup_mudata(data, batch_key="batch", modalities=modalities)
    else:
        cls.setup_anndata(data, batch_key="batch", **setup)
    parameters = inspect.signature(parent.__init__).parameters
    given = {}
    for argument in set(parameters) - OF_MODELS:
        default = parameters[argument].default
        if argument in ("encode_covariates", "use_observed_lib_size"):
            given[argument] = not default
        elif argument == "gene_likelihood":
            given[argument] = "nb" if default == "zinb" else "zinb"
        else:
            given[argument] = OTHERS[argument]
        assert given[argument] != default, argument
    with pytest.raises(Reached):
        cls(data, **given, **OPTIONS.get(name, {}))
    if name == "LinearSCVI":  # whose decoder has no layers
        found["n_layers"] = found["n_layers_encoder"]
    assert {argument: found.get(argument) for argument in given} == given
