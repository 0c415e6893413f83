"""vmmscvi: integrate and cluster single-cell counts with scVI and the VampPrior Mixture Model."""

from importlib.metadata import PackageNotFoundError, version

from vmmscvi import data, module, priors, train
from vmmscvi.model import SCVI_VMM

try:
    __version__ = version("vmmscvi")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.0.0"

__all__ = ["SCVI_VMM", "__version__", "data", "module", "priors", "train"]
