from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vmmscvi.benchmark import _score_cell, _train_cell, load_config, tune
from vmmscvi.benchmark._cells import Cell
from vmmscvi.benchmark._files import write_arrays, write_json, write_table
from vmmscvi.benchmark._schema import DONE, EMBEDDING_FILE, RUN_FILE, SCORES_FILE, TRAINED
from vmmscvi.benchmark._tuning import tuning_config
from vmmscvi.benchmark._tuning_table import CHOSEN, mark_chosen
from vmmscvi.benchmark._worker import Task

CONFIG: dict[str, Any] = {
    "datasets": [{"name": "tiny", "simulate": "single_type", "train": {"max_epochs": 3, "batch_size": 64}}],
    "methods": [
        {"name": "N(0, I)", "kind": "scvi_vmm", "model": {"prior": "standard_normal"}},
        {"name": "VMM", "kind": "scvi_vmm", "train": {"lr": 0.01}},
    ],
}
N_TYPES = 5


@pytest.fixture
def known_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and scores that are known: clusters fall with the ratio, sooner with a small batch."""

    def clusters(cell: Cell) -> int:
        train = cell.method.train
        return int(train["batch_size"] / 16 / train["prior_lr_ratio"])

    def train(cell: Cell) -> None:
        write_arrays(cell.folder / EMBEDDING_FILE, {})
        record = {"settings": cell.settings(), "status": TRAINED, "n_types": N_TYPES}
        write_json(cell.folder / RUN_FILE, record)

    def score(cell: Cell) -> None:
        n = clusters(cell)
        rows: list[Any] = [("own", "n_clusters", n), ("own", "nmi", 0.5), ("", "Total", 1 / n)]
        write_table(cell.folder / SCORES_FILE, _score_cell.tidy(cell, rows))
        cell.update_record(status=DONE, scoring=dict(cell.scoring))

    monkeypatch.setattr(_train_cell, "train_cell", train)
    monkeypatch.setattr(_score_cell, "score_cell", score)


@pytest.fixture
def tuned(known_results: None, inline: list[Task], tmp_path: Path) -> Iterator[Any]:
    yield lambda: tune(
        CONFIG, tmp_path, batch_sizes=[128, 256], ratios=[4, 1, 2, 8], seeds=[0, 1], progress=False
    )


def test_ratios_go_up_until_clusters_are_fewer_than_types(tuned: Any, inline: list[Task]) -> None:
    table = tuned().table
    tried = table.groupby("batch_size")["prior_lr_ratio"].agg(lambda ratios: sorted(set(ratios)))
    assert tried[128] == [1, 2]  # 8, 4 clusters: stop
    assert tried[256] == [1, 2, 4]  # 16, 8, 4
    assert (table.groupby(["batch_size", "prior_lr_ratio"])["seed"].nunique() == 2).all()
    trained = [task.cell.method.name for task in inline if task.stage == "train"]
    assert len(trained) == 2 * 5
    assert set(trained) == {
        f"VMM, batch {b}, ratio {r}" for b, r in [(128, 1), (128, 2), (256, 1), (256, 2), (256, 4)]
    }


def test_the_best_total_among_runs_with_enough_clusters_is_chosen(tuned: Any, tmp_path: Path) -> None:
    done = tuned()
    chosen = done.table[done.table[CHOSEN]]
    # 8 clusters, twice: the best total with 5 clusters or more
    assert set(chosen["n_clusters"]) == {8}
    assert (chosen["total"] == 1 / 8).all()
    assert [file.name for file in done.files] == ["tuning.csv", "tuning.png", "tuning.pdf"]
    assert all(file.stat().st_size > 0 for file in done.files)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tuning.csv"), done.table, check_dtype=False)


def test_tuning_goes_on_where_it_stopped(tuned: Any, inline: list[Task], tmp_path: Path) -> None:
    before = tuned().table
    inline.clear()
    pd.testing.assert_frame_equal(tuned().table, before)
    assert inline == []


def test_nothing_is_chosen_where_clusters_are_always_too_few() -> None:
    table = pd.DataFrame(
        {
            "dataset": ["a", "a", "b"],
            "batch_size": [128, 256, 128],
            "prior_lr_ratio": [1.0, 1.0, 1.0],
            "seed": 0,
            "n_types": [5, 5, 5],
            "n_clusters": [4, 3, 5],
            "nmi": 0.5,
            "total": [0.9, 0.8, 0.1],
        }
    )
    assert list(mark_chosen(table)[CHOSEN]) == [False, False, True]


def test_the_grid_replaces_what_data_sets_say_of_tuned_settings_alone() -> None:
    config = load_config(CONFIG)
    grid = tuning_config(config, config.methods[1], [128], [0.1, 5])
    assert [method.name for method in grid.methods] == [
        "VMM, batch 128, ratio 0.1",
        "VMM, batch 128, ratio 5",
    ]
    assert grid.methods[1].on(grid.datasets[0]).train == {
        **{"start": "cells", "lr": 0.01, "max_epochs": 3},
        **{"batch_size": 128, "prior_lr_ratio": 5.0},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "N(0, I)"}, r"expected a mixture of kind scvi_vmm: one of \['VMM'\]"),
        ({"ratios": [1, -1]}, "ratios must be positive numbers"),
        ({"batch_sizes": []}, "batch_sizes must be positive numbers"),
        ({"ratios": [1, 1]}, "ratios must differ"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tune(CONFIG, tmp_path, progress=False, **arguments)
