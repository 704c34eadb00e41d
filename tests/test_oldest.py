"""`make test-oldest` runs the suite with the oldest releases that `pyproject.toml` allows: the two say the same."""

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import lightning_robust

ROOT = Path(__file__).parents[1]

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TOOLS = {"test": ("pytest", "pytest-xdist", "build", "hatchling"), "thirdparty": None, "docs": None, "dev": None}
"""What no user needs: by extra, the packages; None: all of them."""


def requirements():
    """What users get: the dependencies and all extras but those for developers."""
    oldest = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra, texts in PROJECT["optional-dependencies"].items():
        tools = TOOLS.get(extra, ())
        oldest += [] if tools is None else [r for r in map(Requirement, texts) if r.name not in tools]
    return [requirement for requirement in oldest if requirement.name != PROJECT["name"]]


def pins():
    lines = (ROOT / "tools" / "oldest.txt").read_text("utf-8").splitlines()
    return {r.name: r for r in map(Requirement, (line for line in lines if not line.startswith("#")))}


def test_each_package_is_pinned_at_its_lower_bound():
    lowest = {}
    for requirement in requirements():
        (bound,) = (part.version for part in requirement.specifier if part.operator == ">=")
        lowest[requirement.name] = Version(bound)
    pinned = {}
    for name, pin in pins().items():
        (part,) = pin.specifier
        assert part.operator == "=="
        pinned[name] = Version(part.version)
    assert pinned == lowest


def test_an_error_names_an_extra_that_there_is():
    texts = [p.read_text("utf-8") for part in ("lightning_robust", "studies") for p in (ROOT / part).rglob("*.py")]
    named = {extra for text in texts for extra in re.findall(r'optional\(\s*"[\w.]+",\s*"([\w-]+)"', text)}
    assert "report" in named
    assert named <= set(PROJECT["optional-dependencies"])


def test_both_copies_of_lightning_have_the_same_bounds():
    bounds = {requirement.name: requirement.specifier for requirement in requirements()}
    assert bounds["lightning"] == bounds["pytorch-lightning"]


def test_the_sources_need_no_newer_python_than_is_declared():
    declared = PROJECT["requires-python"].removeprefix(">=")
    version = tuple(map(int, declared.split(".")))
    for folder in (Path(lightning_robust.__file__).parent, *(ROOT / name for name in ("tests", "examples", "tools"))):
        for path in folder.rglob("*.py"):
            ast.parse(path.read_text("utf-8"), str(path), feature_version=version)
