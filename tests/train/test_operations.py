"""What a training step dispatches does not grow: kernels, and copies to the host, which wait for a device."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from anndata import AnnData

from vmmscvi.data import simulate_counts

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the scripts are not in the distribution")

N_CELLS = 3413  # 24 minibatches of 128 training cells: the prior takes 3 steps an epoch
# kernels and copies a step, on average over an epoch and its end; six copies are those of `one_hot`, which
# checks its codes on a CPU only
BOUNDS = {
    "N(0, I)": (270, 6.6),
    "VMM": (340, 6.1),
    "VMM, device paths": (291, 6.1),
}


@pytest.fixture(scope="module")
def scripts() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    import count_operations

    yield count_operations
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def counts() -> AnnData:
    return simulate_counts(n_cells=N_CELLS, n_genes=60, n_types=4, n_batches=2, seed=0)


@pytest.fixture(scope="module")
def counted(scripts: ModuleType, counts: AnnData) -> Any:
    @cache
    def count(name: str) -> Any:
        sizes = {} if "stock" in name else {"n_components": 12}
        found, _ = scripts.count(counts, **sizes, **scripts.MODELS[name])
        return found

    return count


@pytest.mark.parametrize("name", BOUNDS)
def test_a_step_dispatches_no_more_than_it_did(counted: Any, name: str) -> None:
    found = counted(name)
    kernels, host_copies = BOUNDS[name]
    assert found.kernels <= kernels and found.host_copies <= host_copies, found
    assert found.kernels > 0.9 * kernels, f"{found}: lower the bound"


def test_a_device_is_given_a_tenth_more_kernels_than_by_stock_scvi_at_most(counted: Any) -> None:
    stock, ours = counted("stock scVI, fused Adam"), counted("VMM, device paths")
    assert ours.kernels <= 1.1 * stock.kernels
    assert ours.host_copies < stock.host_copies
