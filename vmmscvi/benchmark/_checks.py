"""What can be found wrong before work starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vmmscvi.benchmark._cells import Cell, Progress
from vmmscvi.benchmark._datasets_paper import PAPER_DATASETS
from vmmscvi.benchmark._methods import check_installed
from vmmscvi.benchmark._specs import BenchmarkConfig, DatasetSpec
from vmmscvi.data._presets import PRESETS


def check_config(config: BenchmarkConfig) -> None:
    """Check that data are there and methods installed.

    Raises
    ------
    ValueError
        If not; see also :class:`BenchmarkConfig`, which checks itself.
    """
    check_installed(config.methods)
    for dataset in config.datasets:
        if dataset.path is not None:
            _check_file(dataset)
        elif dataset.simulate is not None:
            _check_choice(dataset, "simulate", dataset.simulate, PRESETS)
        elif dataset.source is not None:
            _check_choice(dataset, "source", dataset.source, PAPER_DATASETS)


def check_unchanged(found: Sequence[tuple[Cell, Progress]]) -> None:
    """Refuse to mix results of different settings.

    Raises
    ------
    ValueError
        If some results on disk were made with other settings.
    """
    changed = [(cell, progress) for cell, progress in found if progress.changed]
    if changed:
        cell, progress = changed[0]
        raise ValueError(
            f"{len(changed)} finished cells have other settings than asked for, first ({cell.title}) "
            f"{'; '.join(progress.changed[:5])}. Choose another folder for the results, another name for the "
            "method, or train them again with `recompute` (--recompute)."
        )


def _check_choice(dataset: DatasetSpec, key: str, found: str, known: Iterable[str]) -> None:
    if found not in known:
        raise ValueError(f"dataset {dataset.name!r}: {key} is {found!r}; expected one of {sorted(known)}.")


def _check_file(dataset: DatasetSpec) -> None:
    import h5py

    where = f"dataset {dataset.name!r}"
    assert dataset.path is not None
    if not dataset.path.is_file():
        raise ValueError(f"{where}: there is no file {dataset.path}; name its folder by `data` (--data).")
    if not h5py.is_hdf5(dataset.path):
        raise ValueError(f"{where}: {dataset.path} is not an h5ad file.")
    with h5py.File(dataset.path) as file:
        obs: Any = file.get("obs")
        columns = list(obs) if isinstance(obs, h5py.Group) else list(getattr(obs, "dtype", obs).names or ())
    for key in (dataset.batch_key, dataset.label_key):
        if key is not None and key not in columns:
            raise ValueError(f"{where}: {key!r} is no column of obs; there are {columns}.")
