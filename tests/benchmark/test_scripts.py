"""Scripts that make the documented timings run in their short form; how long anything takes is not tested."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vmmscvi.benchmark._report_data import read_results

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


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_variance_that_composition_explains_is_told_from_that_within_types() -> None:
    script = load("batch_variance")
    labels, batch = np.repeat(["B", "T"], 8), np.tile(["one", "two"], 8)
    batch[:4] = "one"  # three in four B cells, half of the T cells
    z = np.where(labels == "B", -3.0, 3.0)[:, None]
    apart = script.shares({"z": z, "batch": batch, "labels": labels})
    assert apart["types"] == pytest.approx(1)
    assert apart["batches within types"] == pytest.approx(0)
    assert apart["batches"] == pytest.approx(1 / 15)  # 10 of 16 in one batch: means -0.6 and 1.0, 9.6 of 144
    shifted = script.shares({"z": z + (batch == "one")[:, None], "batch": batch, "labels": labels})
    assert shifted["batches within types"] == pytest.approx((6 * 2 / 8 + 4 * 4 / 8) / 144, rel=0.1)


@pytest.fixture
def against_leiden(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))  # one script uses another, as where it is run
    return load("clusters_against_leiden")


def test_own_clusters_are_compared_with_leidens_over_all_seeds(
    against_leiden: ModuleType, small_results: Path
) -> None:
    results = read_results(small_results)
    row = against_leiden.clusters_row(results, "one_batch", "VMM", "PCA")
    own = results.trials("one_batch", "VMM", "own", "n_clusters")
    nmi, ari = (results.trials("one_batch", "VMM", "own", measure).mean() for measure in ("nmi", "ari"))
    numbers = "-".join(sorted({f"{own.min():.0f}", f"{own.max():.0f}"}))
    assert row["data (types)"] == "one_batch (3)"
    assert row["VMM: clusters, NMI, ARI"] == f"{numbers}, {nmi:.3f}, {ari:.3f}"
    assert row["between seeds: VMM"].endswith(" (2)")
    assert row["PCA + Leiden"].endswith(" (2)")
    assert row["PCA + Leiden, resolution 1"] != ""
    run = against_leiden.run_row(results, "one_batch", "VMM", "PCA")
    assert run["scIB's total: VMM, PCA"] == run["p (pairs)"] == ""  # one batch, and no scIB


def test_the_rarest_type_is_looked_up_in_the_cluster_that_holds_most_of_it(
    against_leiden: ModuleType,
) -> None:
    labels = np.array(["B"] * 6 + ["rare"] * 4)
    clusters = np.array(["0"] * 5 + ["1"] + ["1"] * 3 + ["0"])
    assert against_leiden.rarest_type(labels, clusters) == ("rare", 4, 0.75, 1)


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
