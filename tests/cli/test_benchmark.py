from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from vmmscvi import benchmark
from vmmscvi.benchmark import BenchmarkRun
from vmmscvi.cli import app

RUNNER = CliRunner()


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments that ``benchmark.run`` is called with, instead of a run."""
    seen: dict[str, Any] = {}

    def run(config: Path | None, out: Path, **kwargs: Any) -> BenchmarkRun:
        seen.update(kwargs, config=config, out=out)
        return BenchmarkRun(results=pd.DataFrame(), n_trained=3, failed=seen.pop("failing", {}))

    monkeypatch.setattr(benchmark, "run", run, raising=False)
    return seen


def test_options_reach_the_run(called: dict[str, Any]) -> None:
    options = (
        "--config c.yaml --out r --data d --jobs 2 --threads 3 --datasets a --datasets b --methods VMM "
        "--seeds 0 --seeds 4 --recompute --quiet"
    )
    result = RUNNER.invoke(app, ["benchmark", "run", *options.split()])
    assert result.exit_code == 0, result.output
    assert called == {
        **{"config": Path("c.yaml"), "out": Path("r"), "data": Path("d"), "jobs": 2, "threads": 3},
        **{"datasets": ["a", "b"], "methods": ["VMM"], "seeds": [0, 4], "ray": False},
        **{"recompute": True, "progress": False},
    }
    assert "3 trained" in result.output


def test_without_options_the_default_is_run(called: dict[str, Any]) -> None:
    assert RUNNER.invoke(app, ["benchmark", "run"]).exit_code == 0
    assert called["config"] is None
    assert called["progress"] is True


def test_failed_cells_are_listed_and_the_exit_code_says_so(called: dict[str, Any]) -> None:
    called["failing"] = {"tiny, VMM, seed 0": "train: RuntimeError: no luck"}
    result = RUNNER.invoke(app, ["benchmark", "run"])
    assert result.exit_code == 1
    assert "Failed: tiny, VMM, seed 0: train: RuntimeError: no luck" in result.output


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    result = RUNNER.invoke(app, ["benchmark", "run", "--config", str(missing), "--out", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert "Error: There is no configuration" in result.output
    assert not (tmp_path / "r").exists()


def test_tuning_says_that_it_uses_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from vmmscvi.benchmark._tuning import TuningRun

    table = pd.DataFrame(
        {
            "dataset": ["a", "a", "b"],
            "batch_size": [128, 256, 128],
            "prior_lr_ratio": [1.0, 5.0, 1.0],
            "chosen_with_labels": [False, True, False],
        }
    )
    seen: dict[str, Any] = {}

    def tune(config: Path | None, out: Path, **kwargs: Any) -> TuningRun:
        seen.update(kwargs)
        return TuningRun(table, (), {})

    monkeypatch.setattr(benchmark, "tune", tune, raising=False)
    options = ["--ratios", "1", "--ratios", "5", "--method", "VMM"]
    result = RUNNER.invoke(app, ["benchmark", "tune", *options])
    assert result.exit_code == 0, result.output
    assert seen["ratios"] == [1, 5]
    assert "batch_sizes" not in seen
    assert "Chosen with labels" in result.output
    assert "256" in result.output
    assert "128" not in result.output


def test_the_help_of_every_command_is_there() -> None:
    group = typer.main.get_command(app).commands["benchmark"]  # type: ignore[attr-defined]
    assert {"run", "tune", "report"} <= set(group.commands)
    for name, command in group.commands.items():
        assert command.help, name
