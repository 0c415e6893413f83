"""What is private in scvi-tools, Lightning or torch and cannot be avoided; nothing else in the package is.

``tests/test_upstream.py`` fails when one of these changes.
"""

from lightning.pytorch.core.optimizer import do_nothing_closure
from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS_KEY
from scvi.dataloaders._data_splitting import validate_data_split
from scvi.distributions._utils import subset_distribution
from scvi.model._utils import get_max_epochs_heuristic
from scvi.module._constants import MODULE_KEYS
from scvi.module._multivae import mix_modalities
from scvi.train._callbacks import LoudEarlyStopping
from scvi.train._config import merge_kwargs
from scvi.train._logger import SimpleLogger

__all__ = [
    "MODULE_KEYS",
    "SETUP_ARGS_KEY",
    "LoudEarlyStopping",
    "SimpleLogger",
    "do_nothing_closure",
    "get_max_epochs_heuristic",
    "merge_kwargs",
    "mix_modalities",
    "subset_distribution",
    "validate_data_split",
]
