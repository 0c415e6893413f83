"""What a training step dispatches does not grow: kernels, and copies to the host, which wait for a device."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vmmscvi.data import simulate_counts

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the scripts are not in the distribution")

# kernels and copies a step, on average over an epoch of five steps and its end; two copies for each set of
# one-hot codes are made on a CPU only
BOUNDS = {
    "N(0, I)": (282, 7.0),
    "VMM": (502, 10.0),
    "VMM, device paths": (450, 10.0),
}


@pytest.fixture(scope="module")
def scripts() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    import count_operations

    yield count_operations
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("name", BOUNDS)
def test_a_step_dispatches_no_more_than_it_did(scripts: ModuleType, name: str) -> None:
    adata = simulate_counts(n_cells=700, n_genes=60, n_types=4, n_batches=2, seed=0)
    found, _ = scripts.count(adata, start="cells", n_components=12, **scripts.MODELS[name])
    kernels, host_copies = BOUNDS[name]
    assert found.kernels <= kernels and found.host_copies <= host_copies, found
    assert found.kernels > 0.8 * kernels, f"{found}: lower the bound"
