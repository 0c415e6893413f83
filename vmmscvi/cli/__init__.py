"""The command line: ``vmmscvi integrate``, ``map``, ``cut`` and ``demo``.

Imports here and at the top of ``_app``, ``_errors`` and ``_output`` are light, so the help does not wait for
scvi-tools. Each command imports its implementation when it runs.
"""

from __future__ import annotations

from vmmscvi.cli._app import app

__all__ = ["app"]
