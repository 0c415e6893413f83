"""Run the command line as ``python -m vmmscvi.cli``, if its script is not on the path."""

from __future__ import annotations

from vmmscvi.cli import app

app(prog_name="vmmscvi")
