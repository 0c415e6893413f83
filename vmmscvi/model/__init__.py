"""Models that users touch."""

from vmmscvi.model._model import SCVI_VMM

__all__ = ["SCVI_VMM"]
