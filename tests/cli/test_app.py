"""The program itself: its version, its help, and how long one waits for them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import vmmscvi
from vmmscvi.cli._app import PriorChoice
from vmmscvi.cli._seeds import LARGEST_SEED


def test_the_version_is_printed(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"vmmscvi {vmmscvi.__version__}\n"


@pytest.mark.parametrize("command", ["integrate", "demo"])
def test_every_command_has_a_help(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--seed" in result.output and "--overwrite" in result.output


def test_without_a_command_the_help_is_shown(run):
    assert "integrate" in run().output


def test_help_does_not_wait_for_slow_libraries():
    slow = {"anndata", "lightning", "matplotlib", "numpy", "pandas", "scanpy", "scvi", "sklearn", "torch"}
    code = (
        "import sys; from vmmscvi.cli import app\n"
        "try: app(['integrate', '--help'])\n"
        f"except SystemExit: print('LOADED', sorted({slow!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


def test_the_package_itself_is_imported_without_slow_libraries_and_lists_its_parts():
    code = "import sys, vmmscvi; print('scvi' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert set(vmmscvi.__all__) <= set(dir(vmmscvi))
    assert all(hasattr(vmmscvi, name) for name in vmmscvi.__all__)
    assert vmmscvi.pl is vmmscvi.plotting
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = vmmscvi.nope


def test_the_module_can_be_run_where_the_script_is_not_installed():
    done = subprocess.run(
        [sys.executable, "-m", "vmmscvi.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"vmmscvi {vmmscvi.__version__}\n"


def test_priors_of_the_command_line_are_those_of_the_model():
    from typing import get_args

    from vmmscvi.priors import PriorName

    assert {prior.value for prior in PriorChoice} == set(get_args(PriorName))


@pytest.mark.parametrize(
    "arguments", [["--seed", "-1"], ["--hvg", "0"], ["--prior", "nope"], ["--n-latent", "x"]]
)
def test_impossible_values_of_options_end_with_code_2(run, arguments):
    assert run("integrate", "cells.h5ad", *arguments).exit_code == 2


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1])
@pytest.mark.parametrize("command", [["integrate", "cells.h5ad", "--seed"], ["demo", "--seed"]], ids=" ".join)
def test_a_seed_that_generators_do_not_take_is_refused_by_every_command(run, command, seed):
    result = run(*command, seed)
    assert result.exit_code == 2
    assert f"Invalid value for '{command[-1]}'" in result.output


def test_the_largest_seed_is_the_largest_that_generators_take():
    np.random.RandomState(LARGEST_SEED)
    with pytest.raises(ValueError, match="Seed must be between 0 and"):
        np.random.RandomState(LARGEST_SEED + 1)
