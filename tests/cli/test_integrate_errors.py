"""Errors that a user can fix are one line, with exit code 2, and nothing is written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import anndata
import numpy as np
import pytest
import torch

from vmmscvi.cli._words import in_options


def assert_refused(result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    for word in words:
        assert word in line


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch-key", "nope"], ["--batch-key nope", "cell_type"]),
        (["--layer", "nope"], ["--layer nope", "counts, logged"]),
        (["--figure", "map.xyz"], ["map.xyz", "png"]),
        (["--figure", "map"], ["map has no suffix"]),
        (["--figure", "out.h5ad"], ["--out and --figure are both"]),
        (["--color", "cell_type"], ["--color has no effect without"]),
        (["--figure", "map.png", "--color", "nope"], ["--color nope", "cell_type"]),
        (["--out", "nowhere/out.h5ad"], ["--out", "does not exist"]),
        (["--save-model", "nowhere/model"], ["--save-model", "does not exist"]),
        (["--save-model", "cells.h5ad"], ["--save-model", "is a file"]),
    ],
)
def test_options_that_cannot_be_met(integrate, tmp_path, arguments, words):
    assert_refused(integrate("--out", "out.h5ad", *arguments), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad"]


def test_the_largest_number_of_clusters_may_exceed_that_of_cells(integrate):
    assert integrate("--n-components", 500).exit_code == 0


def test_an_input_that_is_missing_or_no_file_or_no_h5ad(run, tmp_path):
    assert_refused(run("integrate", "nope.h5ad"), "nope.h5ad does not exist")
    assert_refused(run("integrate", tmp_path), "is not a file")
    (tmp_path / "text.h5ad").write_text("cell,gene\n")
    assert_refused(run("integrate", "text.h5ad"), "text.h5ad cannot be read as an h5ad file")


def scale(adata):
    adata.X = adata.layers["logged"].copy()


def negate(adata):
    adata.X = -adata.X


def spoil(adata):
    adata.X.data[7] = np.nan


def empty(adata):
    counts = adata.X.tolil()
    counts[5] = 0
    adata.X = counts.tocsr()


def lose_batches(adata):
    adata.obs["batch"] = adata.obs["batch"].where(np.arange(adata.n_obs) > 2)


def isolate(adata):
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) == 3, "lonely", "other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (scale, ["fractional", "layer"]),
        (negate, ["negative"]),
        (spoil, ["NaN"]),
        (empty, ["without any count"]),
        (lose_batches, ["--batch-key batch", "no value for 3 cells"]),
        (isolate, ["single cell", "lonely"]),
    ],
)
def test_data_that_cannot_be_used(integrate, write_input, tmp_path, change, words):
    assert_refused(integrate("--out", "out.h5ad", source=write_input(change)), *words)
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.parametrize("change", [scale, negate, spoil, empty, isolate])
@pytest.mark.parametrize("layer", [False, True])
def test_messages_speak_of_options_and_not_of_python(integrate, write_input, change, layer):
    def in_layer(adata):
        change(adata)
        adata.layers["raw"] = adata.X

    result = integrate(*(["--layer", "raw"] if layer else []), source=write_input(in_layer))
    assert_refused(result)
    for word in ("adata", "setup_anndata", "batch_key", "gene_likelihood", "SCVI_VMM"):
        assert word not in result.output
    if change in (scale, negate):
        assert "--layer" in result.output


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`n_components` is 5, at most `max_epochs`", "--n-components is 5, at most --max-epochs"),
        ("`adata.layers['a b']` has NaN", "layer a b has NaN"),
        ("`batch_key` 'donor' has", "--batch-key 'donor' has"),
        ("`other` stays", "`other` stays"),
    ],
)
def test_arguments_are_called_as_the_options(message, expected):
    assert in_options(message) == expected


@pytest.mark.parametrize("change", [negate, spoil])
def test_data_that_cannot_be_used_are_found_before_genes_are_selected(integrate, write_input, change):
    assert_refused(integrate("--hvg", 20, source=write_input(change)), "negative or missing values")


def test_cells_without_counts_in_the_selected_genes(integrate, write_input):
    def add_cells_of_one_dull_gene(adata):
        counts = adata.X.tolil()
        counts[:, 0] = 5
        counts[7] = 0
        counts[7, 0] = 5
        adata.X = counts.tocsr()

    result = integrate("--hvg", 20, source=write_input(add_cells_of_one_dull_gene))
    assert_refused(result, "1 cells have no counts in the 20 most variable genes", "--hvg")


def test_no_cells(integrate, input_data, tmp_path):
    input_data[:0].copy().write_h5ad(tmp_path / "none.h5ad")
    assert_refused(integrate(source=tmp_path / "none.h5ad"), "has 0 cells")


@pytest.mark.usefixtures("no_training")
def test_existing_outputs_are_refused_before_training_and_stay(integrate, tmp_path):
    (tmp_path / "model").mkdir()
    old = {"out.h5ad": "--out", "map.png": "--figure", "model/model.pt": "--save-model"}
    for name, option in old.items():
        (tmp_path / name).write_text("old")
        argument = "model" if option == "--save-model" else name
        assert_refused(integrate(option, argument), option, "--overwrite")
        assert (tmp_path / name).read_text() == "old"


def test_other_files_in_the_folder_of_a_model_are_left_alone(integrate, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    for _ in range(2):
        assert integrate("--out", "out.h5ad", "--save-model", "model", "--overwrite").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.pt", "notes.txt"]


@pytest.fixture
def largest_file():
    """Limit the size of files that this process writes, in bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_failure_while_writing_leaves_the_old_output(integrate, source, tmp_path, largest_file):
    assert integrate("--out", "out.h5ad").exit_code == 0
    before = (tmp_path / "out.h5ad").read_bytes()
    largest_file(source.stat().st_size // 2)
    result = integrate("--out", "out.h5ad", "--overwrite")
    assert_refused(result, "out.h5ad was not written: ", os.strerror(errno.EFBIG))
    assert (tmp_path / "out.h5ad").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "out.h5ad"]


def test_training_that_fails_ends_with_code_1_and_one_line(integrate, tmp_path, before_every_step):
    def spoil(optimizer):
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].fill_(torch.nan)

    before_every_step(spoil)
    result = integrate("--out", "out.h5ad")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()  # scvi-tools prints the error too, on standard output
    assert line.startswith("Error: Training stopped in epoch 1: reconstruction_loss became NaN")
    assert "--seed" in line
    assert not (tmp_path / "out.h5ad").exists()


def test_mistakes_of_ours_keep_their_traceback(integrate, before_every_step):
    def fail(optimizer):
        raise ZeroDivisionError

    before_every_step(fail)
    assert isinstance(integrate("--out", "out.h5ad").exception, ZeroDivisionError)


def test_errors_are_on_standard_error_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vmmscvi.cli", "integrate", "nope.h5ad"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "Error: nope.h5ad does not exist; expected an h5ad file with raw counts.\n"


def test_the_data_are_not_touched_by_a_refusal(integrate, source):
    before = source.read_bytes()
    integrate("--batch-key", "nope")
    assert source.read_bytes() == before
    anndata.read_h5ad(source)
