"""Private names of scvi-tools, Lightning and torch that the package needs; no other module imports any.

``tests/test_upstream.py`` fails if one of these changes.
"""

from lightning.pytorch.core.optimizer import do_nothing_closure
from scvi.data._constants import _MANAGER_UUID_KEY as MANAGER_UUID_KEY
from scvi.data._constants import _SCVI_UUID_KEY as SCVI_UUID_KEY
from scvi.data._constants import _SETUP_ARGS_KEY as SETUP_ARGS_KEY
from scvi.data._utils import _assign_adata_uuid as assign_adata_uuid
from scvi.dataloaders._data_splitting import validate_data_split
from scvi.distributions._utils import subset_distribution
from scvi.model._utils import get_max_epochs_heuristic
from scvi.model.base._save_load import _load_saved_files as load_saved_files
from scvi.module._constants import MODULE_KEYS
from scvi.module._multivae import mix_modalities
from scvi.train._callbacks import LoudEarlyStopping
from scvi.train._config import merge_kwargs
from scvi.train._logger import SimpleLogger
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.dropout import _DropoutNd as Dropout

__all__ = [
    "MANAGER_UUID_KEY",
    "MODULE_KEYS",
    "SCVI_UUID_KEY",
    "SETUP_ARGS_KEY",
    "BatchNorm",
    "Dropout",
    "LoudEarlyStopping",
    "SimpleLogger",
    "assign_adata_uuid",
    "do_nothing_closure",
    "get_max_epochs_heuristic",
    "load_saved_files",
    "merge_kwargs",
    "mix_modalities",
    "subset_distribution",
    "validate_data_split",
]
