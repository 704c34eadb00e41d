"""`import lightning_robust` is cheap: measured in fresh processes, against the packages that it stands on."""

import ast
import subprocess
import sys
from pathlib import Path

import lightning_robust

BASE = "pytorch_lightning, torchmetrics, torchvision"
HEAVY = ("matplotlib", "torchattacks", "foolbox", "scipy", "pandas", "sklearn", "jinja2", "joblib")

PROGRAM = f"""
import sys, time
import {BASE}
before, start = set(sys.modules), time.perf_counter()
import lightning_robust
seconds = time.perf_counter() - start
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(seconds, *sorted(loaded & set({HEAVY!r})))
"""


def fresh() -> tuple[float, list[str]]:
    """Seconds that the import adds, and the heavy packages that it has loaded."""
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    seconds, *heavy = result.stdout.split()
    return float(seconds), heavy


def test_the_import_is_cheap_and_loads_nothing_heavy():
    best = float("inf")
    for _ in range(4):
        seconds, heavy = fresh()
        assert not heavy, f"`import lightning_robust` loads {heavy}"
        best = min(best, seconds)
        if best <= 0.15:
            return
    assert best <= 0.15, f"`import lightning_robust` takes {best:.3f} s"


def test_training_and_evaluation_need_torch_lightning_and_torchmetrics_alone():
    """What else is imported at the top of a module is in the parts that are about it."""
    root = Path(lightning_robust.__file__).parent
    for path in root.rglob("*.py"):
        part = path.relative_to(root).parts[0]
        if part not in ("datamodules", "cells", "demo", "_evaluate_options.py"):
            tops = {name.partition(".")[0] for node in ast.parse(path.read_text("utf-8")).body for name in names(node)}
            assert not tops & {*HEAVY, "torchvision", "rich", "jsonargparse"}, path


def names(node):
    """What a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
