"""What a model says of itself."""

from __future__ import annotations

from typing import Any


class SummaryMixin:
    """The text of a model that is printed tells its prior, with the number of components that there are."""

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
