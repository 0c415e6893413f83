"""Models that users touch."""

from vmmscvi._logging import show_messages
from vmmscvi.model._linear_scvi import LinearSCVI_VMM
from vmmscvi.model._model import SCVI_VMM
from vmmscvi.model._multivi import MULTIVI_VMM
from vmmscvi.model._peakvi import PEAKVI_VMM
from vmmscvi.model._poissonvi import POISSONVI_VMM
from vmmscvi.model._totalvi import TOTALVI_VMM
from vmmscvi.model._with_vmm import with_vmm

__all__ = [
    "MULTIVI_VMM",
    "PEAKVI_VMM",
    "POISSONVI_VMM",
    "SCVI_VMM",
    "TOTALVI_VMM",
    "LinearSCVI_VMM",
    "with_vmm",
]

show_messages()
