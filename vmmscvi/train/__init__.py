"""Training: optimizers for networks and prior in one loop, checkpoints, and the best epoch.

Nothing here depends on counts or genes.
"""

from vmmscvi.train._adversarial import AdversarialEmpiricalBayesPlan
from vmmscvi.train._best_epoch import RestoreBestEpoch
from vmmscvi.train._checkpoint import ResumableCheckpoint
from vmmscvi.train._finite import NonFiniteTrainingError
from vmmscvi.train._plan import EmpiricalBayesPlanMixin, EmpiricalBayesTrainingPlan
from vmmscvi.train._protocol import PriorModule

__all__ = [
    "AdversarialEmpiricalBayesPlan",
    "EmpiricalBayesPlanMixin",
    "EmpiricalBayesTrainingPlan",
    "NonFiniteTrainingError",
    "PriorModule",
    "RestoreBestEpoch",
    "ResumableCheckpoint",
]
