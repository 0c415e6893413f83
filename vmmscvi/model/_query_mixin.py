"""New cells in a trained model."""

from __future__ import annotations

from typing import Any, Self


class QueryMixin:
    """Query mapping: clusters are those of the reference."""

    @classmethod
    def load_query_data(cls, *args: Any, unfrozen: bool = False, **kwargs: Any) -> Self:
        """Map new cells into a trained model: its clusters are those of the reference.

        Prior and cached centres are frozen, so that clusters stay where they are however the encoder adapts
        to new batches.

        Parameters
        ----------
        *args, **kwargs
            As in :meth:`scvi.model.SCVI.load_query_data`.
        unfrozen
            Whether everything is trained, the prior included, which goes on from the reference's.
        """
        model: Self = super().load_query_data(*args, unfrozen=unfrozen, **kwargs)  # type: ignore[misc]
        module: Any = model.module  # type: ignore[attr-defined]
        module.doubt_new_categories()
        if unfrozen:
            module.unfreeze_prior()
        else:
            module.freeze_prior()
        return model
