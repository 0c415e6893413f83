"""Silence messages that libraries address to developers, while a command runs."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from vmmscvi.cli._words import in_options

OURS = "vmmscvi"
"""Logger of the package."""
CHATTY = ("anndata", "lightning", "lightning.fabric", "lightning.pytorch", "numba", "scanpy", "scvi")
"""Loggers that report every step."""

HARMLESS = (
    r".*does not have many workers",
    r".*number of training batches .* is smaller than the logging interval",
    r".*Graph is not fully connected",  # UMAP: separate clusters
    r".*does not contain unnormalized count data",  # followed by an error of this package with advice
    r"Category .* has fewer than 3 cells",  # followed by a warning or error of this package if it matters
    r"`adata\.(X|layers.*)` has (fractional|negative) values",  # followed by an error that names options
    r".*n_jobs value .* overridden to 1 by setting random_state",
    r".*LeafSpec",
    r"Transforming to str index",
)
"""Patterns of warnings that do not concern users of a command."""

TELLING = (
    r".*Observation names are not unique",
    r".*Variable names are not unique",
)
"""Patterns of warnings that are shown only if the command fails, because they may explain why."""


def _show(text: str) -> None:
    typer.echo(f"Warning: {text}", err=True)


def _reword(record: logging.LogRecord) -> bool:
    """Translate a message of the package for the command line; keep every record."""
    if record.name.split(".")[0] == OURS:
        record.msg, record.args = in_options(record.getMessage()), ()
    return True


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide reports, deprecations and harmless warnings; keep other warnings and errors.

    Warnings that may explain a failure are shown if the command fails. Messages of the package name options
    instead of Python arguments.
    """
    handlers = [*logging.getLogger(OURS).handlers, *logging.getLogger().handlers]
    levels = {name: logging.getLogger(name).level for name in CHATTY}
    kept: dict[str, None] = {}

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        text = " ".join(str(message).split())
        if any(re.match(start, text) for start in TELLING):
            kept[text] = None
        else:
            _show(text)

    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message=message)
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.showwarning = show
        for handler in handlers:
            handler.addFilter(_reword)
        try:
            yield
        except BaseException:
            for text in kept:
                _show(text)
            raise
        finally:
            for handler in handlers:
                handler.removeFilter(_reword)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
