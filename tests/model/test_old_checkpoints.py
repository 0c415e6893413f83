"""Models saved by version 0.1.0 give the same results today."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi

from vmmscvi import SCVI_VMM
from vmmscvi.priors import PriorState

FOLDER = Path(__file__).parent / "checkpoint_0_1_0"
MAKE = runpy.run_path(str(FOLDER / "make.py"))
EXPECTED = np.load(FOLDER / "expected.npz")


def load(name: str) -> SCVI_VMM:
    adata = MAKE["make_cells"]()
    if name == "query":
        adata.obs["batch"] = "c"
    return SCVI_VMM.load(FOLDER / name, adata=adata)


@pytest.mark.parametrize("name", ["found", "drawn", "query"])
def test_predictions_densities_and_positions_are_those_of_version_0_1_0(name: str) -> None:
    found: dict[str, Any] = MAKE["describe"](load(name))
    assert {f"{name}/{key}" for key in found} == {key for key in EXPECTED if key.startswith(f"{name}/")}
    for key, value in found.items():
        expected = EXPECTED[f"{name}/{key}"]
        if key == "clusters":
            np.testing.assert_array_equal(value, expected)
        else:
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize(
    ("name", "state", "n_components", "n_effective"),
    [
        ("found", PriorState.FITTED, 3, 54),
        ("drawn", PriorState.FITTED, 5, None),
        ("query", PriorState.FROZEN, 3, 54),
    ],
)
def test_the_state_of_the_fit_is_restored(
    name: str, state: PriorState, n_components: int, n_effective: float | None
) -> None:
    module = load(name).module
    prior = module.latent_prior
    assert module.prior is prior, "its name in 0.1"
    assert (prior.state, prior.n_components, prior.n_effective) == (state, n_components, n_effective)


@pytest.mark.parametrize("name", ["found", "drawn", "query"])
def test_an_old_model_trains_on_and_is_saved_as_a_new_one(name: str, tmp_path: Path) -> None:
    model = load(name)
    before = model.get_cluster_weights()
    model.train(**{**MAKE["TRAINING"], "max_epochs": 1})
    assert len(model.history["elbo_train"]) == (3 if name == "query" else 61)
    assert len(model.trainer.optimizers) == (1 if name == "query" else 2)
    assert np.array_equal(model.get_cluster_weights(), before) is (name == "query")
    scvi.settings.seed = 0
    model.save(tmp_path / "model")
    again = SCVI_VMM.load(tmp_path / "model", adata=model.adata)
    np.testing.assert_array_equal(again.get_cluster_probabilities(), model.get_cluster_probabilities())
