"""The printed summary of a model."""

from __future__ import annotations

from typing import Any


class SummaryMixin:
    """Add the prior and its current number of components to the printed summary of a model."""

    module: Any
    _networks_summary: str

    @property
    def _model_summary_string(self) -> str:
        prior = self.module.latent_prior
        n_components = getattr(prior, "n_components", None)
        found = "" if n_components is None else f", n_components: {n_components}"
        return f"{self._networks_summary}\nprior: {type(prior).__name__}{found}"

    @_model_summary_string.setter
    def _model_summary_string(self, text: str) -> None:
        self._networks_summary = text
