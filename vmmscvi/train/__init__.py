"""Training: an optimizer for the networks and one for the prior in one loop, and the best epoch kept.

Knows nothing of counts or genes.
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
