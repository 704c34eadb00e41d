"""Who may import whom, read from the source: section 2 of the design."""

import ast
import functools
import importlib
import sys
from pathlib import Path

import pytest

import lightning_robust

ROOT = Path(lightning_robust.__file__).parent
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
PACKAGE = "lightning_robust"

MAY_IMPORT = {
    "attacks": set(),
    "bounds": {"attacks"},
    "datamodules": set(),
    "plots": set(),
    "objectives": {"attacks"},
    "metrics": set(),
    "interop": {"attacks"},
    "manifolds": set(),
    "models": set(),
    "evaluation": {"attacks", "interop", "metrics", "plots"},  # a plan is an attack of another package
    "callbacks": {"attacks", "evaluation", "objectives", "plots"},  # they draw the grids
    "recipes": {"attacks", "callbacks", "objectives"},
    "cells": set(),
    "_command": {"cells"},
    "_fitting": {"cells"},
    "learning_curves": {"_fitting", "attacks", "callbacks", "cells", "datamodules", "metrics", "plots"},
    "demo": {
        "__init__",
        "_command",
        "_fitting",
        "attacks",
        "cells",
        "datamodules",
        "learning_curves",
        "manifolds",
        "models",
        "plots",
    },
    "_external": {"attacks", "callbacks", "manifolds", "objectives", "recipes"},
    "cli": {
        "_command",
        "attacks",
        "callbacks",
        "datamodules",
        "demo",
        "evaluation",
        "interop",
        "manifolds",
        "models",
        "objectives",
        "recipes",
    },
    "__init__": {
        "attacks",
        "callbacks",
        "datamodules",
        "evaluation",
        "interop",
        "manifolds",
        "models",
        "objectives",
    },
}
"""For each part, the parts that it may import besides itself. Other private modules of the root are neutral ground."""

TORCH_ONLY = {"attacks", "objectives"}


def part_of(source: str) -> str:
    return source.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST, source: str) -> list[tuple[str, tuple[str, ...]]]:
    """All imports of a file, anywhere in it: (module, names)."""
    statements: list[tuple[str, tuple[str, ...]]] = []
    package = [PACKAGE, *source.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            statements += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            statements.append((module, tuple(alias.name for alias in node.names)))
    return statements


@functools.cache
def imports_of(source: str) -> list[tuple[str, tuple[str, ...]]]:
    return imports(ast.parse((ROOT / source).read_text("utf-8")), source)


def parts_imported(source: str, text: str | None = None) -> set[str]:
    """The parts of our package that a file imports.

    `from lightning_robust import x` counts as x where x is a part, as `__init__` where it is a public name of the
    package, and not at all where it is the version.
    """
    imported = set()
    for module, names in imports(ast.parse(text), source) if text else imports_of(source):
        head, *rest = module.split(".")
        if head != PACKAGE:
            continue
        if rest:
            imported.add(rest[0])
        else:
            parts = {name for name in names if (ROOT / name).exists() or (ROOT / f"{name}.py").exists()}
            imported |= parts if parts and set(names) <= parts | {"__version__"} else parts | {"__init__"}
            imported -= {"__init__"} if set(names) == {"__version__"} else set()
    return imported


def outside(source: str) -> set[str]:
    return {module.split(".")[0] for module, _ in imports_of(source)}


def test_the_reading_of_imports():
    text = (
        "import lightning_robust.plots.x\nfrom lightning_robust import cli, PGD\n"
        "def f():\n    from .metrics import y\n    from lightning_robust.callbacks._step import z\n"
    )
    assert parts_imported("x.py", text) == {"plots", "cli", "__init__", "metrics", "callbacks"}
    assert parts_imported("attacks/x.py", "from .balls import Linf\nfrom ..metrics import y") == {"attacks", "metrics"}


def test_imports_go_down_only():
    for source in SOURCES:
        part, imported = part_of(source), parts_imported(source)
        if part.startswith("_") and part not in MAY_IMPORT:
            allowed = set()  # a private module of the root knows none of the parts
        else:
            assert part in MAY_IMPORT, f"{part} is new: say in MAY_IMPORT what it may import"
            allowed = MAY_IMPORT[part] | {part}
        neutral = {name for name in imported if name.startswith("_") and name not in MAY_IMPORT}
        assert imported - neutral <= allowed, f"{source} imports {sorted(imported - neutral - allowed)}"


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_what_is_allowed_is_done(part):
    """The table says what is, so it is no wish: an edge that nobody uses is taken out."""
    unused = MAY_IMPORT[part].difference(*(parts_imported(source) for source in SOURCES if part_of(source) == part))
    assert not unused, f"{part} imports none of {sorted(unused)}: take it out of MAY_IMPORT"


def test_no_module_is_long():
    for source in SOURCES:
        lines = len((ROOT / source).read_text("utf-8").splitlines())
        assert lines <= 350, f"{source} has {lines} lines, more than 350: what is new goes into a file beside it"


def test_only_one_file_imports_lightning():
    lightning = {"pytorch_lightning", "lightning", "lightning_fabric"}
    assert [source for source in SOURCES if outside(source) & lightning] == ["_lightning.py"]


def test_attacks_and_objectives_need_torch_only():
    for source in [s for s in SOURCES if part_of(s) in TORCH_ONLY]:
        assert outside(source) <= {"torch", "numpy", PACKAGE, *sys.stdlib_module_names}, source
        assert "_lightning" not in parts_imported(source), source


def test_nothing_imports_tests_or_examples():
    assert not [source for source in SOURCES if outside(source) & {"tests", "examples", "benchmarks", "tools"}]


@pytest.mark.parametrize("part", sorted({part_of(s) for s in SOURCES if "/" in s}))
def test_packages_name_what_is_public(part):
    module = importlib.import_module(f"{PACKAGE}.{part}")
    assert module.__doc__
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(name in vars(module) for name in module.__all__)
