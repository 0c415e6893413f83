"""Time and memory of ``import vmmscvi`` and of its model class, over those of ``import scvi``.

    python benchmarks/import_time.py --rounds 7

Each import runs in a fresh process; they take turns, and medians are compared. ``import vmmscvi`` alone loads
nothing else until a name is used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

PROBE = """
import resource, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.perf_counter() - wall, time.process_time() - cpu, peak / 1000)
"""
BASELINE = "from scvi.model import SCVI"
STATEMENTS = (BASELINE, "import vmmscvi", "from vmmscvi import SCVI_VMM")


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, ...]]] = {statement: [] for statement in STATEMENTS}
    for _ in range(arguments.rounds):
        for statement in STATEMENTS:
            command = [sys.executable, "-W", "ignore", "-c", PROBE.format(statement=statement)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[statement].append(tuple(map(float, output.split()[-3:])))
    medians = {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    print("| statement | wall s | CPU s | peak MB | wall, ratio | CPU, ratio | memory, ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, (wall, cpu, peak) in medians.items():
        ratios = [ours / scvi for ours, scvi in zip(medians[name], medians[BASELINE], strict=True)]
        shares = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| `{name}` | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {shares} |")


if __name__ == "__main__":
    main()
