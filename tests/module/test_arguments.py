"""Arguments of modules' constructors reach the module of scvi-tools, whose defaults they would else have."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import scvi.module

from vmmscvi.module import VMMVAE


class Reached(Exception):
    """The constructor of scvi-tools was called."""


def test_every_argument_of_the_module_of_counts_reaches_scvis_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}
    names = set(inspect.signature(VMMVAE.__init__).parameters) & set(
        inspect.signature(scvi.module.VAE.__init__).parameters
    ) - {"self", "kwargs", "latent_distribution"}

    def constructor(self: Any, **kwargs: Any) -> None:
        found.update(kwargs)
        raise Reached

    monkeypatch.setattr(scvi.module.VAE, "__init__", constructor)
    given = {name: object() for name in names}
    with pytest.raises(Reached):
        VMMVAE(**given)
    assert len(names) > 20 and {name: found.get(name) for name in names} == given
