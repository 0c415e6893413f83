"""Training: two optimizers in one loop, and the best epoch kept. Knows nothing of counts or genes."""

from vmmscvi.train._best_epoch import RestoreBestEpoch
from vmmscvi.train._checkpoint import ResumableCheckpoint
from vmmscvi.train._finite import NonFiniteTrainingError
from vmmscvi.train._plan import EmpiricalBayesTrainingPlan

__all__ = ["EmpiricalBayesTrainingPlan", "NonFiniteTrainingError", "RestoreBestEpoch", "ResumableCheckpoint"]
