"""Scripts that make the documented timings run in their short form; how long anything takes is not tested."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
SMALL = ["--n-cells", "300", "--n-genes", "60", "--rounds", "1", "--epochs", "1"]

pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="the scripts are not in the distribution")


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        check=True, capture_output=True, text=True, env=environment, timeout=600,
    ).stdout  # fmt: skip


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_epochs_are_timed_against_stock_scvi() -> None:
    found = rows(run("epoch_time.py", *SMALL, "--batch-sizes", "128", "--n-components", "5"))
    ratios = {row[1]: float(row[4]) for row in found}
    assert ratios.pop("stock scVI") == 1
    assert len(ratios) == 5
    assert all(ratio > 0 for ratio in ratios.values())
    shares = {row[1]: row[6] for row in found}
    assert shares["ours, VMM, components found"].endswith("%")
    assert shares["ours, N(0, I)"] == ""


def test_the_script_for_a_gpu_runs_on_a_cpu() -> None:
    small = ["--accelerator", "cpu", "--n-cells", "800", "--n-genes", "40", "--steps", "8"]
    found = rows(run("device_check.py", *small, "--batch-sizes", "16"))
    assert [row[1] for row in found] == ["stock scVI, fused Adam", "ours, N(0, I)", "ours, VMM"]
    assert float(found[0][3]) == 1 and all(float(row[2]) > 0 for row in found)


@pytest.mark.slow
def test_curves_are_measured_and_drawn(tmp_path: Path) -> None:
    table, figure = str(tmp_path / "table.csv"), tmp_path / "figure.png"
    # as many cells as the largest number of batches demands
    run("scaling_curves.py", "run", *SMALL, "--n-cells", "2500", "--table", table)
    with open(table, newline="") as file:
        measured = list(csv.DictReader(file))
    assert len(measured) == 3 * (5 + 4 + 4)  # models x values
    assert all(float(row["ms_per_minibatch"]) > 0 for row in measured)
    assert all((float(row["prior_step_ms"]) > 0) is (row["model"] == "vmm") for row in measured)
    run("scaling_curves.py", "draw", "--table", table, "--figure", str(figure))
    assert figure.stat().st_size > 5000


@pytest.mark.slow
def test_cells_on_disk_are_trained_on_embedded_and_clustered(tmp_path: Path) -> None:
    output = run("scale.py", "--n-cells", "1500", "--batch-size", "256", "--n-components", "5",
                 "--folder", str(tmp_path))  # fmt: skip
    assert rows(output)[0][0] == "1,500"
    assert float(rows(output)[0][-1]) > 0


@pytest.mark.slow
def test_throughput_of_two_processes_is_measured() -> None:
    output = run("data_parallel.py", "--n-cells", "600", "--n-genes", "60", "--batch-sizes", "128")
    found = rows(output)
    assert [row[1] for row in found[:2]] == ["1", "2"]
    assert "Eight devices" in output


def test_a_second_search_is_compared_with_the_trained_clusters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    types = np.repeat([0, 1, 2], 100)
    for seed in range(2):
        folder = tmp_path / "three" / "vmm" / f"seed{seed}"
        folder.mkdir(parents=True)
        z = 20.0 * np.eye(3)[types] + rng.normal(size=(300, 3))
        cells = pd.DataFrame({"own": np.minimum(types, 1 + seed)}, index=[f"cell{i}" for i in range(300)])
        cells.to_csv(folder / "clusters.csv.gz")
        ad.AnnData(obs=cells, obsm={"X_emb": z}).write_h5ad(folder / "embedding.h5ad")
    (found,) = rows(run("second_search.py", str(tmp_path / "three" / "vmm")))
    joined = adjusted_rand_score(types, np.minimum(types, 1))  # seed 0 has joined two of three types
    assert found == ["three", "2 3", "3 3", f"{joined:.3f}", f"{joined:.3f}", "1.000"]
