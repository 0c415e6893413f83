"""Default handling of the package's messages: one line each, on standard error."""

from __future__ import annotations

import logging


def show_messages() -> None:
    """Show the package's messages from level ``INFO``; do nothing if logging has been configured."""
    logger = logging.getLogger("vmmscvi")
    if logger.level != logging.NOTSET or logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
