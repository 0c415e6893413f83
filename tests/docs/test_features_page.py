"""Tests that the pages name exist, so that no feature is listed without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDS = re.compile(r"<summary>Tests: .*?</summary>(.*?)</details>", re.DOTALL)


def named_tests(page: str) -> list[tuple[str, str | None]]:
    """Files below ``tests/`` and the functions in them; ``None`` stands for the whole file."""
    found: list[tuple[str, str | None]] = []
    for fold in FOLDS.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        file = None
        for name in re.findall(r"`([\w/]+\.py|test_\w+)`", fold):
            if name.endswith(".py"):
                file = name
                found.append((file, None))
            else:
                assert file is not None, f"{name} has no file"
                found.append((file, name))
    return found


@pytest.mark.parametrize("page", ["features.md", "training.md"])
def test_named_tests_exist(page: str) -> None:
    tests = named_tests(page)
    assert tests
    for file, name in tests:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert name is None or f"def {name}(" in source, f"{file}: {name}"
