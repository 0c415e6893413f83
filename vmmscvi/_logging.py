"""Where the package's messages go unless the user has decided: to standard error, one line each."""

from __future__ import annotations

import logging


def show_messages() -> None:
    """Show what the package logs from ``INFO`` on; nothing is done where logging has been set up."""
    logger = logging.getLogger("vmmscvi")
    if logger.level != logging.NOTSET or logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
