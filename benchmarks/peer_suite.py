"""scvi-tools' own tests of SCVI, run with SCVI_VMM in its place.

``python benchmarks/peer_suite.py`` fetches the source distribution of the installed scvi-tools with pip into
a temporary folder, replaces the model in ``tests/model/test_scvi.py``, runs it, and prints what failed and
why. ``--stock`` runs the file as it is, to tell what fails without us. Needs access to a package index.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

TEST_FILE = "tests/model/test_scvi.py"
REPLACEMENTS = {
    r"^from scvi\.model import SCVI$": "from vmmscvi import SCVI_VMM as SCVI",
    r"\bscvi\.model\.SCVI\b": "SCVI",
}


def fetch(version: str, folder: Path) -> Path:
    """Download and unpack the source distribution; returns its root."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "scvi-tools"]
    subprocess.run([*command, "--dest", str(folder), f"scvi-tools=={version}"], check=True)
    archive = next(folder.glob("scvi_tools-*.tar.gz"))
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def put_in_place(root: Path, stock: bool) -> int:
    """Replace SCVI by SCVI_VMM in the test file, unless it is to stay; returns the number of replacements."""
    path = root / TEST_FILE
    text, total = path.read_text(), 0
    for pattern, replacement in () if stock else REPLACEMENTS.items():
        text, n_found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        total += n_found
    # scvi-tools 1.4.2 uses `rich.pretty` and imports it nowhere, which the newest rich does not forgive
    path.write_text("import rich.pretty\n" + text)
    return total


def run(root: Path, report: Path, select: str | None) -> None:
    """Run the file against the installed scvi-tools, not against the sources beside it."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", TEST_FILE]
    command += [f"--junitxml={report}", "-p", "no:cacheprovider", "--import-mode=prepend"]
    if select:
        command += ["-k", select]
    subprocess.run(command, cwd=root, check=False)


def table(report: Path) -> list[tuple[str, str, str]]:
    """Read name, outcome and message of every test."""
    rows = []
    for case in ET.parse(report).iter("testcase"):
        outcome, message = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = {"failure": "failed"}.get(child.tag, child.tag)
                message = (child.get("message") or "").splitlines()[0][:160] if child.get("message") else ""
        rows.append((str(case.get("name")), outcome, message))
    return rows


def main() -> None:
    """Fetch, replace, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stock", action="store_true", help="leave SCVI where it is")
    parser.add_argument("--select", help="names of tests, as pytest's -k")
    arguments = parser.parse_args()
    version = importlib.metadata.version("scvi-tools")
    with tempfile.TemporaryDirectory() as name:
        root, report = fetch(version, Path(name)), Path(name) / "report.xml"
        n_replaced = put_in_place(root, arguments.stock)
        run(root, report, arguments.select)
        rows = table(report)
    counts = {outcome: sum(row[1] == outcome for row in rows) for outcome in sorted({row[1] for row in rows})}
    print(f"\nscvi-tools {version}, {TEST_FILE}, {n_replaced} replacements: {counts}\n")
    print("| test | outcome | message |\n|---|---|---|")
    for test, outcome, message in rows:
        if outcome != "passed":
            print(f"| `{test}` | {outcome} | {message.replace('|', '/')} |")


if __name__ == "__main__":
    main()
