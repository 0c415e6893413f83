"""A data module that is not scvi-tools' own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule


@pytest.fixture
def loaded() -> Callable[[Iterable[Any]], LightningDataModule]:
    """Make a data module that has nothing but a loader of training cells."""

    def make(loader: Iterable[Any]) -> LightningDataModule:
        datamodule = LightningDataModule()
        datamodule.train_dataloader = lambda: loader
        return datamodule

    return make
