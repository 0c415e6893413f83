"""Snakemake plans every experiment, and runs a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

pytest.importorskip("snakemake")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the rules are for a POSIX shell")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CONFIG = yaml.safe_load((BENCHMARKS / "config.yaml").read_text())


def snakemake(folder: Path, *arguments: str) -> str:
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        str(BENCHMARKS / "Snakefile"),
        "-d",
        str(folder),
        "--cores",
        "1",
    ]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=1500, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs(output: str) -> dict[str, int]:
    """The table of a dry run."""
    lines = output.split("Job stats:")[1].split("total")[0].splitlines()[3:]
    return {line.split()[0]: int(line.split()[1]) for line in lines if line.strip()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a file of every name that the experiments ask for."""
    folder = tmp_path / "data"
    folder.mkdir()
    for experiment in CONFIG["experiments"].values():
        for spec in experiment["datasets"].values():
            if "path" in spec:
                (folder / spec["path"]).touch()
    return folder


def test_all_experiments_are_planned(tmp_path: Path, data: Path) -> None:
    targets = [*CONFIG["experiments"], *CONFIG["images"]]
    planned = jobs(snakemake(tmp_path, "-n", *targets, "--config", f"data={data}"))
    assert planned["train"] == planned["score"] > 700
    assert planned["table"] == len(CONFIG["experiments"])
    assert planned["image_report"] == len(CONFIG["images"])
    assert planned["tune"] == 1


def test_a_part_of_an_experiment_is_planned(tmp_path: Path, data: Path) -> None:
    part = ["seeds=[0,1]", 'methods=["VMM", "VMM as in the paper, ratio 1"]', "datasets=[cellbench, paul15]"]
    planned = jobs(snakemake(tmp_path, "-n", "clusters", "--config", f"data={data}", *part))
    assert planned["train"] == 2 * 2 * 2 and planned["counts"] == 2


OWN = """
experiments:
  mine:
    datasets: {cells: {simulate: well_separated, arguments: {n_cells: 150, n_genes: 60, n_types: 3}}}
    methods: {VMM: {kind: scvi_vmm, train: {start: cells, max_epochs: 3}}, PCA: {kind: pca}}
    scib: false
    clusterings: [own, leiden_1]
    compare: {method: VMM, others: [PCA]}
"""


@pytest.mark.slow
def test_an_experiment_of_ones_own_runs_and_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    arguments = ("mine", "--configfile", "own.yaml")
    snakemake(tmp_path, *arguments)
    results = tmp_path / "results" / "mine"
    scores = pd.read_csv(results / "tables" / "scores.csv", keep_default_na=False)
    assert set(scores["method"]) == {"VMM", "PCA"}
    assert (scores.loc[scores["measure"] == "cpu_seconds", "value"] > 0).all()
    assert "Agreement" not in (results / "tables" / "tables.md").read_text()  # one seed
    assert "PCA + Leiden" in (results / "tables" / "comparison.md").read_text()
    assert (results / "figures" / "embedding_cells.png").stat().st_size > 5000
    assert "Nothing to be done" in snakemake(tmp_path, *arguments)
    # other settings of one method: its training and what follows, and nothing else
    (tmp_path / "own.yaml").write_text(OWN.replace("max_epochs: 3", "max_epochs: 4"))
    assert jobs(snakemake(tmp_path, *arguments, "-n"))["train"] == 1
