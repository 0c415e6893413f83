"""The command line: ``vmmscvi integrate`` and ``vmmscvi demo``.

What is imported here, and at the top of ``_app``, ``_errors`` and ``_output``, is light: the help must not
wait for scvi-tools. Commands import what they need when they run.
"""

from __future__ import annotations

from vmmscvi.cli._app import app

__all__ = ["app"]
