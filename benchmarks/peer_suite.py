"""scvi-tools' own tests of a model, run with ours in its place.

``python benchmarks/peer_suite.py TOTALVI`` fetches the source distribution of the installed scvi-tools with
pip into a temporary folder, replaces the model in its test file, runs it, and prints what failed and why.
``--stock`` runs the file as it is, to tell what fails without us. Needs access to a package index.
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

TEST_FILES = {
    "SCVI": "tests/model/test_scvi.py",
    "LinearSCVI": "tests/model/test_linear_scvi.py",
    "TOTALVI": "tests/model/test_totalvi.py",
    "PEAKVI": "tests/model/test_peakvi.py",
    "POISSONVI": "tests/external/poissonvi/test_poissonvi.py",
    "MULTIVI": "tests/model/test_multivi.py",
}


def fetch(version: str, folder: Path) -> Path:
    """Download and unpack the source distribution; returns its root."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "scvi-tools"]
    subprocess.run([*command, "--dest", str(folder), f"scvi-tools=={version}"], check=True)
    archive = next(folder.glob("scvi_tools-*.tar.gz"))
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def put_in_place(root: Path, model: str, stock: bool) -> int:
    """Replace a model by ours in its test file, unless it is to stay; returns the number of replacements."""
    path = root / test_file(root, model)
    text, total = path.read_text(), 0
    for pattern, replacement in () if stock else replacements(model).items():
        text, n_found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        total += n_found
    # scvi-tools 1.4.2 uses `rich.pretty` and imports it nowhere, which the newest rich does not forgive
    path.write_text("import rich.pretty\n" + text)
    return total


def replacements(model: str) -> dict[str, str]:
    """Return what stands for the model in a test file, and what replaces it."""
    ours = f"from vmmscvi import {model}_VMM as {model}"
    return {
        rf"^from scvi\.(model|external) import {model}$": ours,
        rf"^(from scvi\.(?:model|external) import .*)\b{model}, (.*)$": rf"\1\2\n{ours}",
        rf"^(from scvi\.(?:model|external) import .*), {model}\b(.*)$": rf"\1\2\n{ours}",
        rf"\bscvi\.(model|external)\.{model}\b": model,
    }


def test_file(root: Path, model: str) -> str:
    """Return the path of a model's tests, wherever this version keeps them."""
    name = Path(TEST_FILES[model]).name
    return str(next((root / "tests").rglob(name)).relative_to(root))


def run(root: Path, model: str, report: Path, select: str | None) -> None:
    """Run the file against the installed scvi-tools, not against the sources beside it."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", test_file(root, model)]
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
    parser.add_argument("model", nargs="?", choices=list(TEST_FILES), default="SCVI")
    parser.add_argument("--stock", action="store_true", help="leave the model where it is")
    parser.add_argument("--select", help="names of tests, as pytest's -k")
    arguments = parser.parse_args()
    version = importlib.metadata.version("scvi-tools")
    with tempfile.TemporaryDirectory() as name:
        root, report = fetch(version, Path(name)), Path(name) / "report.xml"
        n_replaced = put_in_place(root, arguments.model, arguments.stock)
        run(root, arguments.model, report, arguments.select)
        rows = table(report)
    counts = {outcome: sum(row[1] == outcome for row in rows) for outcome in sorted({row[1] for row in rows})}
    print(f"\nscvi-tools {version}, {arguments.model}, {n_replaced} replacements: {counts}\n")
    print("| test | outcome | message |\n|---|---|---|")
    for test, outcome, message in rows:
        if outcome != "passed":
            print(f"| `{test}` | {outcome} | {message.replace('|', '/')} |")


if __name__ == "__main__":
    main()
